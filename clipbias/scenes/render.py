"""Scene graph to pixels, with Pillow; integer geometry only, so bytes are the same everywhere."""

from __future__ import annotations

from PIL import Image, ImageDraw

from clipbias.scenes.world import COLUMNS, Scene, Stream, Thing

_CANVAS = 192  # drawn at four times the models' 48 pixels, then box-averaged
_CELL = _CANVAS // 3
_OUTLINE = (40, 40, 40)
_INK = {
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (250, 220, 40),
    "green": (40, 150, 60),
    "blue": (40, 80, 210),
    "purple": (130, 50, 160),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
}
_SKY_INK = {
    "blue": (140, 190, 240),
    "pink": (250, 180, 210),
    "orange": (250, 190, 120),
    "purple": (190, 160, 230),
    "grey": (170, 170, 175),
    "yellow": (250, 240, 160),
}
_GROUND_INK = {
    "brown": (130, 90, 60),
    "green": (120, 180, 100),
    "grey": (140, 140, 140),
    "tan": (215, 190, 145),
    "white": (235, 235, 235),
    "pink": (225, 150, 170),
}
_RADIUS = {"large": 31, "medium": 22, "small": 14}


def _darker(ink: tuple[int, int, int]) -> tuple[int, int, int]:
    return (ink[0] * 7 // 10, ink[1] * 7 // 10, ink[2] * 7 // 10)


# Unit outlines on a grid of -12..12; integers keep the rasteriser's input free of rounding.
_POLYGONS = {
    "square": [(-10, -10), (10, -10), (10, 10), (-10, 10)],
    "triangle": [(0, -12), (12, 10), (-12, 10)],
    "star": [(0, -12), (3, -4), (12, -4), (5, 2), (8, 11), (0, 5), (-8, 11), (-5, 2), (-12, -4), (-3, -4)],
    "cross": [(-4, -12), (4, -12), (4, -4), (12, -4), (12, 4), (4, 4),
              (4, 12), (-4, 12), (-4, 4), (-12, 4), (-12, -4), (-4, -4)],
    "heart": [(0, 12), (-11, 0), (-12, -6), (-8, -10), (-3, -10), (0, -6), (3, -10), (8, -10), (12, -6), (11, 0)],
    "diamond": [(0, -12), (8, 0), (0, 12), (-8, 0)],
}  # fmt: skip


def _mask(shape: str, radius: int, x: int, y: int) -> Image.Image:
    mask = Image.new("1", (_CANVAS, _CANVAS))
    draw = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        if shape == "ring":
            hole = radius // 2
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    else:
        points = [(x + px * radius // 12, y + py * radius // 12) for px, py in _POLYGONS[shape]]
        draw.polygon(points, fill=1)
    return mask


def _draw_thing(image: Image.Image, thing: Thing, draw: Stream) -> None:
    x = thing.column * _CELL + _CELL // 2 + draw.below(5) - 2
    y = (thing.row + 1) * _CELL + _CELL // 2 + draw.below(5) - 2
    radius = _RADIUS[thing.size]
    ink = _INK[thing.colour]
    image.paste(_OUTLINE, mask=_mask(thing.shape, radius, x, y))
    inner = _mask(thing.shape, radius - 3, x, y)
    fill = Image.new("RGB", image.size, ink)
    pattern = ImageDraw.Draw(fill)
    mark = (90, 90, 90) if thing.colour == "black" else _darker(_darker(ink))
    if thing.texture == "striped":
        for top in range(y - radius, y + radius, 14):
            pattern.rectangle((0, top, _CANVAS, top + 6), fill=mark)
    elif thing.texture == "spotted":
        for top in range(y - radius + 6, y + radius, 15):
            for left in range(x - radius + 6, x + radius, 15):
                pattern.ellipse((left - 4, top - 4, left + 4, top + 4), fill=mark)
    image.paste(fill, mask=inner)


def _draw_sky(pen: ImageDraw.ImageDraw, scene: Scene, draw: Stream) -> None:
    pen.rectangle((0, 0, _CANVAS, _CELL - 1), fill=_SKY_INK[scene.sky_colour])
    x, y = draw.below(len(COLUMNS)) * _CELL + _CELL // 2, _CELL // 2
    if scene.sky_state == "sun":
        pen.ellipse((x - 22, y - 22, x + 22, y + 22), fill=(255, 225, 0), outline=(230, 120, 0), width=5)
    elif scene.sky_state == "moon":
        pen.ellipse((x - 22, y - 22, x + 22, y + 22), fill=(245, 245, 235))
        pen.ellipse((x - 8, y - 26, x + 32, y + 16), fill=_SKY_INK[scene.sky_colour])
    elif scene.sky_state == "clouds":
        for dx in (40, 100, 152):
            pen.ellipse((dx - 28, y - 10, dx + 28, y + 14), fill=(255, 255, 255))
            pen.ellipse((dx - 14, y - 20, dx + 16, y + 8), fill=(255, 255, 255))
    elif scene.sky_state == "stars":
        for dx in range(16, _CANVAS, 32):
            top = 12 + draw.below(36)
            pen.polygon([(dx, top - 9), (dx + 5, top), (dx, top + 9), (dx - 5, top)], fill=(255, 255, 255))


def _draw_ground(pen: ImageDraw.ImageDraw, scene: Scene) -> None:
    ink = _GROUND_INK[scene.ground_colour]
    mark = _darker(ink)
    pen.rectangle((0, _CELL, _CANVAS, _CANVAS), fill=ink)
    if scene.ground_texture == "striped":
        for top in range(_CELL, _CANVAS, 16):
            pen.rectangle((0, top, _CANVAS, top + 7), fill=mark)
    elif scene.ground_texture == "dotted":
        for top in range(_CELL + 8, _CANVAS, 16):
            for left in range(8, _CANVAS, 16):
                pen.ellipse((left - 4, top - 4, left + 4, top + 4), fill=mark)
    elif scene.ground_texture == "checked":
        for top in range(_CELL, _CANVAS, 32):
            for left in range(0, _CANVAS, 32):
                pen.rectangle((left, top, left + 15, top + 15), fill=mark)
                pen.rectangle((left + 16, top + 16, left + 31, top + 31), fill=mark)


def _draw_weather(pen: ImageDraw.ImageDraw, scene: Scene, draw: Stream) -> None:
    if scene.weather == "dry":
        return
    for top in range(0, _CANVAS, 24):
        for left in range(0, _CANVAS, 24):
            x, y = left + draw.below(16), top + draw.below(16)
            if scene.weather == "rain":
                pen.line((x + 4, y, x, y + 14), fill=(60, 110, 230), width=3)
            else:
                pen.ellipse((x, y, x + 7, y + 7), fill=(255, 255, 255))


def render(scene: Scene, size: int = 48) -> Image.Image:
    """The scene as an RGB image of ``size`` x ``size`` pixels.

    Args:
        scene: what to draw.
        size: 48 (what the nano models see), 96 or 192 (for people).

    Raises:
        ValueError: another size.
    """
    if size not in (48, 96, 192):
        raise ValueError(f"scenes are rendered at 48, 96 or 192 pixels, not {size}")
    draw = Stream("pixels", scene.split, scene.index)
    image = Image.new("RGB", (_CANVAS, _CANVAS))
    pen = ImageDraw.Draw(image)
    _draw_sky(pen, scene, draw)
    _draw_ground(pen, scene)
    for thing in sorted(scene.things, key=lambda t: t.row):
        _draw_thing(image, thing, draw)
    _draw_weather(pen, scene, draw)
    if scene.frame != "none":
        pen.rectangle((0, 0, _CANVAS - 1, _CANVAS - 1), outline=_INK[scene.frame], width=9)
    return image if size == _CANVAS else image.reduce(_CANVAS // size)
