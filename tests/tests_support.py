"""Rows and runs for the tests."""

from __future__ import annotations

from clipbias.results import SCHEMA, Row, Run


def make_row(**changes: object) -> Row:
    """A row with harmless values."""
    values: dict[str, object] = {
        "probe": "drop-first", "condition": "full", "order": 0, "x": None, "baseline": None, "direction": "t2i",
        "metric": "recall@1", "scope": "eligible", "value": 0.5, "low": 0.4, "high": 0.6, "delta": None,
        "delta_low": None, "delta_high": None, "p_mcnemar": None, "p_holm": None, "n": 10, "eligible": 10,
        "affected": 10, "truncated": 0.0, "tokens_lost": 0.0,
    }  # fmt: skip
    return Row(**(values | changes))  # type: ignore[arg-type]


def make_run(**changes: object) -> Run:
    """A run with harmless values."""
    values: dict[str, object] = {
        "schema": SCHEMA, "probe": "drop-first", "probe_spec": "", "title": "t", "model": "m", "model_family": "f",
        "model_fingerprint": "0", "model_options": {}, "data": "d", "split": "test", "data_fingerprint": "1",
        "protocol": "10 images", "captions": 10, "images": 10, "skipped": 0, "context_length": 77, "truncation": "",
        "interval": "", "precision": "fp32", "device": "cpu", "seed": 0, "seconds": 1.0,
        "created": "2026-01-01T00:00:00+00:00", "command": "clipbias probe", "versions": {},
        "git_commit": "", "git_dirty": False,
    }  # fmt: skip
    return Run(**(values | changes))  # type: ignore[arg-type]
