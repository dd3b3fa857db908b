"""Three rigged encoders and what the probes must say of them.

They read captions word by word, with a random vector a word: one only its first `FIRST_WORDS` words, one the set of all
words, and one all words with their order. The picture of a caption carries nothing but its
number, and its feature is that of the caption read whole by the same encoder, so what a probe changes is all
that counts.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.models.wrapped import WrappedEncoder
from clipbias.probe.run import run_probe
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.results.card import cards
from clipbias.results.folder import load_runs, read_rows
from clipbias.results.record import Row
from clipbias.scenes import long_caption, sample_scene

FIRST_WORDS = 8
CAPTIONS = 200
_DIM = 256


def _vector(word: str) -> np.ndarray:
    digest = hashlib.sha256(word.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big"))).standard_normal(_DIM)


class _Rigged:
    """Texts by their words; pictures by the caption whose number they carry."""

    def __init__(self, captions: Sequence[str], kind: str, sees: str = "") -> None:
        """``kind``: how texts are read; ``sees``: how a picture's caption is read, the same way unless said."""
        self.captions, self.kind, self.sees = captions, kind, sees or kind
        self.fingerprint = f"rigged-{kind}"
        self._known: dict[str, np.ndarray] = {}

    def _word(self, word: str) -> np.ndarray:
        if word not in self._known:
            self._known[word] = _vector(word)
        return self._known[word]

    def _feature(self, text: str, kind: str) -> np.ndarray:
        words = text.lower().split()
        if kind == "first words":
            words = words[:FIRST_WORDS]
        elif kind == "no order":
            words = sorted(set(words))  # each word counts once: what is said again is not said louder
        total = np.zeros(_DIM) + 1e-3
        for place, word in enumerate(words):
            # A cyclic shift by the place binds a word to where it stands.
            total += np.roll(self._word(word), 3 * place) if kind == "everything" else self._word(word)
        return total

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([self._feature(text, self.kind) for text in texts]))

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        numbers = [image.convert("RGB").tobytes()[:2] for image in images]
        captions = [self.captions[(red + 256 * green) % CAPTIONS] for red, green in numbers]
        return torch.from_numpy(np.stack([self._feature(text, self.sees) for text in captions]))


def rigged_data() -> RetrievalDataset:
    """Captions of the embedded validation scenes; the picture of caption i is of colour i."""
    sentences = [tuple(s.text for s in long_caption(sample_scene("validation", i))) for i in range(CAPTIONS)]
    return RetrievalDataset(
        name="selftest",
        split="all",
        protocol=f"{CAPTIONS} captions of the embedded scenes, pictures that carry their number",
        image_names=[str(i) for i in range(CAPTIONS)],
        load_image=lambda i: Image.new("RGB", (1, 1), (i % 256, i // 256, 0)),
        captions=[" ".join(s) for s in sentences],
        caption_image=np.arange(CAPTIONS),
        sentences=sentences,
    )


@dataclass(frozen=True)
class Check:
    """One thing that must hold, what was found, and whether it holds."""

    what: str
    found: str
    passed: bool


KINDS = ("first words", "no order", "everything")


def _scalar_check(
    what: str, name: str, scalar: dict[tuple[str, str], float], small: str, large: str, by: float
) -> Check:
    """One model's scalar is below another's, by at least ``-by``."""
    low, high = scalar[small, name], scalar[large, name]
    return Check(what, f"{name} {low:.1f} against {high:.1f}", low <= high + by)


def run_selftest() -> list[Check]:
    """Probe the rigged encoders and check what is known of each."""
    data = rigged_data()
    value: dict[tuple[str, str, str], Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            encoder = WrappedEncoder(_Rigged(data.captions, kind), kind, torch.device("cpu"), "fp32")
            session = Session(encoder, replace(data))
            for name in ("drop-first", "first-only", "swap-1-4", "padding", "permute", "leave-one-out", "summary-last"):
                for probe in find_probes(name):
                    for row in read_rows(run_probe(session, probe, Path(folder))):
                        if (row.metric, row.direction, row.scope) == ("recall@1", "t2i", "eligible"):
                            value[kind, name, row.condition] = row
        for kind in ("first words", "no order"):
            # Who sees the whole picture and reads the start of a caption misses what is told later.
            rigged = _Rigged(data.captions, kind, sees="no order")
            encoder = WrappedEncoder(rigged, kind, torch.device("cpu"), "fp32")
            session = Session(encoder, replace(data, name="scenes", split="validation"))
            run_probe(session, find_probes("needle")[0], Path(folder))
        scalar = {(s.model, s.scalar): s.value for s in cards(load_runs([Path(folder)])).itertuples()}
    first, bag, whole = KINDS

    def score(kind: str, probe: str, condition: str) -> float:
        return value[kind, probe, condition].value

    def near(what: str, found: float, expected: float, tolerance: float = 1e-9) -> Check:
        return Check(what, f"{100 * found:.1f}% (expected {100 * expected:.1f}%)", abs(found - expected) <= tolerance)

    def below(what: str, small: float, large: float, by: float) -> Check:
        return Check(what, f"{100 * small:.1f}% against {100 * large:.1f}%", small <= large - by)

    def kept(kind: str, probe: str, condition: str, baseline: str) -> tuple[float, float]:
        return score(kind, probe, condition), score(kind, probe, baseline)

    checks = [
        near(f"{kind}: whole captions are found", score(kind, "drop-first", "full"), 1.0) for kind in (bag, whole)
    ]
    without = {kind: score(kind, "drop-first", "drop-first") for kind in KINDS}
    alone = {kind: score(kind, "first-only", "first-only") for kind in KINDS}
    checks += [
        near(f"{first}: the first sentence does as well as all", alone[first], score(first, "first-only", "full"), 0.1),
        below(f"{first}: nothing is left without the first sentence", without[first], 0.2, 0.1),
        below(f"{first}: one padding sentence costs", *kept(first, "padding", "pad-1", "pad-0"), 0.05),
        below(f"{first}: five padding sentences leave chance", score(first, "padding", "pad-5"), 0.1, 0.05),
        near(f"{first}: the third sentence is not missed", *kept(first, "leave-one-out", "without-3", "full"), 0.02),
        near(f"{bag}: exchanging sentences changes nothing", *kept(bag, "swap-1-4", "swap-1-4", "full")),
        near(f"{bag}: the summary may stand last", *kept(bag, "summary-last", "summary-last", "full")),
        below(f"{bag}: the first sentence alone is not enough", alone[bag], 1.0, 0.3),
        near(f"{bag}: captions are found without their first sentence", without[bag], 1.0, 0.05),
        below(f"{whole}: exchanging sentences costs", *kept(whole, "swap-1-4", "swap-1-4", "full"), 0.05),
        below(f"{first}: loses more than {bag} without the first sentence", without[first], without[bag], 0.5),
    ]
    checks += [
        _scalar_check(f"{first}: padding costs more than {bag}'s", "padding change", scalar, first, bag, -10),
        _scalar_check(f"{whole}: the swap drop is larger than {bag}'s", "swap drop", scalar, whole, bag, -5),
        _scalar_check(f"{bag}: relies less on the first sentence", "first-sentence reliance", scalar, bag, first, -50),
        _scalar_check(f"{first}: facts are missed earlier", "needle half-depth", scalar, first, bag, -4),
    ]
    for condition in sorted({c for k, p, c in value if (k, p) == (bag, "permute")}):
        checks.append(near(f"{bag}: {condition} order changes nothing", score(bag, "permute", condition), 1.0))
    return checks
