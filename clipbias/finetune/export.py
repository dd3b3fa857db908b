"""Writing a trained model in the layouts that other people's loaders take."""

from __future__ import annotations

from pathlib import Path

import torch

from clipbias.files import atomic_path, write_text
from clipbias.finetune.model import TrainModel
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.train import training_seconds
from clipbias.models.layouts import State, compact_tokens, custom_to_openai, to_longclip_layout
from clipbias.provenance import source_state, versions


def export_state(model: TrainModel) -> State:
    """The model as a state dict: Long-CLIP's layout with two position tables, else OpenAI's with one."""
    clip = model.clip
    if model.keep is None:
        return custom_to_openai(clip.state_dict())
    return to_longclip_layout(clip, clip.text.positional_embedding, model.positional_embedding_res)


def export(model: TrainModel, path: Path, card: str, half: bool = False, compact: bool = False) -> None:
    """Write ``path`` (a plain ``.pt`` state dict) and its model card beside it.

    Args:
        model: the trained model.
        path: the checkpoint to write.
        card: the card's Markdown text.
        half: store floating point tensors as fp16, as the authors' files do.
        compact: store only the token rows in use; clipbias's readers fill the others with zeros.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in export_state(model).items()}
    if compact:
        state = compact_tokens(state)
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    write_text(path.with_suffix(".md"), card)


def model_card(title: str, made_by: str, recipe: str, facts: dict[str, str]) -> str:
    """A model card: what it is, the command that makes it again, its recipe, and facts about the run."""
    lines = [f"# {title}", "", "Made by", "", f"    {made_by}", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "Recipe", "", *(f"    {line}" for line in recipe.splitlines()), ""]
    return "\n".join(lines)


def export_run(model: TrainModel, recipe: Recipe, folder: Path, command: str, data: str, base: str) -> Path:
    """Export a finished run as ``folder/model.pt`` with its card.

    Args:
        model: the trained model.
        recipe: what it was trained with.
        folder: the run's folder.
        command: makes it again.
        data: name of the training data; models of the embedded world are stored small.
        base: fingerprint of the model it started from.
    """
    commit, dirty = source_state()
    facts = {
        "data": data,
        "base": base,
        "seed": str(recipe.seed),
        "training time": f"{training_seconds(folder):.0f} s",
        "clipbias commit": (commit or "installed wheel") + (" with uncommitted changes" if dirty else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
    }
    nano = data == "scenes"
    path = folder / "model.pt"
    card = model_card(f"{recipe.name} on {data}", command, recipe.to_toml(), facts)
    export(model, path, card, half=nano, compact=nano)
    return path
