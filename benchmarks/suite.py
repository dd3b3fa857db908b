"""The `paper` suite and its parts, beside what public evaluation code does, in one run on one machine.

    python benchmarks/suite.py                    all of it; about 40 minutes on two cores
    python benchmarks/suite.py text ranks nano    parts of it
    python benchmarks/suite.py --images 50 suite  smaller

(a) "plain loop": in the manner of Long-CLIP's public evaluation scripts: for every condition again, one image and one
caption of 248 tokens at a time, then every row of similarities sorted. (b) clip-benchmark's zero-shot retrieval (needs
`pip install clip-benchmark`), once a condition. (c) transformers' CLIP text model, in batches of 32 (needs
`pip install transformers`). Every line is a process of its own on the same weights and data, with its own peak memory;
start-up and loading are part of its time in the suite, not in the parts.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from workload import captions, write_b16, write_data

SAMPLED = 8
REPEATS = 3
"""Runs of clipbias' suite, of which the median counts: start-up is a large part of them, and varies."""
PARTS = ("tokens", "text", "ranks", "nano", "suite")


# --- what each process does; it prints one JSON object ---------------------------------------------------------------


def _conditions(data: str) -> tuple[object, dict[str, list[str]]]:
    """The data set and the captions of every condition of the paper's probes."""
    from clipbias.data.loading import load_dataset
    from clipbias.probe.spec import find_probes

    dataset = load_dataset(data)
    sentences = dataset.caption_sentences
    texts = {}
    for probe in find_probes("paper"):
        for condition in probe.conditions:
            changed = [condition.apply(s) for s in sentences]
            texts[f"{probe.name}/{condition.name}"] = [
                caption if new is None or new == old else " ".join(new)
                for caption, old, new in zip(dataset.captions, sentences, changed, strict=True)
            ]
    return dataset, texts


def plain_suite(model: str, data: str) -> dict[str, object]:
    """(a): everything again for every condition."""
    from clipbias.models.loading import load_model

    encoder = load_model(model, device="cpu")
    dataset, conditions = _conditions(data)
    recall = {}
    for name, texts in conditions.items():
        image_rows, text_rows = [], []
        with torch.inference_mode():
            for index, text in enumerate(texts):
                pixels = encoder.transform(dataset.load_image(index)).unsqueeze(0)
                image_rows.append(encoder.module.encode_image(pixels))
                text_rows.append(encoder.module.encode_text(encoder.tokenize([text])))
            images, rows = (F.normalize(torch.cat(part), dim=-1) for part in (image_rows, text_rows))
            order = (rows @ images.T).argsort(dim=1, descending=True)
        recall[name] = float((order[:, 0] == torch.arange(len(texts))).float().mean())
    return {"recall": recall}


def clip_benchmark_suite(model: str, data: str) -> dict[str, object]:
    """(b): clip-benchmark's zero-shot retrieval for every condition."""
    import clip_benchmark.metrics.zeroshot_retrieval as zeroshot
    from torch.utils.data import DataLoader

    from clipbias.models.loading import load_model

    encoder = load_model(model, device="cpu")
    dataset, conditions = _conditions(data)
    recall = {}
    for name, texts in conditions.items():
        pairs = [(index, [text]) for index, text in enumerate(texts)]

        def collate(batch: list[tuple[int, list[str]]]) -> tuple[Tensor, list[list[str]]]:
            pixels = [encoder.transform(dataset.load_image(index)) for index, _ in batch]
            return torch.stack(pixels), [texts for _, texts in batch]

        loader = DataLoader(pairs, batch_size=32, collate_fn=collate)
        found = zeroshot.evaluate(encoder.module, loader, encoder.tokenize, "cpu", amp=False, recall_k_list=[1])
        recall[name] = found["image_retrieval_recall@1"]
    return {"recall": recall}


def clipbias_suite(model: str, data: str, results: str) -> dict[str, object]:
    """`clipbias probe paper`, with the store that the environment names."""
    from clipbias.data.loading import load_dataset
    from clipbias.models.loading import load_model
    from clipbias.probe.run import run_probe
    from clipbias.probe.session import Session
    from clipbias.probe.spec import find_probes
    from clipbias.probe.store import open_store
    from clipbias.results.folder import read_rows

    session = Session(load_model(model, device="cpu"), load_dataset(data), store=open_store())
    recall = {}
    for probe in find_probes("paper"):
        for row in read_rows(run_probe(session, probe, Path(results))):
            if (row.direction, row.metric, row.scope) == ("t2i", "recall@1", "all"):
                recall[f"{probe.name}/{row.condition}"] = row.value
    return {"recall": recall}


def token_ids(way: str, out: str) -> dict[str, object]:
    """Ids of 10,000 captions of DOCCI's length, words drawn from 20,000 as words are in a language (Zipf's law)."""
    from open_clip.tokenizer import SimpleTokenizer

    from clipbias.models.tokenizer import ClipTokens

    texts = captions(10_000, vocabulary=20_000)
    tokenize = ClipTokens(248) if way == "clipbias" else SimpleTokenizer(context_length=248)
    tokenize(texts[:1])
    began = time.perf_counter()
    ids = tokenize(texts)
    seconds = time.perf_counter() - began
    torch.save(ids, out)
    return {"rate": len(texts) / seconds}


def text_encoding(way: str, model: str, length: str, out: str) -> dict[str, object]:
    """Features of captions by one of the ways; seconds without loading, which is done first with two captions."""
    from clipbias.models.loading import load_model

    texts = captions(192) if length == "docci" else captions(512, words=12.0, spread=0.15)
    encoder = load_model(model, device="cpu")
    if way == "transformers":
        encode = _transformers_text(encoder.module)
    elif way == "loop":

        def encode(ids: Tensor) -> Tensor:
            return torch.cat([encoder.module.encode_text(row) for row in ids.split(1)])
    else:
        encode = encoder.module.encode_text
    times = []
    for part in (texts[:2], texts, texts):
        began = time.perf_counter()
        if way == "clipbias":
            features = encoder.encode_texts(part)
        else:
            with torch.inference_mode():
                rows = encoder.tokenize(part).split(32)
                features = F.normalize(torch.cat([encode(row) for row in rows]), dim=-1)
        times.append(time.perf_counter() - began)
    torch.save(features, out)
    tokens = encoder.token_lengths(texts)
    return {"rate": len(texts) / min(times[1:]), "tokens": float(np.minimum(tokens, 248).mean())}


def _transformers_text(module: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """transformers' CLIP text model with the weights of an open_clip module."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    text = module.text
    width, layers = text.positional_embedding.shape[1], len(text.transformer.resblocks)
    config = CLIPTextConfig(
        vocab_size=49_408, hidden_size=width, intermediate_size=4 * width, projection_dim=512, hidden_act="quick_gelu",
        num_hidden_layers=layers, num_attention_heads=width // 64, max_position_embeddings=248, eos_token_id=49_407,
        bos_token_id=49_406, pad_token_id=0,
    )  # fmt: skip
    net = CLIPTextModelWithProjection(config).eval()
    base = net.text_model
    with torch.no_grad():
        base.embeddings.token_embedding.weight.copy_(text.token_embedding.weight)
        base.embeddings.position_embedding.weight.copy_(text.positional_embedding)
        base.final_layer_norm.load_state_dict(text.ln_final.state_dict())
        net.text_projection.weight.copy_(text.text_projection.T)
        for ours, theirs in zip(text.transformer.resblocks, base.encoder.layers, strict=True):
            weights = ours.attn.in_proj_weight.chunk(3)
            biases = ours.attn.in_proj_bias.chunk(3)
            for name, weight, bias in zip("qkv", weights, biases, strict=True):
                part = getattr(theirs.self_attn, f"{name}_proj")
                part.weight.copy_(weight)
                part.bias.copy_(bias)
            theirs.self_attn.out_proj.load_state_dict(ours.attn.out_proj.state_dict())
            theirs.layer_norm1.load_state_dict(ours.ln_1.state_dict())
            theirs.layer_norm2.load_state_dict(ours.ln_2.state_dict())
            theirs.mlp.fc1.load_state_dict(ours.mlp.c_fc.state_dict())
            theirs.mlp.fc2.load_state_dict(ours.mlp.c_proj.state_dict())
    return lambda ids: net(input_ids=ids).text_embeds


def ranks(way: str, images: str, texts: str, out: str) -> dict[str, object]:
    """Ranks in both directions of random features of 512 numbers, five captions an image."""
    from clipbias.probe.counting import DIRECTIONS
    from clipbias.probe.ranking import rank_both

    n, m = int(images), int(texts)
    torch.manual_seed(0)
    image_rows = F.normalize(torch.randn(n, 512), dim=-1)
    owner = np.repeat(np.arange(n), m // n)
    text_rows = F.normalize(image_rows[owner] + 5 * torch.randn(m, 512) / 512**0.5, dim=-1)
    before = _reset_peak()
    began = time.perf_counter()
    if way == "clipbias":
        found = rank_both(text_rows, image_rows, owner)
        t2i, i2t = (1 + found[d].better + found[d].equal for d in DIRECTIONS)
    elif way == "matrix":
        # The whole matrix, and a count of what is ahead: as fast as can be where memory is no matter.
        scores = text_rows @ image_rows.T
        best = scores[torch.arange(m), torch.from_numpy(owner)]
        t2i = (scores >= best[:, None]).sum(1).numpy()
        i2t = _image_ranks(scores.T, torch.from_numpy(owner), n, by_sorting=False)
    else:
        # Rows sorted, as in the public scripts; of many rows every eighth block, and the time taken eightfold.
        places = torch.from_numpy(owner)
        step = 256 * (1 if m <= 25_000 else SAMPLED)
        t2i, i2t = np.zeros(m, dtype=np.int64), np.zeros(n, dtype=np.int64)
        for start in range(0, m, step):
            order = (text_rows[start : start + 256] @ image_rows.T).argsort(dim=1, descending=True)
            t2i[start : start + 256] = (order == places[start : start + 256, None]).int().argmax(1).numpy() + 1
        for start in range(0, n, step):
            rows = image_rows[start : start + 256] @ text_rows.T
            i2t[start : start + 256] = _image_ranks(rows, places, n, by_sorting=True, first=start)
        began -= (time.perf_counter() - began) * (step // 256 - 1)
    seconds = time.perf_counter() - began
    peak = _peak() - before
    np.savez(out, t2i=t2i, i2t=i2t)
    return {"seconds": seconds, "above": peak}


def _reset_peak() -> float:
    """Forget the largest memory so far; the memory held now, GiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """The largest memory since `_reset_peak`, GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 2**20


def _image_ranks(scores: Tensor, owner: Tensor, count: int, by_sorting: bool, first: int = 0) -> np.ndarray:
    out = np.empty(len(scores), dtype=np.int64)
    for row in range(len(scores)):
        if by_sorting:
            order = scores[row].argsort(descending=True)
            out[row] = int((owner[order] == first + row).int().argmax()) + 1
        else:
            mine = owner == row
            out[row] = 1 + int((scores[row][~mine] >= scores[row][mine].max()).sum())
    return out


WORKERS = {
    "plain": plain_suite,
    "clip-benchmark": clip_benchmark_suite,
    "clipbias": clipbias_suite,
    "tokens": token_ids,
    "text": text_encoding,
    "ranks": ranks,
}


# --- the tables ------------------------------------------------------------------------------------------------------


def run(worker: str, *arguments: object, env: dict[str, str] | None = None) -> dict[str, object]:
    """A worker in a process of its own; its answer, with ``wall`` seconds and ``peak`` GiB."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--worker", worker, *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **(env or {})},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{worker} {arguments}: {done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": time.perf_counter() - began}


def show(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """One table in Markdown."""
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for line in lines:
        print(f"| {' | '.join(line)} |", flush=True)


def tokens_part(folder: Path, model: Path) -> None:
    """Captions made into token ids a second."""
    found, ids = {}, {}
    for way in ("clipbias", "open_clip"):
        found[way] = run("tokens", way, folder / "ids.pt")
        ids[way] = torch.load(folder / "ids.pt", weights_only=True)
    same = f"{(ids['clipbias'] == ids['open_clip']).all(dim=1).double().mean():.4%}"
    lines = [
        [way, f"{one['rate']:,.0f}", f"{found['clipbias']['rate'] / one['rate']:.1f}", same]
        for way, one in found.items()
    ]
    title = "Token ids of 10,000 captions of DOCCI's length, each text for the first time, one core"
    show(title, ["way", "captions/s", "clipbias is faster by", "equal rows"], lines)


def text_part(folder: Path, model: Path) -> None:
    """Texts a second."""
    for length, words in (("docci", "192 captions of DOCCI's length"), ("short", "512 captions of about 15 tokens")):
        found, features = {}, {}
        for way in ("clipbias", "batches of 248", "loop", "transformers"):
            found[way] = run("text", way, model, length, folder / "features.pt")
            features[way] = torch.load(folder / "features.pt", weights_only=True)
        base = found["clipbias"]["rate"]
        lines = [
            [
                way,
                f"{one['rate']:.1f}",
                f"{base / one['rate']:.1f}",
                f"{(features[way] - features['clipbias']).abs().max():.1e}",
                f"{one['peak']:.2f}",
            ]
            for way, one in found.items()
        ]
        title = f"Text tower, B/16 shapes: {words} ({found['clipbias']['tokens']:.0f} tokens on average)"
        show(title, ["way", "texts/s", "clipbias is faster by", "largest difference", "peak, GiB"], lines)


def ranks_part(folder: Path, model: Path) -> None:
    """Seconds and memory of ranks."""
    for n, m in ((5_000, 25_000), (31_014, 155_070)):
        found, same = {}, {}
        for way in ("clipbias", "sorted rows", "matrix"):
            if way == "matrix" and n > 5_000:
                continue  # 19 GB
            found[way] = run("ranks", way, n, m, folder / "ranks.npz")
            same[way] = {k: v.copy() for k, v in np.load(folder / "ranks.npz").items()}
        lines = []
        for way, one in found.items():
            looked = {d: same[way][d] > 0 for d in ("t2i", "i2t")}
            agree = [f"{(same[way][d] == same['clipbias'][d])[looked[d]].mean():.4%}" for d in looked]
            faster = one["seconds"] / found["clipbias"]["seconds"]
            sampled = " (every eighth block of rows, times 8)" if not looked["t2i"].all() else ""
            lines.append(
                [way + sampled, f"{one['seconds']:.1f}", f"{faster:.1f}", f"{one['above']:.2f}", " / ".join(agree)]
            )
        head = ["way", "seconds", "clipbias is faster by", "above the features, GiB", "equal ranks, T2I / I2T"]
        show(f"Ranks in both directions: {n:,} images, {m:,} captions, 512 numbers", head, lines)


def _suite_lines(model: str, data: str, folder: Path) -> list[list[str]]:
    ways = (
        ("clipbias, first run", "one"),
        ("clipbias, features kept, new results folder", "two"),
        ("clipbias, the same command again", "one"),
    )
    times: dict[str, list[dict[str, object]]] = {way: [] for way, _ in ways}
    for turn in range(REPEATS):
        env = {"CLIPBIAS_CACHE": str(folder / f"cache-{turn}")}
        for way, results in ways:
            times[way].append(run("clipbias", model, data, folder / f"{results}-{turn}", env=env))
    found = {way: sorted(runs, key=lambda one: one["wall"])[REPEATS // 2] for way, runs in times.items()}
    found["(b) clip-benchmark"] = run("clip-benchmark", model, data)
    found["(a) plain loop"] = run("plain", model, data)
    first = found["clipbias, first run"]
    lines = []
    for way, one in found.items():
        apart = max(abs(one["recall"][name] - value) for name, value in first["recall"].items())
        lines.append(
            [way, f"{one['wall']:.1f}", f"{one['wall'] / first['wall']:.2f}", f"{apart:.4f}", f"{one['peak']:.2f}"]
        )
    return lines


HEAD = ["way", "seconds", "times the first run", "largest difference in R@1", "peak, GiB"]


def nano_part(folder: Path, model: Path) -> None:
    """The suite where models are tiny."""
    lines = _suite_lines("nano-longclip", "scenes", folder / "nano")
    show("The paper's suite, nano-longclip on scenes (1,000 images)", HEAD, lines)


def suite_part(folder: Path, model: Path, images: int = 200) -> None:
    """The suite at B/16's size."""
    write_data(folder / "data", images)
    lines = _suite_lines(str(model), str(folder / "data"), folder / "b16")
    show(f"The paper's suite, B/16 shapes, {images} images with captions of DOCCI's length", HEAD, lines)


def main() -> None:
    """Print the tables."""
    if sys.argv[1:2] == ["--worker"]:
        found = WORKERS[sys.argv[2]](*sys.argv[3:])
        # Not getrusage's: that starts from what the parent held when it forked.
        print("\n" + json.dumps({"peak": _peak(), **found}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--images", type=int, default=200, help="images of the suite part")
    chosen = parser.parse_args()
    names = ("torch", "open_clip_torch", "transformers", "clip-benchmark", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    print(
        f"{datetime.date.today()}; {os.cpu_count()} cores,{cpu.partition(':')[2]}; Python {platform.python_version()}"
    )
    print(f"{versions}; CPU, fp32")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = folder / "b16.pt"
        write_b16(model)
        for part in chosen.parts or PARTS:
            if part == "suite":
                suite_part(folder, model, chosen.images)
            else:
                {"tokens": tokens_part, "text": text_part, "ranks": ranks_part, "nano": nano_part}[part](folder, model)


if __name__ == "__main__":
    main()
