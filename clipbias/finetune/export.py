"""Writing a trained model in the layouts that other people's loaders take."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clipbias.errors import UserError
from clipbias.files import folder_lock, write_text
from clipbias.finetune.compact import CompactTokens
from clipbias.finetune.folder import last_metrics
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.models.build import HEAD_WIDTH, VOCABULARY, ClipShape
from clipbias.models.checkpoint import read_tensors, write_tensors
from clipbias.models.clip_encoder import ClipEncoder, reads_clip_tokens
from clipbias.models.encoder import Encoder
from clipbias.models.layouts import (
    TOKENS,
    State,
    compact_tokens,
    custom_to_openai,
    openai_scalars,
    shape_of,
    to_longclip_layout,
)
from clipbias.models.libraries.openclip_config import CONFIG
from clipbias.models.libraries.tokens import HubTokens
from clipbias.models.libraries.transformers_clip import HubClip, HubVisual, write_hub_folder
from clipbias.models.preprocessing import CLIP_MEAN, CLIP_STD
from clipbias.models.towers import has_quick_gelu
from clipbias.names import file_name, for_markdown, for_terminal
from clipbias.provenance import source_state, versions

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

LAYOUTS = ("longclip", "safetensors", "openclip", "transformers")
LONGCLIP_KEEP = 20
LONGEST = 200
"""Bytes of a run's name that its checkpoints' names take as it is; files may have names of 255."""


def export_state(model: TrainModel) -> State:
    """A model with QuickGELU as a state dict: Long-CLIP's layout with two position tables, else OpenAI's with one."""
    clip = model.clip
    if model.keep is None:
        state = clip.state_dict()
        return custom_to_openai(state) | openai_scalars(shape_of(state))
    if model.keep == LONGCLIP_KEEP:
        return to_longclip_layout(clip, clip.text.positional_embedding, model.positional_embedding_res)
    # Readers of this layout take the first 20 rows of the one table and the rest of the other, whatever was kept here.
    return to_longclip_layout(clip, model.positions(), model.positions())


def write_layout(encoder: Encoder, layout: str, out: Path) -> Path:
    """Write an encoder's weights in a layout that others read.

    Args:
        encoder: any model of open_clip's modules; for the first two layouts an OpenAI-style ViT CLIP.
        layout: "longclip": a ``.pt`` that Long-CLIP's loader takes; "safetensors": the same names without pickle;
            "openclip": a folder for ``open_clip.create_model_and_transforms("local-dir:FOLDER")``; "transformers": a
            folder for ``CLIPModel.from_pretrained`` or, of a SigLIP from transformers, ``SiglipModel.from_pretrained``.
        out: the file or folder.

    Returns:
        What `clipbias.load_model` takes.

    Raises:
        UserError: no such layout, or a model of another kind.
    """
    if layout not in LAYOUTS:
        raise UserError(f"no layout is called {layout!r}; choose {', '.join(LAYOUTS)}")
    encoder = encoder.as_clip()
    if layout == "transformers":
        return write_hub_folder(encoder.module, out, encoder)
    if isinstance(encoder.module.visual, HubVisual):
        raise UserError(f"{encoder.name} has transformers' image tower; export it as transformers")
    if layout == "openclip":
        with folder_lock(out):
            return write_openclip(encoder.module, out, encoder)
    if not reads_clip_tokens(encoder):
        raise UserError(f"{encoder.name} has no CLIP tokenizer, as readers of {layout} have; export it as openclip")
    if not has_quick_gelu(encoder.module.text):
        raise UserError(f"{encoder.name} has GELU and readers of {layout} build QuickGELU; export it as openclip")
    if (layout == "safetensors") != (out.suffix == ".safetensors"):
        raise UserError(
            f"{out}: a file in the layout {layout} must {'' if layout == 'safetensors' else 'not '}end in .safetensors"
        )
    custom = encoder.module.state_dict()
    shape_of(custom)  # refuses what is no ViT
    table = custom["text.positional_embedding"]
    state = to_longclip_layout(encoder.module, table, table)
    state = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    write_tensors(out, state, {"format": "pt", "made_by": "clipbias", "fingerprint": encoder.fingerprint})
    return out


def write_openclip(module: CustomTextCLIP, folder: Path, source: ClipEncoder | None = None) -> Path:
    """Write a model as a folder for ``open_clip.create_model_and_transforms("local-dir:FOLDER")``.

    Args:
        module: the model.
        folder: where to.
        source: the encoder it is or was made from; says what open_clip builds it from, and its tokenizer. Without it
            the model is an OpenAI-style ViT CLIP.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    write_tensors(folder / "open_clip_model.safetensors", state)
    if source is None or source.config is None:
        config = _openclip_config(shape_of(state), has_quick_gelu(module.text))
    else:
        config = copy.deepcopy(dict(source.config))
        length = getattr(module.text, "context_length", source.context_length)
        config["model_cfg"]["text_cfg"]["context_length"] = length
        if isinstance(source.tokens, HubTokens):
            source.tokens.save(folder)
    # Last, because a folder with it counts as a model.
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    return folder


def _openclip_config(shape: ClipShape, quick: bool) -> dict[str, Any]:
    """What open_clip reads beside the weights: sizes, activation, and the image transform."""
    vision = {
        "image_size": shape.image_size, "layers": shape.vision_layers, "width": shape.vision_width,
        "head_width": HEAD_WIDTH, "patch_size": shape.patch_size,
    }  # fmt: skip
    text = {
        "context_length": shape.context_length, "vocab_size": VOCABULARY, "width": shape.text_width,
        "heads": shape.text_width // HEAD_WIDTH, "layers": shape.text_layers,
    }  # fmt: skip
    model = {"embed_dim": shape.embed_dim, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text}
    pixels = {"mean": list(CLIP_MEAN), "std": list(CLIP_STD), "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model_cfg": {**model, "custom_text": True}, "preprocess_cfg": {"size": shape.image_size, **pixels}}


def export(model: TrainModel, path: Path, card: str) -> None:
    """Write ``path`` (a plain ``.pt`` state dict) and its model card beside it."""
    write_tensors(path, {key: value.detach().cpu().contiguous() for key, value in export_state(model).items()})
    write_text(path.with_suffix(".md"), card)


def write_small(model: Path, path: Path) -> None:
    """Write a run's ``model.pt`` as the packaged models are: fp16, and of the token table the rows in use alone.

    Readers of clipbias fill the other rows with zeros; other people's do not.

    Raises:
        UserError: not a checkpoint that is read, or without a CLIP's token table.
    """
    state = read_tensors(model)
    if TOKENS not in state:
        raise UserError(f"{model}: not a checkpoint in OpenAI's or Long-CLIP's layout")
    small = {key: value.half() if value.is_floating_point() else value for key, value in compact_tokens(state).items()}
    write_tensors(path, small)


def model_card(title: str, made_by: str, recipe: str, facts: dict[str, str]) -> str:
    """A model card: what it is, the command that makes it again, its recipe, and facts about the run."""
    lines = [f"# {for_markdown(title)}", "", "Made by", "", f"    {for_terminal(made_by)}", ""]
    lines += [f"- {name}: {for_markdown(value)}" for name, value in facts.items()]
    lines += ["", "Recipe", "", *(f"    {for_terminal(line)}" for line in recipe.splitlines()), ""]
    return "\n".join(lines)


def export_run(
    model: TrainModel,
    recipe: Recipe,
    folder: Path,
    command: str,
    data: str,
    base: ClipEncoder | None = None,
    fingerprint: str = "",
) -> Path:
    """Export a finished run with its card.

    What open_clip built, or has GELU, goes to the open_clip folder ``folder/model``, what came from transformers to a
    folder of its form, any other to ``folder/model.pt``.

    Args:
        model: the trained model.
        recipe: what it was trained with.
        folder: the run's folder.
        command: makes it again.
        data: name of the training data.
        base: the model it started from; None where it was made from scratch.
        fingerprint: of the training data.
    """
    commit, dirty = source_state()
    last = last_metrics(folder)
    facts = {
        "data": f"{data}{f', fingerprint {fingerprint}' if fingerprint else ''}",
        "base": f"{base.name}, fingerprint {base.fingerprint}" if base else "from scratch",
        "seed": str(recipe.seed),
        "training time": f"{last.get('seconds', 0):.0f} s",
        "clipbias commit": (commit or "installed wheel") + (" with uncommitted changes" if dirty else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
    }
    for name in sorted(key for key in last if key.startswith("validation")):
        facts[name.replace("_", " ")] = f"{100 * last[name]:.1f}%"
    card = model_card(f"{recipe.name} on {data}", command, recipe.to_toml(), facts)
    return _written(model, folder, "model", card, base)


def export_step(
    model: TrainModel, recipe: Recipe, folder: Path, command: str, data: str, step: int, base: ClipEncoder | None = None
) -> Path:
    """Write a training's model after ``step`` steps below ``folder/checkpoints``, in the form of `export_run`.

    Its name is the run's and the step, so that results and figures can tell it. The same step writes the same bytes,
    whether or not the training was cut before it.
    """
    card = model_card(f"{recipe.name} on {data}, step {step}", command, recipe.to_toml(), {"seed": str(recipe.seed)})
    run = Path(os.path.abspath(folder)).name
    run = run if len(os.fsencode(run)) <= LONGEST else file_name(run)  # the step and an ending must follow
    name = f"{run}-step-{step:06d}"
    with _whole(model):
        return _written(model, folder / "checkpoints", name, card, base)


def _written(model: TrainModel, folder: Path, name: str, card: str, base: ClipEncoder | None) -> Path:
    """The model as the folder ``name`` or the file ``name.pt``, whichever its base's readers take, with its card."""
    bare = base is None or (base.config is None and not isinstance(base, HubClip) and has_quick_gelu(model.clip.text))
    if base is not None and not bare:
        # Readers of the other layouts would build OpenAI's ViT with QuickGELU and a causal text tower.
        with torch.no_grad():
            model.clip.text.positional_embedding.copy_(model.positions())
        if isinstance(base, HubClip):
            path = write_hub_folder(model.clip, folder / name, base)
        else:
            path = write_openclip(model.clip, folder / name, base)
        write_text(path / "README.md", card)
        return path
    path = folder / f"{name}.pt"
    export(model, path, card)
    return path


@contextmanager
def _whole(model: TrainModel) -> Iterator[None]:
    """Within it a model in training can be written: its token table has all rows; after it, it is as it was."""
    text = model.clip.text
    tokens, positions = text.token_embedding, text.positional_embedding.detach().clone()
    if isinstance(tokens, CompactTokens):
        text.token_embedding = torch.nn.Embedding.from_pretrained(tokens.full().detach())
    try:
        yield
    finally:
        text.token_embedding = tokens
        with torch.no_grad():
            text.positional_embedding.copy_(positions)
