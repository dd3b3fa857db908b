"""Whatever open_clip builds, with the tokenizer and the image transform that open_clip gives it.

A model is planned first (`Plan`: checked configuration, preprocessing, where its files are), whether it is one of
open_clip's own, a folder or a repository on the hub; then it is built from the plan in one way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipbias.errors import UserError
from clipbias.models.checkpoint import read_tensors, state_fingerprint
from clipbias.models.clip_encoder import ClipEncoder
from clipbias.models.hub import hub_file, quiet, split_revision
from clipbias.models.layouts import SCALARS
from clipbias.models.libraries.folder import checked
from clipbias.models.libraries.openclip_config import CONFIG, Folder, Model, Preprocess, arguments, read_folder_config
from clipbias.models.libraries.openclip_names import no_tag, require_address
from clipbias.models.libraries.openclip_text import open_clip_tokens, text_encoder
from clipbias.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

log = logging.getLogger(__name__)
PREFIX, LOCAL, HUB = "openclip:", "local-dir:", "hf-hub:"
_WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
ACTIVATIONS = {True: "quickgelu", False: "gelu"}


@dataclass(frozen=True)
class Plan:
    """What a model is made of.

    Attributes:
        model: open_clip's configuration, checked.
        preprocess: of images; the size is the tower's own.
        weights: finds the weights' file, or raises `UserError`.
        tokenizer: the folder that holds a Hugging Face tokenizer, where the configuration names one.
        quick_gelu: what is known of the weights' activation; None: nothing beside the configuration.
    """

    model: Model
    preprocess: Preprocess
    weights: Callable[[], Path]
    tokenizer: Path | None = None
    quick_gelu: bool | None = None


def plan_model(source: str) -> Plan:
    """The plan of ``NAME/TAG``, ``NAME``, ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME[@REVISION]``.

    Raises:
        UserError: no such model or weights, or a configuration that is refused.
    """
    if source.startswith(LOCAL):
        folder = Path(source.removeprefix(LOCAL))
        if not (folder / CONFIG).is_file():
            raise UserError(f"{folder}: no {CONFIG} there; is it an open_clip model folder?")
        found = read_folder_config(folder)
        return Plan(found.model_cfg, found.preprocess_cfg, partial(_in_folder, folder), folder)
    if source.startswith(HUB):
        repository, revision = split_revision(source.removeprefix(HUB))
        found = read_folder_config(hub_file(repository, CONFIG, revision).parent)
        return Plan(found.model_cfg, found.preprocess_cfg, partial(_on_hub, repository, revision))
    return _known_model(source)


def _known_model(source: str) -> Plan:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    model, _, tag = source.rpartition("/") if source not in open_clip.list_models() else (source, "", "")
    if model not in open_clip.list_models():
        raise UserError(
            f"open_clip has no model {model or source!r}; write openclip:NAME/TAG (open_clip.list_pretrained()), "
            f"or openclip:{HUB}OWNER/NAME for one on the Hugging Face hub"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag and tag not in tags:
        raise UserError(f"open_clip has no weights {tag!r} for {model}; it has {', '.join(tags) or 'none'}")
    known = get_pretrained_cfg(model, tag) if tag else {}
    given = {k: known[k] for k in Preprocess.model_fields if k != "size" and known.get(k) is not None}
    content = {"model_cfg": open_clip.get_model_config(model), "preprocess_cfg": given}
    found = checked(Folder, content, f"open_clip's {model}")
    return Plan(
        found.model_cfg,
        found.preprocess_cfg,
        partial(_of_tag, model, tag),
        quick_gelu=bool(known.get("quick_gelu")) if tag else None,
    )


def _of_tag(model: str, tag: str) -> Path:
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    if not tag:
        raise no_tag(model)
    known = get_pretrained_cfg(model, tag)
    repository, _, file = str(known.get("hf_hub", "")).rpartition("/")
    if repository:
        return hub_file(repository, file) if file else _on_hub(repository, None)
    require_address(str(known.get("url", "")))
    try:
        with quiet():
            return Path(download_pretrained(known))
    except Exception as error:
        # Whatever the network answers with, the user needs one line.
        reason = " ".join(str(getattr(error, "reason", error)).split())[:160]
        raise UserError(f"weights {tag} of {model} are not available: {reason}") from error


def _on_hub(repository: str, revision: str | None) -> Path:
    try:
        return hub_file(repository, _WEIGHTS[0], revision)
    except UserError:
        return hub_file(repository, _WEIGHTS[2], revision)


def _in_folder(folder: Path) -> Path:
    for file in _WEIGHTS:
        if (folder / file).is_file():
            return folder / file
    others = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".pth", ".pt"))
    if len(others) == 1:
        return others[0]
    found = f"{', '.join(p.name for p in others[:4])}, of which none is called so" if others else "none"
    raise UserError(f"{folder}: an open_clip model folder without weights (looked for {', '.join(_WEIGHTS)}; {found})")


def load_openclip(
    name: str,
    source: str,
    device: torch.device,
    precision: str,
    weights: str | Path | None = None,
    revision: str | None = None,
    activation: str = "weights",
) -> ClipEncoder:
    """The encoder of an open_clip model.

    Args:
        name: what the user called it.
        source: as `plan_model` takes it.
        device, precision: where and how it computes.
        weights: a file to read instead of the model's own; preprocessing stays that of ``source``.
        revision: of an ``hf-hub:`` repository.
        activation: "weights" (as they were trained, where that is known), "config" (as open_clip builds the model),
            "quickgelu" or "gelu".

    Raises:
        UserError: no such model; weights or tokenizer that are not available; weights of another model.
    """
    if revision:
        if not source.startswith(HUB):
            raise UserError(f"{name}: only openclip:{HUB}OWNER/NAME takes a revision")
        source = f"{source.partition('@')[0]}@{revision}"
    plan = plan_model(source)
    quick_gelu = _quick_gelu(name, plan, activation)
    path = Path(weights) if weights is not None else _found(name, plan)
    try:
        with quiet():
            try:
                module = _build(plan.model, quick_gelu)
            except (ValueError, TypeError, AssertionError, ArithmeticError, RuntimeError, IndexError) as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{name}: its configuration builds no model ({reason})") from error
            state = _fitted(path, module, name)
            tokens = open_clip_tokens(plan.model.text_cfg, plan.tokenizer)
    except ImportError as error:
        raise UserError(f"{name} needs a package that is not here ({error}); pip install 'clipbias[siglip]'") from error
    module.load_state_dict(state)
    fingerprint = state_fingerprint(module.float().state_dict(), {})  # before it moves: a GPU shows no bytes
    preprocess = _preprocessing(plan.preprocess, module.visual.image_size)
    return ClipEncoder(
        name=name,
        family="openclip",
        module=module.to(device),
        transform=preprocess,
        tokens=tokens,
        fingerprint=fingerprint,
        options={"activation": ACTIVATIONS[quick_gelu]} | ({"revision": revision} if revision else {}),
        device=device,
        precision=precision,
        config={
            "model_cfg": arguments(plan.model) | {"quick_gelu": quick_gelu, "custom_text": True},
            "preprocess_cfg": plan.preprocess.model_dump() | {"size": list(preprocess.size)},
        },
    )


def _found(name: str, plan: Plan) -> Path:
    try:
        return plan.weights()
    except UserError as error:
        raise UserError(f"{name}: {error}; check the network, or pass --weights FILE") from error


def _quick_gelu(name: str, plan: Plan, activation: str) -> bool:
    """Whether towers run QuickGELU; a difference between the configuration and the weights is warned of."""
    if activation in ("quickgelu", "gelu"):
        return activation == "quickgelu"
    if activation not in ("weights", "config"):
        raise UserError(f"openclip option activation={activation!r}: choose weights, config, quickgelu or gelu")
    built = plan.model.quick_gelu
    if plan.quick_gelu is None or plan.quick_gelu == built:
        return built
    trained = ACTIVATIONS[plan.quick_gelu]
    used = plan.quick_gelu if activation == "weights" else built
    log.warning(
        "%s: its weights were trained with %s, open_clip's configuration says %s; %s is used (option activation)",
        name,
        trained,
        ACTIVATIONS[built],
        ACTIVATIONS[used],
    )
    return used


def _build(model: Model, quick_gelu: bool) -> CustomTextCLIP:
    """The modules of a configuration, with fresh weights, which are replaced next."""
    from open_clip import CoCa, CustomTextCLIP

    given = arguments(model) | {"quick_gelu": quick_gelu}
    given["vision_cfg"]["timm_model_pretrained"] = False
    given.pop("multimodal_cfg", None) if model.multimodal_cfg is None else None
    if model.text_cfg.hf_model_name:
        # A small tower takes the place until the real one is made: open_clip would read its settings itself.
        given["text_cfg"] = {"width": 64, "heads": 1, "layers": 1, "vocab_size": 8, "context_length": 4}
    kind = CustomTextCLIP if model.multimodal_cfg is None else CoCa
    module = kind(**given)
    if model.text_cfg.hf_model_name:
        module.text = text_encoder(model.text_cfg, model.embed_dim)
    return module


def _fitted(path: Path, module: CustomTextCLIP, name: str) -> dict[str, Tensor]:
    """The tensors of a file as ``module`` takes them; other layouts and sizes are converted as open_clip does.

    Raises:
        UserError: they are another model's.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    state: dict[str, Any] = convert_state_dict(module, read_tensors(path))
    if "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    for scalar in SCALARS:
        state.pop(scalar, None)
    own = module.state_dict()
    for scale in ("logit_scale", "logit_bias"):
        if scale in state and scale in own and state[scale].numel() == own[scale].numel():
            state[scale] = state[scale].reshape(own[scale].shape)
    if "logit_bias" in own and "logit_bias" not in state and "logit_scale" in state:
        state["logit_bias"] = torch.zeros_like(state["logit_scale"])
    if (ids := "text.transformer.embeddings.position_ids") not in own:
        state.pop(ids, None)
    try:
        resize_pos_embed(state, module)
        resize_text_pos_embed(state, module)
    except (RuntimeError, ValueError, KeyError, AssertionError, IndexError) as error:
        raise UserError(f"{path}: not the weights of {name}: {' '.join(str(error).split())[:200]}") from error
    missing, unknown = sorted(own.keys() - state), sorted(state.keys() - own.keys())
    other = [k for k in own.keys() & state if own[k].shape != state[k].shape]
    if missing or unknown or other:
        differences = (("it lacks", missing), ("it has in addition", unknown), ("other shapes of", sorted(other)))
        words = (f"{kind} {', '.join(keys[:3])}" for kind, keys in differences if keys)
        raise UserError(f"{path}: not the weights of {name}: {'; '.join(words)}")
    return state


def _preprocessing(given: Preprocess, size: int | tuple[int, int]) -> Preprocessing:
    """As open_clip: the tower's own size, the rest from the configuration."""
    return Preprocessing(
        size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        resize=given.resize_mode,
        # open_clip's training may draw the interpolation; evaluation is bicubic then.
        interpolation="bilinear" if given.interpolation == "bilinear" else "bicubic",
        mean=given.mean,
        std=given.std,
        fill=given.fill_color,
    )
