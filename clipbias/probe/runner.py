"""Running a probe: perturb, encode what is new, rank, and write the run folder."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.images import LazyImages, image_keys, require_readable
from clipbias.data.sentences import dataset_sentences, split_sentences
from clipbias.errors import NotApplicable, UserError
from clipbias.files import content_key
from clipbias.models.encoder import Encoder
from clipbias.probe.metrics import DIRECTIONS, Ranking, per_query_metrics, rank_both
from clipbias.probe.spec import Condition, Probe
from clipbias.probe.stats import INTERVAL, ClusterBootstrap, holm, mcnemar_exact, percentile_interval
from clipbias.probe.store import EmbeddingStore, space_of
from clipbias.provenance import source_state, versions
from clipbias.registry import Registry
from clipbias.results import SCHEMA, Row, Run, read_run, run_folder, write_run

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
_IMAGE_BATCH = 256
_IMAGE_CHUNK = 2048  # images in one shard of the store: what is lost when a run is killed


TextKey = tuple[str, int | None, int]
"""A text and its form: how many of its tokens are kept (None: all), and how many pads stand before it."""
Kind = Callable[["Session", Probe], tuple[list[Row], pd.DataFrame]]
KINDS: Registry[Kind] = Registry("kind of probe", "clipbias.probe_kinds")
for _kind, _reference in {
    "retrieval": "clipbias.probe.runner:retrieval",
    "attention": "clipbias.probe.attention:attention",
    "needle": "clipbias.probe.needle:needle",
    "influence": "clipbias.probe.influence:influence",
}.items():
    KINDS.add(_kind, _reference)


def _silent(what: str, done: int, total: int) -> None:
    """The progress callback of a run that nobody watches."""


class Session:
    """One model on one data set; every distinct text and every image is encoded once.

    With a ``store`` they are encoded once for all sessions that use it.
    """

    def __init__(
        self,
        encoder: Encoder,
        dataset: RetrievalDataset,
        seed: int = 0,
        progress: Progress = _silent,
        store: EmbeddingStore | None = None,
    ) -> None:
        self.store = store
        self.encoder = encoder
        self.dataset = dataset
        self.seed = seed
        self.progress = progress
        self.sentences = dataset_sentences(dataset)
        self._rows: dict[TextKey, int] = {}
        self._features: list[Tensor] = []
        self._lengths: list[np.ndarray] = []
        self._images: Tensor | None = None
        self._rankings: dict[tuple[TextKey, ...], dict[str, Ranking]] = {}
        self._bootstraps: dict[str, ClusterBootstrap] = {}

    def images(self) -> Tensor:
        """Image features [N, D]; nothing is encoded before every image that has to be was seen to be readable.

        Raises:
            UserError: names every image that cannot be read.
        """
        if self._images is None:
            keys = image_keys(self.dataset) if self.store is not None else []
            space = space_of(self.encoder, "images")
            if self.store is None or not space or not any(keys):
                # Where images are made and not read, making them is the check.
                if hasattr(self.dataset.load_image, "check"):
                    require_readable(self.dataset, self.progress)
                self._images = self._encode_images(range(len(self.dataset.image_names)))
            else:
                self._images = self._stored_images(self.store, space, keys)
        return self._images

    def _stored_images(self, store: EmbeddingStore, space: str, keys: Sequence[bytes | None]) -> Tensor:
        missing = store.missing(space, keys)
        if missing and hasattr(self.dataset.load_image, "check"):
            require_readable(self.dataset, self.progress, missing)
        known = [key for key in keys if key is not None]
        if len(known) < len(keys):  # readable now, and was not when its key was made
            raise UserError(f"{self.dataset.name}: an image changed while it was read; run again")
        for start in range(0, len(missing), _IMAGE_CHUNK):
            part = missing[start : start + _IMAGE_CHUNK]

            def encode(rows: list[int], part: list[int] = part) -> Tensor:
                return self._encode_images([part[row] for row in rows])

            store.features(space, [known[i] for i in part], encode)
        return store.features(space, known, self._encode_images)

    def _encode_images(self, indices: Sequence[int]) -> Tensor:
        parts = []
        for start in range(0, len(indices), _IMAGE_BATCH):
            part = indices[start : start + _IMAGE_BATCH]
            parts.append(self.encoder.encode_images(LazyImages(self.dataset.load_image, part)))
            self.progress("images", start + len(part), len(indices))
        return torch.cat(parts)

    def texts(self, texts: Sequence[TextKey]) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Distinct features [U, D], the row of each text [M], and the uncut token count of each text [M]."""
        new = [t for t in dict.fromkeys(texts) if t not in self._rows]
        for form in dict.fromkeys(key[1:] for key in new):
            keys = [key for key in new if key[1:] == form]
            features, lengths = self._encode([text for text, *_ in keys], *form)
            self._features.append(features)
            self._lengths.append(lengths)
            for key in keys:
                self._rows[key] = len(self._rows)
        rows, inverse = np.unique([self._rows[t] for t in texts], return_inverse=True)
        return torch.cat(self._features)[rows], inverse, np.concatenate(self._lengths)[rows][inverse]

    def captions(self, kind: str) -> tuple[Sequence[str], Sequence[tuple[str, ...]]]:
        """The captions [M] and their sentences: "long" ones, or "short" ones where the data set has them.

        Raises:
            UserError: it has none.
        """
        if kind == "long":
            return self.dataset.captions, self.sentences
        if self.dataset.short_captions is None:
            raise UserError(f"{self.dataset.name} has no short captions; leave out the probes that ask for them")
        short = [self.dataset.short_captions[int(i)] for i in self.dataset.caption_image]
        return short, [tuple(split_sentences(text)) or (text,) for text in short]

    def clusters(self, direction: str) -> np.ndarray:
        """The image that each query of a direction belongs to."""
        return self.dataset.caption_image if direction == "t2i" else np.arange(len(self.dataset.image_names))

    def bootstrap(self, direction: str) -> ClusterBootstrap:
        """The resamples of a direction's queries, drawn once: probes of a session share them."""
        if direction not in self._bootstraps:
            self._bootstraps[direction] = ClusterBootstrap(self.clusters(direction), self.seed)
        return self._bootstraps[direction]

    def _encode(self, texts: list[str], first_tokens: int | None, padding: int) -> tuple[Tensor, np.ndarray]:
        """Features and uncut token counts of texts of one form.

        Raises:
            NotApplicable: ids are to be changed and the model does not take ids, or has no place for so many pads.
        """
        if first_tokens is None and not padding:
            features = self._stored_texts(texts, "", lambda part: self.encoder.encode_texts(part))
            return features, self.encoder.token_lengths(texts)
        tower = self.encoder.text_tower()
        tokens = tower.tokens
        tokens.pack([], padding)  # too many pads are refused before anything is encoded

        def encode(part: list[str]) -> Tensor:
            return tower.features(tokens.pack([ids[:first_tokens] for ids in tokens.ids(part)], padding))

        features = self._stored_texts(texts, f"first {first_tokens}, pads {padding}", encode)
        special = tokens.context_length - tokens.room
        return features, np.array([len(ids[:first_tokens]) + padding + special for ids in tokens.ids(texts)])

    def _stored_texts(self, texts: list[str], form: str, encode: Callable[[list[str]], Tensor]) -> Tensor:
        space = space_of(self.encoder, "texts")
        if self.store is None or not space:
            return encode(texts)
        keys = [content_key(form.encode(), text.encode("utf-8", "surrogatepass")) for text in texts]
        return self.store.features(space, keys, lambda rows: encode([texts[row] for row in rows]))

    def rankings(self, texts: Sequence[TextKey]) -> dict[str, Ranking]:
        """Both directions' ranks of one text a caption."""
        key = tuple(texts)
        if key not in self._rankings:
            images = self.images()  # first, so that a bad image stops the run before anything is encoded
            features, row, _ = self.texts(texts)
            self._rankings[key] = rank_both(features, images, self.dataset.caption_image, row)
        return self._rankings[key]


@dataclass(frozen=True)
class Measured:
    """One condition on every caption: texts, what the transforms could do, what was cut, and the ranks."""

    condition: Condition
    texts: list[TextKey]
    eligible: np.ndarray
    lengths: np.ndarray
    rankings: dict[str, Ranking]


def _measure(session: Session, condition: Condition) -> Measured:
    captions, sentences = session.captions(condition.captions)
    changed = [condition.apply(s) for s in sentences]
    # With nothing to change the caption goes in as its authors wrote it, not re-joined.
    texts = [
        (caption if out is None or out == before else " ".join(out), condition.first_tokens, condition.token_padding)
        for caption, before, out in zip(captions, sentences, changed, strict=True)
    ]
    rankings = session.rankings(texts)
    _, _, lengths = session.texts(texts)
    return Measured(condition, texts, np.array([out is not None for out in changed]), lengths, rankings)


def _query_mask(caption_mask: np.ndarray, owner: np.ndarray, images: int, direction: str) -> np.ndarray:
    """A mask over captions as one over queries: an image counts when all its captions do."""
    if direction == "t2i":
        return caption_mask
    out = np.ones(images, dtype=bool)
    np.logical_and.at(out, owner, caption_mask)
    return out


def run_probe(session: Session, probe: Probe, results: Path, command: str = "") -> Path:
    """Run a probe and write its run folder; a finished run of the same things is reused.

    Args:
        session: model, data, seed.
        probe: the spec.
        results: where run folders are kept.
        command: how to run it again; for the record.

    Returns:
        The run folder.

    Raises:
        UserError: the probe's kind is unknown, or cannot be answered for this model or data.
    """
    encoder, dataset = session.encoder, session.dataset
    folder = run_folder(results, encoder.name, dataset.name, probe.name)
    if _is_the_same(folder, session, probe):
        return folder
    began = time.monotonic()
    rows, queries = KINDS[probe.kind](session, probe)
    commit, dirty = source_state()
    run = Run(
        schema=SCHEMA,
        probe=probe.name,
        probe_spec=probe.text,
        title=probe.title,
        model=encoder.name,
        model_family=encoder.family,
        model_fingerprint=encoder.fingerprint,
        model_options=dict(encoder.options),
        data=dataset.name,
        split=dataset.split,
        data_fingerprint=dataset.fingerprint,
        protocol=dataset.protocol,
        captions=len(dataset.captions),
        images=len(dataset.image_names),
        skipped=len(dataset.skipped),
        context_length=encoder.context_length,
        truncation="cut at the context length, end-of-text kept last",
        interval=INTERVAL,
        precision=encoder.precision,
        device=encoder.device.type,
        seed=session.seed,
        seconds=round(time.monotonic() - began, 3),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        versions=versions(),
        git_commit=commit,
        git_dirty=dirty,
    )
    write_run(folder, run, rows, queries)
    return folder


def _is_the_same(folder: Path, session: Session, probe: Probe) -> bool:
    """Whether a finished run there answers the same question about the same things."""
    if not (folder / "run.json").exists():
        return False
    old = read_run(folder)
    return (
        (old.probe_spec, old.model_fingerprint, old.data_fingerprint)
        == (probe.text, session.encoder.fingerprint, session.dataset.fingerprint)
        and (old.precision, old.device, old.seed)
        == (session.encoder.precision, session.encoder.device.type, session.seed)
        and old.versions == versions()
    )


def retrieval(session: Session, probe: Probe) -> tuple[list[Row], pd.DataFrame]:
    """Rows and per-query ranks of a probe that is a list of conditions on captions."""
    measured = []
    for number, condition in enumerate(probe.conditions):
        try:
            measured.append(_measure(session, condition))
        except NotApplicable as error:
            # The baseline has to be there; without it there is nothing to compare with.
            if condition.name == probe.baseline:
                raise
            log.warning("%s: condition %s left out: %s", probe.name, condition.name, error)
        session.progress(probe.name, number + 1, len(probe.conditions))
    return _rows_and_queries(session, probe, measured)


def _rows_and_queries(session: Session, probe: Probe, measured: list[Measured]) -> tuple[list[Row], pd.DataFrame]:
    dataset = session.dataset
    owner, images = dataset.caption_image, len(dataset.image_names)
    context = session.encoder.context_length
    baseline = next(m for m in measured if m.condition.name == probe.baseline)
    rows: list[Row] = []
    tables: list[pd.DataFrame] = []
    tests: list[tuple[int, float]] = []
    for direction in DIRECTIONS:
        cluster, bootstrap = session.clusters(direction), session.bootstrap(direction)
        metrics = {m.condition.name: per_query_metrics(m.rankings[direction]) for m in measured}
        base = np.column_stack(list(metrics[probe.baseline].values()))
        for order, one in enumerate(measured):
            name = one.condition.name
            is_baseline = one is baseline
            affected = np.array([a != b for a, b in zip(one.texts, baseline.texts, strict=True)])
            eligible_query = _query_mask(one.eligible, owner, images, direction)
            values = np.column_stack(list(metrics[name].values()))
            cut = one.lengths > context
            shared = {
                "probe": probe.name,
                "condition": name,
                "order": order,
                "x": one.condition.x,
                "baseline": None if is_baseline else probe.baseline,
                "direction": direction,
                "eligible": int(one.eligible.sum()),
                "affected": int((affected & one.eligible).sum()),
                "truncated": float(cut.mean()),
                "tokens_lost": float(np.maximum(one.lengths - context, 0).mean()),
            }
            for scope, chosen in (("eligible", eligible_query), ("all", np.ones_like(eligible_query))):
                if not chosen.any():
                    continue
                sampled = bootstrap.means(values, chosen)
                low, high = percentile_interval(sampled)
                value = values[chosen].mean(axis=0)
                if not is_baseline:
                    sampled_base = bootstrap.means(base, chosen)
                    delta = value - base[chosen].mean(axis=0)
                    delta_low, delta_high = percentile_interval(sampled - sampled_base)
                for k, metric in enumerate(metrics[name]):
                    test = None
                    if metric == "recall@1" and not is_baseline:
                        test = mcnemar_exact(base[chosen, k] > 0, values[chosen, k] > 0)
                        if scope == "eligible":
                            tests.append((len(rows), test))
                    rows.append(
                        Row(
                            **shared,  # type: ignore[arg-type]
                            metric=metric,
                            scope=scope,
                            value=float(value[k]),
                            low=float(low[k]),
                            high=float(high[k]),
                            delta=None if is_baseline else float(delta[k]),
                            delta_low=None if is_baseline else float(delta_low[k]),
                            delta_high=None if is_baseline else float(delta_high[k]),
                            p_mcnemar=test,
                            p_holm=None,
                            n=int(chosen.sum()),
                        )
                    )
                rows.append(_median_row(shared, scope, one.rankings[direction].rank[chosen]))
            tables.append(
                pd.DataFrame(
                    {
                        "condition": name,
                        "direction": direction,
                        "query": np.arange(len(cluster), dtype=np.int32),
                        "cluster": cluster.astype(np.int32),
                        "rank": one.rankings[direction].rank.astype(np.int32),
                        "cosine": one.rankings[direction].cosine.astype(np.float32),
                        "margin": one.rankings[direction].margin.astype(np.float32),
                        "eligible": eligible_query,
                        "affected": _query_mask(affected, owner, images, direction),
                    }
                )
            )
    corrected = holm([p for _, p in tests])
    for (place, _), p in zip(tests, corrected, strict=True):
        rows[place] = replace(rows[place], p_holm=p)
    return rows, pd.concat(tables, ignore_index=True)


def _median_row(shared: dict[str, object], scope: str, ranks: np.ndarray) -> Row:
    """The median rank; no interval, since the bootstrap here is of means."""
    return Row(
        **shared,  # type: ignore[arg-type]
        metric="median_rank",
        scope=scope,
        value=float(np.median(ranks)),
        low=None,
        high=None,
        delta=None,
        delta_low=None,
        delta_high=None,
        p_mcnemar=None,
        p_holm=None,
        n=len(ranks),
    )
