"""The public functions, called as the commands are; the commands and these run the same code below."""

from __future__ import annotations

from clipbias.api.ask import card, compare, finetune, list_datasets, list_models, list_probes, probe, report
from clipbias.api.results import Results, load_results

__all__ = [
    "Results",
    "card",
    "compare",
    "finetune",
    "list_datasets",
    "list_models",
    "list_probes",
    "load_results",
    "probe",
    "report",
]
