"""Kinds of probes: how a question is answered, one small file each.

Every module in this folder is a kind of its name and holds a function of that name, ``(session, probe) -> (rows,
queries)``, queries as `clipbias.results.folder.write_run` takes them; nothing else has to be edited. Others are found
in the entry-point group ``clipbias.probe_kinds``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from clipbias.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

    from clipbias.probe.session import Session
    from clipbias.probe.spec import Probe
    from clipbias.results.record import Row

Kind = Callable[["Session", "Probe"], "tuple[list[Row], pd.DataFrame | Sequence[pd.DataFrame]]"]
KINDS: Registry[Kind] = Registry("kind of probe", "clipbias.probe_kinds")
for _name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    KINDS.add(_name, f"{__name__}.{_name}:{_name}")
