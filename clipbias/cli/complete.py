"""What the shell completes: names of probes, models and data sets."""

from __future__ import annotations


def probes(incomplete: str) -> list[tuple[str, str]]:
    """Probes and suites that begin so, with their titles."""
    from clipbias.probe.spec import read_probe, shipped_probes

    found = {name: read_probe(path).title for name, path in shipped_probes().items() if name.startswith(incomplete)}
    return [*found.items(), *([("all", "every probe")] if "all".startswith(incomplete) else [])]


def models(incomplete: str) -> list[str]:
    """Registered models that begin so."""
    from clipbias.models.catalogue import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


def datasets(incomplete: str) -> list[str]:
    """Registered data sets that begin so."""
    from clipbias.data.loading import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]
