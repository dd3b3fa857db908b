"""Running a probe: ask its kind, and write the run folder."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

from clipbias.probe.kinds import KINDS
from clipbias.probe.session import Session
from clipbias.probe.spec import Probe
from clipbias.provenance import source_state, versions
from clipbias.results.folder import read_run, run_folder, write_run
from clipbias.results.record import SCHEMA, Run
from clipbias.stats.bootstrap import INTERVAL


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
