"""Two-tower models of transformers, through its own classes: ``hf:OWNER/NAME`` and local folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from clipbias.errors import UserError
from clipbias.models.compute import Pixels, TorchEncoder
from clipbias.models.encoder import PATHS
from clipbias.models.hub import commit_of, hub_folder, local_folder, quiet, split_revision
from clipbias.models.libraries.folder import VOCABULARIES
from clipbias.models.libraries.tokens import HubTokens
from clipbias.models.libraries.transformers_files import Parts, read_folder, without_bars
from clipbias.models.tower import TextTower

if TYPE_CHECKING:
    from clipbias.models.clip_encoder import ClipEncoder

_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json",
            "special_tokens_map.json")  # fmt: skip
_SAFE = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
FILES = (*_CONFIGS, *VOCABULARIES, *_SAFE, "pytorch_model.bin")
"""What of a repository is read."""
# Towers that are causal, or were trained without a mask on padding (SigLIP); others mask pads.
_UNMASKED = frozenset({"aimv2", "clip", "groupvit", "metaclip_2", "siglip", "siglip2"})
# Trained on lower-cased texts; SigLIP's own tokenizer does it and more.
_LOWER = frozenset({"siglip2"})
_SAMPLE = ("a", "two dogs under a tree beside an old red car")


def load_transformers(
    name: str,
    source: str,
    device: torch.device,
    precision: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    context: int | str | None = None,
    lower: bool | str | None = None,
) -> TransformersEncoder:
    """The encoder of a model of transformers that has ``get_text_features`` and ``get_image_features``.

    Args:
        name: what the user called it.
        source: ``OWNER/NAME[@REVISION]`` on the hub, or a folder.
        device, precision: where and how it computes.
        revision: of the hub's repository.
        trust_remote_code: run the Python code of the repository; only the user can say so.
        context: positions of a text; default: what the model and its tokenizer allow.
        lower: lower-case texts first; default: where the model was trained so (SigLIP 2).

    Raises:
        UserError: it is not available, is refused, or has no such functions.
    """
    folder, commit = _folder(source, revision, trust_remote_code)
    return read_model(name, folder, device, precision, commit, trust_remote_code, context, lower)


def read_model(
    name: str,
    folder: Path,
    device: torch.device,
    precision: str,
    commit: str = "",
    trust_remote_code: bool = False,
    context: int | str | None = None,
    lower: bool | str | None = None,
    prompt: str = "",
) -> TransformersEncoder:
    """The encoder of a folder; see `load_transformers`.

    Args:
        name, device, precision, trust_remote_code, context, lower: as there.
        folder: holds the model's files.
        commit: that they are of.
        prompt: text that is put before every text.

    Raises:
        UserError: as there.
    """
    try:
        with quiet(), without_bars():
            parts = read_folder(folder, trust_remote_code, context)
    except ImportError as error:
        raise UserError(f"{name} needs a package that is not here ({error}); pip install 'clipbias[hf]'") from error
    lowered = parts.kind in _LOWER if lower is None else str(lower).lower() in ("true", "1", "yes")
    length = _context(name, parts, parts.options.get("context", context))
    options = {"context": str(length), "lower": str(lowered).lower(), **parts.options}
    options |= {k: v for k, v in {"prompt": prompt, "revision": commit}.items() if v}
    if trust_remote_code:
        options["remote_code"] = "true"
    try:
        tokens = HubTokens(parts.tokenizer, length, *_cleaning(lowered, prompt))
        encoder = TransformersEncoder(name, parts, tokens, options, device, precision)
        encoder.encode_images([Image.new("RGB", (40, 30))])  # texts are tried as it is made
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: its model, tokenizer and image processor do not fit together ({type(error).__name__}: {reason})"
        ) from error
    return encoder


def _cleaning(lower: bool, prompt: str) -> tuple[Callable[[str], str] | None, str]:
    """What a text goes through before the tokenizer, and that in words."""
    if prompt:
        words = f"{prompt!r} before the text" + (", lower case" if lower else "")
        return (lambda text: (prompt + text).lower() if lower else prompt + text), words
    return (str.lower, "lower case") if lower else (None, "none of its own")


def _folder(source: str, revision: str | None, code: bool) -> tuple[Path, str]:
    """Where the files lie, and the commit that they are of."""
    if (here := local_folder(source, revision)) is not None:
        return here, ""
    repository, pinned = split_revision(source)
    wanted = [*_CONFIGS, *VOCABULARIES, *(("*.py",) if code else ())]
    folder = hub_folder(repository, [*wanted, *_SAFE], revision or pinned)
    if not list(folder.glob("model*.safetensors")):
        folder = hub_folder(repository, [*wanted, "pytorch_model.bin"], revision or pinned)
    return folder, commit_of(folder)


def _context(name: str, parts: Parts, asked: int | str | None) -> int:
    """Positions of a text: what position table and tokenizer allow, or less where the user asks for it.

    Raises:
        UserError: more than the table has.
    """
    text = getattr(parts.module.config, "text_config", parts.module.config)
    try:
        longest = int(parts.tokenizer.model_max_length)
        table = int(getattr(text, "max_position_embeddings", 0) or longest)
        if "roberta" in str(getattr(text, "model_type", "")) or parts.kind == "altclip":
            # RoBERTa counts positions from behind its pad id.
            table -= int(text.pad_token_id) + 1
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: the length of its texts is no number ({str(error)[:100]})") from error
    allowed = min(table, longest)
    if asked is None:
        return allowed
    if not str(asked).isdigit() or not 3 <= int(asked) <= table:
        raise UserError(f"{name}: option context={asked!r}: choose 3 to {table}")
    return int(asked)


class TransformersEncoder(TorchEncoder):
    """An `Encoder` around a model of transformers.

    Attributes:
        module, image_processor: transformers' objects.
    """

    tokens: HubTokens

    def __init__(
        self,
        name: str,
        parts: Parts,
        tokens: HubTokens,
        options: Mapping[str, str],
        device: torch.device,
        precision: str,
    ) -> None:
        """Take a folder's parts; whether rows may be trimmed is found by trying."""
        self.name, self.family, self.options = name, parts.family, options
        self.module = parts.module.eval().requires_grad_(False).to(device)
        self.device, self.precision, self.fingerprint = device, precision, parts.fingerprint
        self.tokens, self.context_length = tokens, tokens.context_length
        self.image_processor, self._preprocessing = parts.image_processor, parts.preprocessing
        self._image_options = parts.image_options
        self._masked = parts.kind not in _UNMASKED
        self.trims = False
        ids = tokens(_SAMPLE)
        whole = self._sample(ids)
        self.embed_dim = int(whole.shape[1])
        width = int(self.last_needed(ids).max()) + 1
        if width < ids.shape[1]:
            self.trims = torch.allclose(whole, self._sample(ids[:, :width]), atol=1e-3 / self.embed_dim)

    def _sample(self, ids: Tensor) -> Tensor:
        return self.run(lambda part: self.text_features(part["ids"]), {"ids": ids})

    def _parts(self) -> dict[str, Any]:
        return {"images": dict(self._preprocessing) | {"paths": PATHS}, "tokens": self.tokens.record()}

    def text_outputs(self, ids: Tensor, **more: Any) -> Any:
        """What the model answers for rows of ids on the device."""
        ids = self.moved(ids)
        mask = (ids != self.tokens.pad).long() if self._masked else None
        return self.module.get_text_features(input_ids=ids, attention_mask=mask, **more)

    def text_features(self, ids: Tensor) -> Tensor:
        """See `TorchEncoder.text_features`."""
        return pooled(self.text_outputs(ids))

    def image_features(self, pixels: Pixels) -> Tensor:
        """See `TorchEncoder.image_features`."""
        return pooled(self.module.get_image_features(**{name: self.moved(part) for name, part in pixels.items()}))

    def pixels(self, image: Image.Image) -> Pixels:
        """See `TorchEncoder.pixels`."""
        given = self._image_options(image)
        made = self.image_processor(images=[image.convert("RGB")], return_tensors="pt", **given)
        return {name: value[0] for name, value in made.items() if isinstance(value, Tensor)}

    def last_needed(self, ids: Tensor) -> Tensor:
        """See `TorchEncoder.last_needed`."""
        return self.tokens.last_needed(ids)

    def text_tower(self) -> TextTower:
        """See `Encoder.text_tower`."""
        from clipbias.models.libraries.transformers_tower import TransformersTower

        return TransformersTower(self)

    def as_clip(self) -> ClipEncoder:
        """See `Encoder.as_clip`; CLIP's and SigLIP's."""
        from clipbias.models.libraries.transformers_clip import as_clip

        return as_clip(self)

    def attending(self) -> Callable[[], None]:
        """Let the model compute attention in the way that shows it; the answer puts it back."""
        before = self.module.config._attn_implementation
        self.module.set_attn_implementation("eager")
        return partial(self.module.set_attn_implementation, before)

    def embeddings(self) -> nn.Module | None:
        """The table of token embeddings of the text tower."""
        text = getattr(self.module, "text_model", self.module)
        try:
            return text.get_input_embeddings()
        except (AttributeError, NotImplementedError):
            return None


def pooled(output: Any) -> Tensor:
    """The features [B, D] in what a model answers: newer versions wrap them."""
    return output if isinstance(output, Tensor) else output.pooler_output
