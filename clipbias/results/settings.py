"""What a run was asked for: a table of settings, and the command line made from it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from clipbias.errors import UserError

FLAGS = {
    "model": "--model",
    "weights": "--weights",
    "revision": "--revision",
    "model_options": "--model-option",
    "data": "--data",
    "root": "--root",
    "split": "--split",
    "options": "--option",
    "skip_bad": "--skip-bad",
    "limit": "--limit",
    "device": "--device",
    "precision": "--precision",
    "compile": "--compile",
    "seed": "--seed",
}
"""Each setting's option of `clipbias probe`; what is added here is recorded, printed and rerun."""


OF_MODEL = ("model", "weights", "revision", "model_options", "device", "precision", "compile")
OF_DATA = ("data", "root", "split", "options", "skip_bad", "limit")
"""The settings that say which model, and which data; the others are the probe and the seed."""
RESERVED = {
    "model_options": ("name", "weights", "device", "precision", "revision", "trust_remote_code"),
    "options": ("name", "root", "split", "skip_bad"),
}
"""What is no option of a model's or a data set's reader: it has a setting of its own, or no record may give it."""


@dataclass(frozen=True)
class Settings:
    """Everything given to `clipbias probe` that decides a result, definite: no default is left open.

    Leave to run a repository's code (``--trust-remote-code``) is not among them: no record may give it.

    Attributes:
        probe: a probe's name, or the path of its TOML file.
        model, weights: as given: a registered name, a path, ``module:function``; "" where no file was given.
        revision: of a hub repository, as given, or "".
        model_options: of the model's reader, name -> value.
        data, root, split: as given; root is "" where ``CLIPBIAS_DATA`` said it or none is needed.
        options: of the data set's reader, name -> value.
        skip_bad, compile: the switches.
        limit: only the first so many images; 0: all.
        device: the device that was chosen, never "auto".
        precision, seed: as given.
    """

    probe: str
    model: str
    data: str
    weights: str = ""
    revision: str = ""
    model_options: dict[str, str] = field(default_factory=dict)
    root: str = ""
    split: str = ""
    options: dict[str, str] = field(default_factory=dict)
    skip_bad: bool = False
    limit: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    compile: bool = False
    seed: int = 0

    def arguments(self) -> list[str]:
        """The arguments of `clipbias probe` that ask for this again."""
        out = []
        for name, flag in FLAGS.items():
            value = getattr(self, name)
            if isinstance(value, dict):
                out += [part for key, text in value.items() for part in _given(flag, f"{key}={text}")]
            elif value is True:
                out.append(flag)
            elif name == "limit" and not value:
                continue
            elif value is not False and (value != "" or name in ("model", "data")):
                out += _given(flag, str(value))
        return [*out, "--", self.probe] if self.probe.startswith("-") else [self.probe, *out]

    @property
    def command(self) -> str:
        """The command line, quoted for a POSIX shell."""
        return "clipbias probe " + shlex.join(self.arguments())

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def part(self, names: Sequence[str]) -> dict[str, Any]:
        """Some of the settings: `OF_MODEL` or `OF_DATA`."""
        return {name: getattr(self, name) for name in names}

    def changed(self, **changes: Any) -> Settings:
        """With other values where they are not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


def _given(flag: str, value: str) -> list[str]:
    # A value that begins with a hyphen, or is empty, would be taken for an option or left out.
    return [f"{flag}={value}"] if value.startswith("-") or not value else [flag, value]


def read_settings(record: object) -> Settings:
    """Settings from the record of a run, which may come from anybody.

    Raises:
        UserError: not such a table; says which entry.
    """
    if not isinstance(record, dict):
        raise UserError("the run's settings are not a table; it cannot be run again")
    known = {f.name: f.type for f in fields(Settings)}
    record = {"limit": 0, **record}  # not in the first records
    if record.keys() != known.keys():
        odd = ", ".join(sorted(record.keys() ^ known.keys()))[:200]
        raise UserError(f"the run's settings lack or do not know: {odd}")
    for name, value in record.items():
        kind = str(known[name])
        if kind.startswith("dict"):
            fits = isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair)
        else:
            fits = type(value).__name__ == kind
        if not fits:
            raise UserError(f"the run's setting {name} is {str(value)[:80]!r}, not {kind}")
    for name, taken in RESERVED.items():
        odd = ", ".join(sorted(record[name].keys() & set(taken)))
        if odd:
            raise UserError(f"the run's setting {name} holds {odd}, which is no option of its own")
    return Settings(**record)
