"""Whatever open_clip builds, with the tokenizer and the image transform that open_clip gives it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clipbias.errors import UserError
from clipbias.models.checkpoint import read_tensors, state_fingerprint
from clipbias.models.encoder import ClipEncoder
from clipbias.models.tokenizer import ClipTokens, OpenClipTokens, Tokens

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

PREFIX = "openclip:"
LOCAL = "local-dir:"
CONFIG = "open_clip_config.json"


@contextmanager
def quiet() -> Iterator[None]:
    """Without log lines below critical: the hub's client tells of every retry, the user needs the outcome."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def split_name(name: str) -> tuple[str, str]:
    """``NAME/TAG`` or ``local-dir:FOLDER`` to open_clip's model name and pretrained tag ("" where there is none).

    Raises:
        UserError: open_clip knows no such model, or has no such weights for it.
    """
    import open_clip

    if name.startswith(LOCAL):
        if not (Path(name.removeprefix(LOCAL)) / CONFIG).is_file():
            raise UserError(
                f"{name.removeprefix(LOCAL)}: no open_clip_config.json there; is it an open_clip model folder?"
            )
        return name, ""
    model, _, tag = name.rpartition("/")
    if model not in open_clip.list_models():
        raise UserError(
            f"open_clip has no model {model or name!r}; write openclip:NAME/TAG (open_clip.list_pretrained())"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UserError(f"open_clip has no weights {tag!r} for {model}; it has {', '.join(tags) or 'none'}")
    return model, tag


def load_openclip(
    name: str, source: str, weights: str | Path | None, device: torch.device, precision: str
) -> ClipEncoder:
    """The encoder of an open_clip model.

    Args:
        name: what the user called it.
        source: ``NAME/TAG`` or ``local-dir:FOLDER``.
        weights: a file to read instead of the tag's.
        device, precision: where and how it computes.

    Raises:
        UserError: no such model; weights or tokenizer that cannot be had; weights of another model.
    """
    import open_clip

    model, tag = split_name(source)
    try:
        # Custom text towers are the one layout that the encoder knows.
        with quiet():
            module, _, transform = open_clip.create_model_and_transforms(
                model, pretrained=None if weights else tag or None, force_custom_text=True, device="cpu"
            )
            tokenizer = open_clip.get_tokenizer(model)
    except ImportError as error:
        raise UserError(f"{name} needs a package that is not here ({error}); pip install 'clipbias[siglip]'") from error
    except Exception as error:
        # open_clip and the hub client raise many types for "not to be had"; the user needs one line of any of them.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: open_clip could not get {source} ({type(error).__name__}: {reason}); "
            "check the network, or pass --weights FILE"
        ) from error
    if weights is not None:
        _load_file(module, Path(weights), model)
    length = int(getattr(module, "context_length", None) or module.text.context_length)
    tokens: Tokens
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        tokens = ClipTokens(length)
    else:
        tokens = OpenClipTokens(tokenizer, length)
    size = module.visual.image_size
    return ClipEncoder(
        name=name,
        family="openclip",
        module=module.float().to(device),
        transform=transform,
        tokens=tokens,
        image_size=size[0] if isinstance(size, tuple) else size,
        fingerprint=state_fingerprint(module.state_dict(), {}),
        options={},
        device=device,
        precision=precision,
        config=_config(model, module),
    )


def _config(model: str, module: CustomTextCLIP) -> dict[str, Any]:
    """What an ``open_clip_config.json`` holds, for a model that open_clip has built."""
    import open_clip
    from open_clip.model import get_model_preprocess_cfg

    if model.startswith(LOCAL):
        built = json.loads((Path(model.removeprefix(LOCAL)) / CONFIG).read_text("utf-8"))["model_cfg"]
    else:
        built = open_clip.get_model_config(model)
    return {"model_cfg": {**built, "custom_text": True}, "preprocess_cfg": dict(get_model_preprocess_cfg(module))}


def _load_file(module: CustomTextCLIP, path: Path, model: str) -> None:
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_to_custom_text_state_dict(read_tensors(path))
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path}: not the weights of {model}: {' '.join(str(error).split())[:300]}") from error
