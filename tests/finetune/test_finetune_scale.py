"""Several processes, parts of a batch, forgotten activations: the gradients are those of one whole batch."""

from __future__ import annotations

import json
import random
import signal
import time

import numpy as np
import processes
import pytest
import torch
from small_training import close, gradients, start, train_on
from tests_support import THOROUGH

import clipbias
from clipbias.data.build import without_images
from clipbias.data.loading import load_dataset
from clipbias.finetune.batches import BatchMaker
from clipbias.finetune.loop import step_losses
from clipbias.finetune.losses import info_nce, pca_reconstruct
from clipbias.finetune.recipes import DEBIAS, LONGCLIP
from clipbias.finetune.runs import stretched_model
from clipbias.finetune.train import train
from clipbias.finetune.validation import hold_out, validation_recall
from clipbias.models.preprocessing import clip_preprocessing
from clipbias.probe.ranking import per_query_metrics, rank_both

# The model's own logit scale and an eps above rounding: at 100 and 1e-8, the first steps carry rounding into weights.
QUICK = {
    "batch_size": 8, "steps": 6, "lr": 1e-3, "warmup": 2, "pca_dim": 3, "log_scale": 0.0, "eps": 1e-6, "beta2": 0.98,
}  # fmt: skip


@pytest.mark.parametrize("changes", [{"micro_batch": 3}, {"micro_batch": 1}, {"checkpointing": True}], ids=str)
@pytest.mark.parametrize("recipe", [DEBIAS, LONGCLIP], ids=lambda r: r.name)
def test_parts_and_forgotten_activations_change_no_gradient(recipe, changes):
    recipe = recipe.override(**QUICK)
    model, maker = start(recipe)
    batch = maker.batch(range(8), 0)
    losses, wanted = gradients(model, batch, recipe)
    again, found = gradients(model, batch, recipe.override(**changes))
    assert again == pytest.approx(losses, abs=1e-5)
    close(found, wanted)


def test_how_it_is_computed_may_change_on_resuming_and_what_may_not(tmp_path):
    recipe = DEBIAS.override(**QUICK)
    model, maker = start(recipe)
    train(model, maker, recipe.override(steps=6), tmp_path / "whole")
    assert recipe.teaches_like(recipe.override(workers=5, micro_batch=2, compile=True))
    assert not recipe.teaches_like(recipe.override(lr=0.1))

    class Enough(Exception):
        pass

    def stop(step, steps, values):
        if step == 3:
            raise Enough

    model, maker = start(recipe)
    with pytest.raises(Enough):
        train(model, maker, recipe, tmp_path / "cut", save_every=0.0, progress=stop)
    model, maker = start(recipe)
    train(model, maker, recipe.override(workers=4), tmp_path / "cut", resume=True)
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True)["model"] for name in ("whole", "cut"))
    assert all(torch.equal(one[k], two[k]) for k in one)


WORKER = """
import importlib.util, sys
import torch, torch.distributed as dist
from clipbias.errors import UserError
spec = importlib.util.spec_from_file_location("t", {file!r})
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)
from pathlib import Path
torch.set_num_threads(1)
from clipbias.probe.distributed import process_group
group = process_group()
group.__enter__()
rank, size = dist.get_rank(), dist.get_world_size()
out = Path(sys.argv[1])
for scope in ("global", "process"):
    for part in (0, 2):
        recipe = t.DEBIAS.override(**t.QUICK, pca_scope=scope, micro_batch=part)
        model, maker = t.start(recipe)
        each = 8 // size
        losses, found = t.gradients(model, maker.batch(range(rank * each, (rank + 1) * each), 0), recipe)
        torch.save((losses, found), out / f"{{scope}}-{{part}}-{{rank}}.pt")
recipe = t.DEBIAS.override(**t.QUICK, pca_scope="global")
model, maker = t.start(recipe)
t.train(model, maker, recipe, out / "run", validate=lambda trained: {{"looked": 1.0}})
try:
    t.train(model, maker, recipe.override(batch_size=7), out / "odd")
except UserError as error:
    (out / f"odd-{{rank}}.txt").write_text(str(error))
group.__exit__(None, None, None)
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    (out / "worker.py").write_text(WORKER.format(file=__file__))
    code, _, errors = processes.launch(out, 2, processes.script, out / "worker.py", out)
    assert code == 0, errors[-4000:]
    return out


@pytest.mark.parametrize("part", [0, 2])
def test_two_processes_give_the_loss_and_gradients_of_one(two, part):
    recipe = DEBIAS.override(**QUICK)
    model, maker = start(recipe)
    losses, wanted = gradients(model, maker.batch(range(8), 0), recipe)
    for rank in (0, 1):
        theirs, found = torch.load(two / f"global-{part}-{rank}.pt", weights_only=True)
        assert theirs == pytest.approx(losses, abs=1e-5)
        close({name.removeprefix("module."): grad for name, grad in found.items()}, wanted)


def test_components_of_each_process_own_share_are_as_published(two):
    recipe = DEBIAS.override(**QUICK)
    model, maker = start(recipe)
    batch = maker.batch(range(8), 0)
    images, short, long, scale, _ = model(batch.pixels, batch.short_ids, batch.n_pre, batch.long_ids)
    components = torch.cat([pca_reconstruct(half, recipe.pca_dim) for half in images.split(4)])
    loss = 0.9 * info_nce(images, long, scale, 0.1) + 0.1 * info_nce(components, short, scale, 0.1)
    loss.backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for part in (0, 2):
        theirs, found = torch.load(two / f"process-{part}-1.pt", weights_only=True)
        assert theirs["loss"] == pytest.approx(loss.item(), abs=1e-5)
        close(found, wanted)


def test_a_training_of_two_processes_ends_in_the_weights_of_one(two, tmp_path):
    recipe = DEBIAS.override(**QUICK)
    model, maker = start(recipe)
    train(model, maker, recipe, tmp_path)
    one, both = (torch.load(f / "state.pt", weights_only=True)["model"] for f in (tmp_path, two / "run"))
    # AdamW's first steps divide by tiny second moments: rounding of 1e-7 in a gradient can become 1e-4 of a step.
    for name, value in one.items():
        torch.testing.assert_close(both[name], value, atol=2e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    lines = [json.loads(line) for line in (two / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6)) and lines[-1]["looked"] == 1.0
    assert "looked" not in lines[0] and lines[0]["samples_per_second"] > 0
    for rank in (0, 1):
        assert "cannot be shared equally by 2 processes" in (two / f"odd-{rank}.txt").read_text()


def test_killed_at_random_moments_it_ends_in_the_same_weights(tmp_path):
    recipe = DEBIAS.override(**QUICK).override(steps=30)
    model, maker = start(recipe)
    began = time.monotonic()
    train(model, maker, recipe, tmp_path / "whole", save_every=0.0)
    whole = time.monotonic() - began
    chance = random.Random(0)
    kills, times = 0, 10 if THOROUGH else 4
    for _ in range(times):
        run = processes.start(tmp_path / "printed", train_on, tmp_path / "cut", recipe, torch.get_num_threads())
        run.wait_for("ready")
        time.sleep(chance.uniform(0.0, whole / times))
        run.send_signal(signal.SIGKILL)
        kills += run.finish()[0] == -signal.SIGKILL
    assert kills == times
    model, maker = start(recipe)
    train(model, maker, recipe, tmp_path / "cut", resume=True)
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(one["model"][k], two["model"][k]) for k in one["model"]) and two["step"] == 30
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(30))


def test_what_is_held_out_is_not_trained_on_and_measured_as_by_the_probes(tmp_path):
    dataset = without_images(load_dataset("scenes-2", split="validation"), range(100, 1000))
    trained, held = hold_out(dataset, 500)
    assert held is not None and len(held.captions) == 10 and len(trained.captions) == 90
    assert set(held.captions).isdisjoint(trained.captions)
    assert hold_out(held, 500)[1] is not None and hold_out(dataset, 0) == (dataset, None)
    encoder = clipbias.load_model("nano-longclip")
    features = encoder.encode_texts(dataset.captions), encoder.encode_images(list(map(dataset.load_image, range(100))))
    wanted = rank_both(*features, dataset.caption_image)
    recipe = DEBIAS.override(context_length=248)
    model = stretched_model(clipbias.load_model("nano-longclip").module, recipe)
    maker = BatchMaker(dataset, recipe, clip_preprocessing(48), lambda caption: [caption])
    found = validation_recall(model, maker, recipe)
    whole = {f"validation_{w}_recall@1": per_query_metrics(wanted[w])["recall@1"].mean() for w in ("t2i", "i2t")}
    assert {name: found[name] for name in whole} == whole
    assert model.training and found["validation_t2i_recall@1"] > 0.7


def test_compiled_towers_train(tmp_path, compiler):
    recipe = DEBIAS.override(**QUICK).override(steps=2, compile=True)
    model, maker = start(recipe)
    wanted = step_losses(model, maker.batch(range(8), 0), recipe)["loss"].item()
    values = []
    train(model, maker, recipe, tmp_path, progress=lambda step, steps, v: values.append(v["loss"]))
    order = np.random.Generator(np.random.PCG64([0, 0])).permutation(40)[:8]
    model, maker = start(recipe)
    wanted = step_losses(model, maker.batch(order, 0), recipe.override(compile=False))["loss"].item()
    assert values[0] == pytest.approx(wanted, abs=1e-4)
