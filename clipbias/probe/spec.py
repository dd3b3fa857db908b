"""Probe specs: a TOML file that says which perturbations to measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipbias.errors import UserError
from clipbias.formats import parse_toml
from clipbias.gate import check_count, count_limit, read_text
from clipbias.names import unprintable
from clipbias.probe.mistakes import Mistake, line_of
from clipbias.probe.transforms import TRANSFORMS, Sentences, check_call
from clipbias.results.record import condition_of, draw_name
from clipbias.shipped import shipped


@dataclass(frozen=True)
class Condition:
    """One way to perturb captions.

    Attributes:
        name: of the condition.
        chain: (transform, parameters), applied to the sentences in turn.
        x: the swept value, if there is one.
        captions: "long", or "short" for a data set's short captions.
        first_tokens: keep only so many text tokens; None: all.
        token_padding: pad ids between SOT and the text (DeBias-CLIP's own form of padding).
    """

    name: str
    chain: tuple[tuple[str, dict[str, object]], ...]
    x: float | None = None
    captions: str = "long"
    first_tokens: int | None = None
    token_padding: int = 0

    @property
    def random(self) -> bool:
        """Whether a transform of the chain takes a seed."""
        return any("seed" in parameters for _, parameters in self.chain)

    def apply(self, sentences: Sentences, draw: int = 0) -> Sentences | None:
        """The perturbed sentences, or None where a transform cannot apply; ``draw`` is added to every seed.

        Raises:
            UserError: the text is longer than a caption may be.
        """
        current: Sentences | None = sentences
        for name, parameters in self.chain:
            if current is None:
                return None
            if draw and "seed" in parameters:
                parameters = {**parameters, "seed": int(str(parameters["seed"])) + draw}
            current = TRANSFORMS[name](current, **parameters)
            if current is not None:
                check_count("characters", sum(map(len, current)), f"condition {self.name!r}", "characters in one text")
        return current


@dataclass(frozen=True)
class Probe:
    """A question about a model, as its file states it.

    ``kind`` says how it is answered: "retrieval" by its conditions, others (`clipbias.probe.kinds.KINDS`) by a
    function that takes ``settings``. A file with a ``suite`` names other probes instead. With ``repeats`` every random
    condition is drawn so often, its seeds counted up, and a query's value is its mean over the draws.
    """

    name: str
    title: str
    question: str
    figure: str
    baseline: str
    conditions: tuple[Condition, ...]
    text: str
    suite: tuple[str, ...] = ()
    kind: str = "retrieval"
    settings: Mapping[str, object] = field(default_factory=dict)
    repeats: int = 1

    def draws(self, condition: Condition) -> list[str]:
        """What the per-query table calls each draw of a condition: one, unless it is random and there are repeats."""
        if self.repeats == 1 or not condition.random:
            return [condition.name]
        return [draw_name(condition.name, draw) for draw in range(self.repeats)]

    def settings_like(self, **defaults: Any) -> dict[str, Any]:
        """The settings of a probe's kind; what the spec leaves open is as in ``defaults``.

        Raises:
            UserError: a setting that the kind does not know, or of another type than its default; whole numbers
                must not be negative, and one that stands alone must be positive.
        """
        for name, value in self.settings.items():
            where = f"probe {self.name}: settings.{name} = {value!r}"
            if name not in defaults:
                raise UserError(f"{where}; known are {', '.join(defaults)}")
            default = defaults[name]
            numbers = value if isinstance(value, list) else [value]
            check_count("setting", len(numbers), f"probe {self.name}: settings.{name}", "entries")
            if isinstance(value, str):
                check_count("filler", len(value), f"probe {self.name}: settings.{name}", "characters")
            kind = "captions" if name in ("captions", "scenes") else "setting"  # of the data, or changes of a text
            for number in (n for n in numbers if type(n) is int):
                check_count(kind, number, f"probe {self.name}: settings.{name}", "")
            if isinstance(default, str):
                fits = isinstance(value, str)
            else:
                least = 0 if isinstance(default, list) else 1
                fits = type(value) is type(default) and all(type(n) is int and n >= least for n in numbers)
            if not fits:
                raise UserError(f"{where}; it must be like {default!r}")
        return {**defaults, **self.settings}


_LONGEST_NAME = 200
_MOST_REPEATS = 100
_KEYS = {"name", "title", "question", "figure", "baseline", "condition", "suite", "kind", "settings", "repeats"}
_CONDITION_KEYS = {"name", "x", "transforms", "captions", "first_tokens", "token_padding"}


def read_probe(path: Path) -> Probe:
    """Read and check a spec.

    Raises:
        UserError: not readable, no TOML, or a mistake; the line says file, line and key.
    """
    return parse_probe(read_text(path, "spec"), str(path))


def parse_probe(text: str, where: str = "probe") -> Probe:
    """A spec's text, checked; ``where`` is named in errors.

    Raises:
        UserError: no TOML, or a mistake; the line says where, line and key.
    """
    try:
        return _probe(parse_toml(text, where), text, where)
    except Mistake as mistake:
        line = line_of(text, mistake.key, mistake.near, mistake.last)
        raise UserError(f"{where}, line {line}: {mistake}") from mistake


def _text(table: dict[str, object], key: str, near: str = "") -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise Mistake(key, "a text is needed here", near)
    return value


def _name(table: dict[str, object]) -> str:
    """A name that can be printed and read back: results with others are refused."""
    name = _text(table, "name")
    if unprintable(name) or len(name) > _LONGEST_NAME or name != name.strip():
        raise Mistake("name", f"{name[:40]!a}: a name has 1 to {_LONGEST_NAME} characters that print as they are")
    return name


def _probe(content: dict[str, object], text: str, where: str) -> Probe:
    for key in content:
        if key not in _KEYS:
            raise Mistake(key, f"no such key; a probe has {', '.join(sorted(_KEYS))}")
    name = _name(content)
    suite = content.get("suite", [])
    if not isinstance(suite, list) or not all(isinstance(s, str) for s in suite):
        raise Mistake("suite", "a list of probe names is needed here")
    kind = str(content.get("kind", "retrieval"))
    settings = content.get("settings", {})
    if not isinstance(settings, dict):
        raise Mistake("settings", "a table is needed here")
    tables = content.get("condition", [])
    other = kind != "retrieval"
    if not isinstance(tables, list) or bool(tables) + bool(suite) + other != 1:
        raise Mistake("condition", "a probe has either conditions, or a suite, or a kind of its own")
    if settings and not other:
        raise Mistake("settings", "only a probe with a kind of its own has settings")
    check_count("conditions", len(tables), where)
    check_count("suite", len(suite), where, "probes in a suite")
    conditions = tuple(_condition(table) for table in tables)
    names = [c.name for c in conditions]
    for twice in {n for n in names if names.count(n) > 1}:
        raise Mistake(twice, "two conditions have this name", last=True)
    baseline = "" if not conditions else _text(content, "baseline")
    if conditions and baseline not in names:
        raise Mistake("baseline", f"{baseline!r} is none of the conditions {', '.join(names)}")
    return Probe(
        name=name,
        title=_text(content, "title"),
        question=_text(content, "question"),
        figure=str(content.get("figure", "")),
        baseline=baseline,
        conditions=conditions,
        text=text,
        suite=tuple(suite),
        kind=kind,
        settings=settings,
        repeats=_repeats(content, conditions),
    )


def _repeats(content: dict[str, object], conditions: tuple[Condition, ...]) -> int:
    repeats = content.get("repeats", 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= _MOST_REPEATS:
        raise Mistake("repeats", f"a whole number from 1 to {_MOST_REPEATS} is needed here")
    if repeats > 1 and not any(condition.random for condition in conditions):
        raise Mistake("repeats", "no transform takes a seed; every draw would be the same")
    return repeats


def _condition(table: object) -> Condition:
    if not isinstance(table, dict):
        raise Mistake("condition", "write it as [[condition]]")
    name = _name(table)
    near = f'"{name}"'
    if condition_of(name) != name:
        raise Mistake("name", f"{name!r}: a name that ends so is given to the draws of a condition", near)
    for key in table:
        if key not in _CONDITION_KEYS:
            raise Mistake(key, f"no such key; a condition has {', '.join(sorted(_CONDITION_KEYS))}", near)
    x = table.get("x")
    if x is not None and (isinstance(x, bool) or not isinstance(x, (int, float))):
        raise Mistake("x", "a number is needed here", near)
    if x is not None and not math.isfinite(x):
        raise Mistake("x", f"{x} is not a number to plot", near)
    steps = table.get("transforms", [])
    if not isinstance(steps, list):
        raise Mistake("transforms", "a list is needed here", near)
    check_count("transforms", len(steps), f"condition {name!r}")
    chain = []
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("name"), str):
            raise Mistake("transforms", 'each is written as {name = "...", ...}', near)
        parameters = {k: v for k, v in step.items() if k != "name"}
        try:
            check_call(step["name"], parameters)
        except UserError as error:
            raise Mistake("transforms", str(error), near) from error
        chain.append((step["name"], parameters))
    captions = table.get("captions", "long")
    if captions not in ("long", "short"):
        raise Mistake("captions", 'choose "long" or "short"', near)
    first, padding = table.get("first_tokens"), table.get("token_padding", 0)
    most = count_limit("filler")
    for key, value, least in (("first_tokens", first, 1), ("token_padding", padding, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
            raise Mistake(key, f"a whole number from {least} to {most:,} is needed here", near)
    return Condition(name, tuple(chain), None if x is None else float(x), captions, first, padding)


def shipped_probes() -> dict[str, Path]:
    """The specs that come with clipbias, by name."""
    return {path.stem: path for path in sorted(shipped("probes").glob("*.toml"))}


def find_probes(name: str) -> list[Probe]:
    """The probes that a name, a path to a TOML file or "all" stands for, suites resolved, each once.

    Raises:
        UserError: no such probe, a suite that holds itself, or one that stands for too many.
    """
    return _found(name, (), {})


def _found(name: str, above: tuple[str, ...], seen: dict[str, list[Probe]]) -> list[Probe]:
    """See `find_probes`; ``above`` are the suites that led here, ``seen`` what was found before: each is read once."""
    if name in seen:
        return seen[name]
    if name in above:
        raise UserError(f"the suite {name!r} holds itself: {' > '.join((*above, name))}")
    if len(above) > 8:
        raise UserError(f"suites in suites, more than eight deep: {' > '.join((*above, name))}")
    known = shipped_probes()
    if name == "all":
        return [p for p in map(read_probe, known.values()) if not p.suite]
    if name.endswith(".toml"):
        probe = read_probe(Path(name))
    elif name in known:
        probe = read_probe(known[name])
    else:
        raise UserError(f"no probe is called {name!r}; there are {', '.join(known)}, all, or a path to a .toml file")
    if not probe.suite:
        return [probe]
    out: dict[tuple[str, str], Probe] = {}
    for member in dict.fromkeys(probe.suite):
        out |= {(p.name, p.text): p for p in _found(member, (*above, name), seen)}
        check_count("suite", len(out), f"suite {name!r}", "probes")
    seen[name] = list(out.values())
    return seen[name]


def reference(asked: str, probe: Probe) -> str:
    """What to ask for to get ``probe`` alone, where ``asked`` stood for it: its own name, or the path as given."""
    known = shipped_probes()
    own = asked.endswith(".toml") and not (probe.name in known and read_probe(known[probe.name]).text == probe.text)
    return asked if own else probe.name
