"""SigLIP and SigLIP2: their loss, their towers that see all positions, their tokenizers without a start token."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import SigLipLoss
from openclip_folder import write_siglip
from small_training import close, gradients
from typer.testing import CliRunner

import clipbias
from clipbias.cli.app import app
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.errors import UserError
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.export import write_layout
from clipbias.finetune.losses import pca_reconstruct, sigmoid_loss
from clipbias.finetune.positions import stretch_positions
from clipbias.finetune.recipes import DEBIAS, LONGCLIP
from clipbias.finetune.runs import for_base, stretched_model
from clipbias.models.ids import move_pads
from clipbias.models.tokenizer import ClipTokens

PADS = {"siglip": "</s>", "siglip2": "<pad>"}
QUICK = {"batch_size": 8, "steps": 3, "lr": 1e-3, "warmup": 2, "pca_dim": 3}


@pytest.fixture(scope="module")
def dataset():
    return without_images(load_dataset("scenes", split="validation"), range(40, 1000))


@pytest.fixture(scope="module", params=PADS)
def folder(request, tmp_path_factory, dataset):
    path = tmp_path_factory.mktemp(request.param)
    write_siglip(path, dataset.captions, PADS[request.param])
    return path


def begin(folder, dataset, recipe):
    """A model and batches, as `finetune` puts them together."""
    encoder = clipbias.load_model(str(folder))
    recipe = for_base(recipe.override(**QUICK), encoder)
    tokens = encoder.tokens.at(recipe.context_length)
    maker = BatchMaker(dataset, recipe, encoder.transform, lambda caption: [caption], tokens=tokens)
    return recipe, stretched_model(encoder.module, recipe, tokens), maker


def test_the_sigmoid_loss_is_its_formula_and_open_clips():
    torch.manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(6, 5), dim=-1) for _ in range(2))
    scale, bias = torch.tensor(12.0), torch.tensor(-3.0)
    total = 0.0
    for i in range(6):
        for j in range(6):
            z = 1.0 if i == j else -1.0
            total += math.log(1 + math.exp(-z * (12.0 * float(image[i] @ text[j]) - 3.0)))
    found = sigmoid_loss(image, text, scale, bias)
    assert float(found) == pytest.approx(total / 6, abs=1e-5)
    torch.testing.assert_close(found, SigLipLoss()(image, text, scale, bias))


@given(st.data())
def test_moved_pads_are_all_that_moves(data):
    start = data.draw(st.sampled_from([0, 1]))
    length = data.draw(st.integers(2 + start, 12))
    rows = data.draw(st.lists(st.lists(st.integers(2, 9), max_size=length - 1 - start), min_size=1, max_size=4))
    packed = [[50] * start + row + [1] for row in rows]
    ids = torch.tensor([row + [0] * (length - len(row)) for row in packed])
    n_pre = [data.draw(st.integers(0, length - len(row))) for row in packed]
    want = [
        row[:start] + [0] * pads + row[start:] + [0] * (length - len(row) - pads)
        for row, pads in zip(packed, n_pre, strict=True)
    ]
    assert move_pads(ids, torch.tensor(n_pre), start).tolist() == want


@pytest.mark.parametrize("recipe", [DEBIAS, LONGCLIP], ids=lambda r: r.name)
def test_a_step_is_the_formulas_on_open_clips_own_forward(folder, dataset, recipe):
    recipe, model, maker = begin(folder, dataset, recipe)
    assert (recipe.context_length, maker.tokenize.text_start) == (64 + 3 * 44, 0)
    batch = maker.batch(range(8), 0)
    losses, found = gradients(model, batch, recipe)

    reference, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    old = reference.text.positional_embedding.detach()
    table = stretch_positions(old, 20, 4)
    reference.text.positional_embedding = torch.nn.Parameter(table)
    reference.text.context_length = reference.text.num_pos = len(table)
    pad = tokenizer.tokenizer.pad_token_id
    long = tokenizer([dataset.captions[i] for i in range(8)], context_length=196)
    short = []
    for i in range(8):
        ids = tokenizer.tokenizer.encode(tokenizer.clean_fn(maker.texts(i, 0)[1]))[:196]
        before = 0 if batch.n_pre is None else int(batch.n_pre[i])
        assert 0 <= before <= 196 - len(ids)
        short.append([pad] * before + ids + [pad] * (196 - len(ids) - before))
    pixels = torch.stack([transform(dataset.load_image(i)) for i in range(8)])
    images = reference.encode_image(pixels, normalize=True)
    scale, bias = reference.logit_scale.exp(), reference.logit_bias
    first = SigLipLoss()(images, reference.encode_text(long, normalize=True), scale, bias)
    rebuilt = pca_reconstruct(images, recipe.pca_dim)
    second = SigLipLoss()(rebuilt, reference.encode_text(torch.tensor(short), normalize=True), scale, bias)
    loss = recipe.weight_long * first + recipe.weight_short * second
    loss.backward()
    assert losses == pytest.approx({"loss": loss.item(), "long": first.item(), "short": second.item()}, abs=1e-4)
    checked = set()
    for name, parameter in reference.named_parameters():
        if name == "text.positional_embedding":
            torch.testing.assert_close(
                found["positional_embedding_res"][20:], parameter.grad[20:], atol=1e-5, rtol=1e-3
            )
            assert found["positional_embedding_res"][:20].abs().max() == 0
        else:
            torch.testing.assert_close(found[f"clip.{name}"], parameter.grad, atol=1e-5, rtol=1e-3)
            checked.add(name)
    assert {"logit_bias", "logit_scale"} <= checked and "clip.text.positional_embedding" not in found


@pytest.mark.parametrize("changes", [{"micro_batch": 3}, {"checkpointing": True}], ids=str)
def test_parts_and_forgotten_activations_change_no_gradient(folder, dataset, changes):
    recipe, model, maker = begin(folder, dataset, DEBIAS)
    batch = maker.batch(range(8), 0)
    losses, wanted = gradients(model, batch, recipe)
    again, found = gradients(model, batch, recipe.override(**changes))
    assert again == pytest.approx(losses, abs=1e-5)
    close(found, wanted)


def test_the_command_trains_it_and_its_export_is_open_clips(folder, tmp_path, few_scenes):
    out = tmp_path / "run"
    arguments = ["finetune", "debias", "--base", str(folder), "--no-evaluate", "--out", str(out)]
    settings = [f"{name}={value}" for name, value in {**QUICK, "precision": "fp32"}.items()]
    result = CliRunner().invoke(app, [*arguments, *(part for setting in settings for part in ("--set", setting))])
    assert result.exit_code == 0, (result.exception, result.output)
    assert "context_length = 196" in result.output
    encoder = clipbias.load_model(str(out / "model"))
    assert (encoder.context_length, encoder.tokens.text_start) == (196, 0)
    assert for_base(DEBIAS, encoder).context_length == 196  # trained on, it is not stretched again
    state = torch.load(out / "state.pt", weights_only=True)["model"]
    table = torch.cat([state["clip.text.positional_embedding"][:20], state["positional_embedding_res"][20:]])
    assert torch.equal(encoder.module.text.positional_embedding, table)
    before = clipbias.load_model(str(folder)).module
    # The scale is above InfoNCE's limit in the authors' weights, and stays free here.
    assert not torch.equal(encoder.module.logit_bias, before.logit_bias)
    module, _, transform = open_clip.create_model_and_transforms(f"local-dir:{out / 'model'}")
    texts = ["A large red circle over a small blue square. " * 3, "green"]
    image = load_dataset("scenes").load_image(0)
    with torch.no_grad():
        theirs = module.eval().encode_text(open_clip.get_tokenizer(f"local-dir:{out / 'model'}")(texts), normalize=True)
        picture = module.encode_image(transform(image)[None], normalize=True)
    torch.testing.assert_close(encoder.encode_texts(texts), theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode_images([image]), picture, atol=1e-5, rtol=0)
    copied = clipbias.load_model(str(write_layout(encoder, "openclip", tmp_path / "copy")))
    assert torch.equal(copied.encode_texts(texts), encoder.encode_texts(texts))
    with pytest.raises(UserError, match="no CLIP tokenizer"):
        write_layout(encoder, "longclip", tmp_path / "x.pt")


def test_a_scale_above_infonces_limit_is_left_alone(folder, dataset):
    from clipbias.finetune.loop import start_state, train_step

    recipe, model, maker = begin(folder, dataset, DEBIAS)
    with torch.no_grad():
        model.clip.logit_scale.fill_(math.log(117.0))
    train_step(start_state(model, recipe), maker.batch(range(8), 0), recipe, 3)
    assert model.clip.logit_scale.exp() > 110


def test_a_model_without_a_position_table_is_refused():
    class Own:
        def encode_texts(self, texts):
            return torch.ones(len(texts), 2)

        encode_images = encode_texts

    from clipbias.models.wrapped import WrappedEncoder

    encoder = WrappedEncoder(Own(), "mine", torch.device("cpu"), "fp32")
    with pytest.raises(UserError, match="mine: fine-tuning needs a model of open_clip's"):
        for_base(DEBIAS, encoder)
    assert for_base(DEBIAS, clipbias.load_model("nano-clip")) == DEBIAS
    assert for_base(DEBIAS, clipbias.load_model("nano-longclip")) == DEBIAS
    assert ClipTokens(77).at(30)(["a"]).shape == (1, 30)
