"""Running a probe: ask its kind, and write the run folder."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import replace
from pathlib import Path

from clipbias.probe.kinds import KINDS
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.provenance import source_state, versions
from clipbias.results.folder import place_for, read_run, write_run
from clipbias.results.record import SCHEMA, Run
from clipbias.results.settings import Settings
from clipbias.stats.intervals import LEVEL


def run_probe(
    session: Session, probe: Probe, results: Path, command: str = "", settings: Settings | None = None
) -> Path:
    """Run a probe and write its run folder; a finished run of the same things is reused.

    Args:
        session: model, data, seed.
        probe: the spec.
        results: where run folders are kept.
        command: what was typed, where that was not `clipbias probe`; for the record.
        settings: what was asked for; default: what the session says of itself.

    Returns:
        The run folder.

    Raises:
        UserError: the probe's kind is unknown, cannot be answered for this model or data, or the folder is taken.
    """
    return run_or_reuse(session, probe, results, command, settings)[0]


def run_or_reuse(
    session: Session, probe: Probe, results: Path, command: str = "", settings: Settings | None = None
) -> tuple[Path, bool]:
    """`run_probe`, and whether the run had been finished before."""
    run = described(session, probe, command, settings)
    folder = place_for(results, run)
    if _done(folder, run):
        return folder, True
    began = time.monotonic()
    rows, queries = KINDS[probe.kind](session, probe)
    run = replace(run, seconds=round(time.monotonic() - began, 3), created=_now())
    # Looked at again: what took long may have been overtaken.
    write_run(place_for(results, run), run, rows, queries)
    return folder, False


def _done(folder: Path, run: Run) -> bool:
    return os.path.exists(folder / "run.json") and _same(read_run(folder), run)


def described(session: Session, probe: Probe, command: str = "", settings: Settings | None = None) -> Run:
    """The record of a run of ``probe`` that has not begun."""
    encoder, dataset = session.encoder, session.dataset
    asked = settings or _session_settings(session, probe)
    commit, dirty = source_state()
    return Run(
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
        interval=f"{LEVEL:.0%}, over images; each row says how",
        precision=encoder.precision,
        device=encoder.device.type,
        seed=session.seed,
        seconds=0.0,
        created=_now(),
        command=command or asked.command,
        versions=versions(),
        git_commit=commit,
        git_dirty=dirty,
        identity=encoder.identity(),
        settings=asked.record(),
    )


def _session_settings(session: Session, probe: Probe) -> Settings:
    """What can be said of a session that was put together in Python: names, not how they were loaded."""
    encoder, dataset = session.encoder, session.dataset
    return Settings(
        probe=probe.name,
        model=encoder.name,
        data=dataset.name,
        split=dataset.split,
        device=encoder.device.type,
        precision=encoder.precision,
        seed=session.seed,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _same(old: Run, new: Run) -> bool:
    """Whether a finished run answers the same question about the same things, computed in the same way."""
    return all(getattr(old, name) == getattr(new, name) for name in _DECISIVE)


_DECISIVE = ("schema", "probe_spec", "fingerprint", "data_fingerprint", "seed", "interval", "versions")
