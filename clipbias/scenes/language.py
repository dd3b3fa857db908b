"""Captions of a scene: a summary, then details; every sentence knows which facts it states."""

from __future__ import annotations

from dataclasses import dataclass

from clipbias.scenes.world import COLUMNS, ROWS, Scene, Stream, Thing


@dataclass(frozen=True)
class Sentence:
    """One sentence and the names of the facts (see `Scene.facts`) that it states."""

    text: str
    facts: tuple[str, ...]


def article(words: str) -> str:
    """The words behind their indefinite article."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def _place(thing: Thing) -> str:
    column = COLUMNS[thing.column]
    return f"at the {ROWS[thing.row]} " + ("in the middle" if column == "middle" else f"on the {column}")


def _summary(scene: Scene, draw: Stream) -> Sentence:
    main, sky = scene.main, scene.sky_colour
    what = f"large {main.colour} {main.shape}"
    text = draw.pick(
        (
            f"A picture of a {what} under {article(sky)} sky.",
            f"This is a photo of a {what} under {article(sky)} sky.",
            f"A {what} among smaller shapes under {article(sky)} sky.",
            f"The photo shows a {what} and {article(sky)} sky.",
        )
    )
    return Sentence(text, ("thing0.shape", "thing0.colour", "thing0.size", "sky.colour"))


def _main_detail(scene: Scene, draw: Stream) -> Sentence:
    main = scene.main
    text = draw.pick(
        (
            f"The {main.shape} is {main.texture} and stands {_place(main)}.",
            f"The large {main.shape} stands {_place(main)} and is {main.texture}.",
            f"It is {main.texture} and stands {_place(main)}.",
        )
    )
    return Sentence(text, ("thing0.texture", "thing0.place"))


def _relation(thing: Thing, main: Thing) -> str | None:
    """Where ``thing`` is seen from the main one, if they are neighbours in a row or a column."""
    if thing.row == main.row and abs(thing.column - main.column) == 1:
        side = "left" if thing.column < main.column else "right"
        return f"to the {side} of the {main.shape}"
    if thing.column == main.column:
        return f"{'behind' if thing.row < main.row else 'in front of'} the {main.shape}"
    return None


def _other_detail(scene: Scene, number: int, draw: Stream) -> Sentence:
    thing = scene.things[number]
    what = article(f"{thing.size} {thing.colour} {thing.shape}")
    relation = _relation(thing, scene.main)
    where = relation if relation is not None and draw.chance(0.3) else _place(thing)
    text = draw.pick(
        (
            f"There is {what} {where}.",
            f"{what[0].upper()}{what[1:]} is {where}.",
            f"{where[0].upper()}{where[1:]} is {what}.",
            f"One can see {what} {where}.",
        )
    )
    names = tuple(f"thing{number}.{fact}" for fact in ("shape", "colour", "size", "place"))
    return Sentence(text, names)


def _ground(scene: Scene, draw: Stream) -> Sentence:
    colour, texture = scene.ground_colour, scene.ground_texture
    text = draw.pick(
        (
            f"The ground is {colour} and {texture}.",
            f"Below lies {texture} {colour} ground.",
            f"All stands on {colour} ground that is {texture}.",
        )
    )
    return Sentence(text, ("ground.colour", "ground.texture"))


_SKY = {
    "clear": ("The sky is clear", "There is nothing in the sky"),
    "sun": ("The sun shines", "A sun is in the sky"),
    "moon": ("The moon is out", "A moon is in the sky"),
    "clouds": ("Clouds hang above", "Clouds are in the sky"),
    "stars": ("Stars shine above", "Stars are in the sky"),
}
_WEATHER = {
    "dry": ("it is dry", "no rain or snow falls"),
    "rain": ("it is raining", "rain falls"),
    "snow": ("it is snowing", "snow falls"),
}


def _sky(scene: Scene, draw: Stream) -> Sentence:
    text = f"{draw.pick(_SKY[scene.sky_state])} and {draw.pick(_WEATHER[scene.weather])}."
    return Sentence(text, ("sky.state", "weather"))


def _frame(scene: Scene, draw: Stream) -> Sentence:
    text = draw.pick(
        (
            f"The picture has {article(scene.frame)} frame.",
            f"Around it runs {article(scene.frame)} border.",
            f"{article(scene.frame).capitalize()} frame goes around the picture.",
        )
    )
    return Sentence(text, ("frame",))


def long_caption(scene: Scene) -> tuple[Sentence, ...]:
    """The long caption: the summary, then 4 to 8 details from the salient to the background."""
    draw = Stream("long", scene.split, scene.index)
    sentences = [_summary(scene, draw), _main_detail(scene, draw)]
    order = draw.shuffled(range(1, len(scene.things)))
    sentences += [_other_detail(scene, number, draw) for number in order]
    sentences += [_ground(scene, draw), _sky(scene, draw)]
    if scene.frame != "none":
        sentences.append(_frame(scene, draw))
    return tuple(sentences)


def short_caption(scene: Scene, variant: int = 0) -> str:
    """A short caption of about 13 to 16 tokens, as on the web; ``variant`` draws another one.

    Half are summaries; the others say one or two details and leave the rest out.
    """
    draw = Stream("short", scene.split, scene.index, variant)
    if draw.chance(0.5):
        return _summary(scene, draw).text
    kind = draw.below(5)
    if kind == 0:
        return _main_detail(scene, draw).text.replace("It is", f"The {scene.main.shape} is", 1)
    if kind < 3:
        return _other_detail(scene, 1 + draw.below(len(scene.things) - 1), draw).text
    parts = [_ground(scene, draw).text, _sky(scene, draw).text]
    if scene.frame != "none":
        parts.append(_frame(scene, draw).text)
    return " ".join(draw.shuffled(parts)[:2])
