"""Images to pixels, by a record that says how, so that a result can name it and two models can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from clipbias.data.pack import RULE, rule_text
from clipbias.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """An image transform: PIL image -> float32 pixels [3, H, W].

    Attributes:
        size: H and W in pixels.
        resize: "shortest" (shorter side, then centre crop), "longest" (longer side, then padded) or "squash".
        interpolation: "bicubic" or "bilinear".
        mean, std: of the colour channels, on a scale of 0 to 1.
        fill: of the padding, 0 to 255.
        rgb: when an image of another mode becomes RGB: "last" (after resizing, as OpenAI's and open_clip's code) or
            "first" (before).
    """

    size: tuple[int, int]
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: Colour = CLIP_MEAN
    std: Colour = CLIP_STD
    fill: int = 0
    rgb: Literal["first", "last"] = "last"

    def __call__(self, image: Image.Image) -> Tensor:
        """Pixels [3, H, W] of one image.

        Raises:
            UserError: an image from a pack that was resized by another rule.
        """
        # Contiguous bytes first, by NumPy, then in place: the same values at a third of the time.
        pixels = torch.from_numpy(np.ascontiguousarray(self.resized(image).transpose(2, 0, 1))).float()
        mean, std = self._mean_and_std
        return pixels.div_(255).sub_(mean).div_(std)

    def resized(self, image: Image.Image) -> np.ndarray:
        """Everything but the normalisation: uint8 [H, W, 3], what `clipbias.data.pack` keeps.

        Raises:
            UserError: as for a call.
        """
        packed = image.info.get(RULE)
        if packed is not None:
            if packed != self._rule:
                raise UserError(
                    f"this pack was resized by {packed}, the model wants {self._rule}; "
                    "make a pack for it with `clipbias data pack`"
                )
            return np.array(image)
        if self.rgb == "first":
            image = image.convert("RGB")
        if image.size != self.size[::-1]:
            image = self._resized(image)
        # Images with a palette or with transparency differ between the two orders.
        return np.array(image.convert("RGB"))

    def geometry(self) -> dict[str, Any]:
        """The part of `record` that decides the resized pixels."""
        return {k: v for k, v in self.record().items() if k not in ("mean", "std")}

    @cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return mean, std

    @cached_property
    def _rule(self) -> str:
        return rule_text(self.geometry())

    @cached_property
    def _resized(self) -> Callable[[Image.Image], Image.Image]:
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from torchvision.transforms import Compose

        config = PreprocessCfg(
            size=self.size, interpolation=self.interpolation, resize_mode=self.resize, fill_color=self.fill
        )
        # open_clip's own steps, up to its conversion to RGB and to a tensor.
        return Compose(image_transform_v2(config, is_train=False).transforms[:-3])

    def record(self) -> dict[str, Any]:
        """The attributes as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def clip_preprocessing(side: int, square: bool = False) -> Preprocessing:
    """OpenAI CLIP's; ``square``: both sides resized without cropping, RGB first (FG-CLIP)."""
    return Preprocessing((side, side), "squash", rgb="first") if square else Preprocessing((side, side))
