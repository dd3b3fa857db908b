"""Captions of a scene: a summary, then details; every sentence knows which facts it states.

The summary summarises: each of its facts stands again among the details, in other words, with probability `RESTATED`.
"""

from __future__ import annotations

from clipbias.scenes.language import Sentence, article
from clipbias.scenes.v2.world import Stream
from clipbias.scenes.world import COLUMNS, ROWS, Scene, Thing

RESTATED = 0.7
"""How likely the details state a fact of the summary (main object's shape, its colour, the sky's colour) again."""


def _place(thing: Thing) -> str:
    return f"at the {ROWS[thing.row]} {COLUMNS[thing.column]}"


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


def _main_detail(scene: Scene, draw: Stream, named: bool = False) -> Sentence:
    """Texture and place of the main object; ``named``: its shape is always said again, not called "it"."""
    main = scene.main
    shape, colour = draw.chance(RESTATED) or named, draw.chance(RESTATED)
    what = f"The {main.shape}" if shape else "It"
    looks = f"{main.colour} and {main.texture}" if colour else main.texture
    text = draw.pick((f"{what} is {looks} and stands {_place(main)}.", f"{what} stands {_place(main)} and is {looks}."))
    again = ("thing0.shape",) * shape + ("thing0.colour",) * colour
    return Sentence(text, ("thing0.texture", "thing0.place", *again))


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
    "clear": ("nothing", "no cloud"),
    "sun": ("the sun", "a bright sun"),
    "moon": ("the moon", "a pale moon"),
    "clouds": ("clouds", "some clouds"),
    "stars": ("stars", "many stars"),
}
_WEATHER = {
    "dry": ("it is dry", "no rain or snow falls"),
    "rain": ("it is raining", "rain falls"),
    "snow": ("it is snowing", "snow falls"),
}


def _sky(scene: Scene, draw: Stream) -> Sentence:
    colour = draw.chance(RESTATED)
    what, weather = draw.pick(_SKY[scene.sky_state]), draw.pick(_WEATHER[scene.weather])
    if colour:
        text = draw.pick(
            (f"Above is {scene.sky_colour} with {what}", f"{what} can be seen up in the {scene.sky_colour}")
        )
    else:
        text = draw.pick((f"Above one sees {what}", f"{what} can be seen up there"))
    again = ("sky.colour",) * colour
    return Sentence(f"{text[0].upper()}{text[1:]} and {weather}.", ("sky.state", "weather", *again))


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
    """The long caption: the summary, then 4 to 6 details from the salient to the background."""
    draw = Stream("long", scene.split, scene.index)
    sentences = [_summary(scene, draw), _main_detail(scene, draw)]
    order = draw.shuffled(range(1, len(scene.things)))
    sentences += [_other_detail(scene, number, draw) for number in order]
    sentences += [_ground(scene, draw), _sky(scene, draw)]
    if scene.frame != "none":
        sentences.append(_frame(scene, draw))
    return tuple(sentences)


def _details(scene: Scene, draw: Stream) -> list[str]:
    """All details in random order, each to be understood alone."""
    sentences = [_main_detail(scene, draw, named=True), _ground(scene, draw), _sky(scene, draw)]
    sentences += [_other_detail(scene, number, draw) for number in range(1, len(scene.things))]
    if scene.frame != "none":
        sentences.append(_frame(scene, draw))
    return [s.text for s in draw.shuffled(sentences)]


def short_caption(scene: Scene, variant: int = 0) -> str:
    """A short caption, as people write them: the summary, or one or two details; ``variant`` draws another one."""
    draw = Stream("short", scene.split, scene.index, variant)
    return " ".join(short_sentences(scene, draw)[0])


def short_sentences(scene: Scene, draw: Stream) -> tuple[list[str], list[str]]:
    """The sentences of a short caption, and the details that it leaves out."""
    details = _details(scene, draw)
    if draw.chance(0.5):
        return [_summary(scene, draw).text], details
    count = 1 + draw.chance(0.5)
    return details[:count], details[count:]
