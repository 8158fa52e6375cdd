"""The demo's objects: shapes of one hue, solid or with a pattern, drawn with soft edges.

Six shapes in four hues, solid or striped, are the smallest set; the next one has four more hues
and chequered objects, the largest eight more shapes and eight more textures: more than LVIS has
classes.

Letters: P is the side of the square patch of pixels that holds one object.
"""

import colorsys
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from gol.data.demo.outlines import OUTLINES, rotate

SHAPES = ("bar", "cross", "disc", "ring", "square", "triangle")
HUES = {"red": 0.0, "lime": 0.25, "cyan": 0.5, "purple": 0.75}
TEXTURES = ("solid", "striped")
_ADDED_HUES = {"orange": 0.1, "green": 0.375, "azure": 0.6, "pink": 0.875}
_THREE_TEXTURES = (*TEXTURES, "chequered")
_ADDED_SHAPES = ("arrow", "crescent", "ell", "half", "heart", "hourglass", "star", "tee")
_PALE = "pale_"  # a pattern on top that is paler than the object, not darker
_PATTERNS = ("striped", "chequered", "dotted", "halved", "cored")
_ALL_TEXTURES = ("solid", *_PATTERNS, *(_PALE + pattern for pattern in _PATTERNS))

_TILT = np.pi / 6  # most that an object is turned either way
_CORE = 0.7  # size of a core to that of its object
_FINE = 4  # sub-pixels per pixel and axis when an edge is drawn


@dataclass(frozen=True)
class Combination:
    """What makes a class: its shape, hue and texture."""

    shape: str
    hue: str
    texture: str

    @property
    def name(self) -> str:
        """The category's name, for example ``striped_red_ring``."""
        return f"{self.texture}_{self.hue}_{self.shape}"


def _combine(*traits: Iterable[str]) -> tuple[Combination, ...]:
    return tuple(Combination(*each) for each in itertools.product(*traits))


COMBINATIONS = _combine(SHAPES, HUES, TEXTURES)
_ALL_HUES = HUES | _ADDED_HUES
_SETS = (
    COMBINATIONS,
    _combine(SHAPES, _ALL_HUES, _THREE_TEXTURES),
    _combine((*SHAPES, *_ADDED_SHAPES), _ALL_HUES, _ALL_TEXTURES),
)
MOST_CLASSES = len(_SETS[-1])


def combinations(classes: int) -> tuple[Combination, ...]:
    """Returns the smallest set that has combinations for ``classes``, at most MOST_CLASSES."""
    return next(each for each in _SETS if len(each) >= classes)


@dataclass(frozen=True)
class Sprite:
    """One drawn object.

    Attributes:
        alpha: (P, P) float32 in [0, 1], the share of each pixel that the object covers.
        colour: (P, P, 3) float32 in [0, 255], BGR.
    """

    alpha: np.ndarray
    colour: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(P, P) bool, the pixels that are at least half covered."""
        return self.alpha >= 0.5


def draw_object(kind: Combination, size: float, rng: np.random.Generator) -> Sprite:
    """Draws ``kind`` with random rotation, proportions, colour and light.

    Args:
        kind: what to draw.
        size: square root of the object's area in pixels, the same for every shape.
        rng: source of the randomness.
    """
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    outline = OUTLINES[kind.shape] * size * (stretch, 1 / stretch)
    base = _colour(_ALL_HUES[kind.hue] + rng.uniform(-0.05, 0.05), rng)
    angle = rng.uniform(-_TILT, _TILT)
    if kind.texture == "solid":
        return _render(rotate(outline, angle), base, base, None, rng)
    pattern = kind.texture.removeprefix(_PALE)
    if pattern == "cored":
        inner = rotate(_CORE * outline[None], angle)
    else:
        inner = rotate(_draw_pattern(pattern, size, rng), rng.uniform(0, np.pi))
    share = rng.uniform(0.2, 0.4)
    second = base * share if pattern == kind.texture else 255 - (255 - base) * share
    return _render(rotate(outline, angle), base, second, inner, rng)


def draw_blob(size: float, rng: np.random.Generator) -> Sprite:
    """Draws clutter: an irregular patch of dull or bright colour, of no class."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
    radii = size * rng.uniform(0.35, 0.8, 7)
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
    colour = rng.uniform(40, 220, 3)
    return _render(outline, colour, colour, None, rng)


def _render(
    outline: np.ndarray,
    base: np.ndarray,
    second: np.ndarray,
    inner: np.ndarray | None,
    rng: np.random.Generator,
) -> Sprite:
    """``outline`` (n, 2) around the origin, ``inner`` (m, k, 2) where ``second`` shows."""
    side = 2 * int(np.ceil(np.abs(outline).max())) + 3
    centre = side / 2 + rng.uniform(-0.5, 0.5, 2)
    alpha = _cover(outline[None] + centre, side)
    share = 0.0 if inner is None else _cover(inner + centre, side)[..., None]
    slope = rng.uniform(-0.25, 0.25, 2) / side
    ramp = np.arange(side, dtype=np.float32) - side / 2
    light = 1 + slope[0] * ramp[:, None] + slope[1] * ramp
    colour = (base + (second - base) * share) * light[..., None]
    return Sprite(alpha, np.clip(colour, 0, 255).astype(np.float32))


def _cover(polygons: np.ndarray, side: int) -> np.ndarray:
    """Share of each of ``side`` x ``side`` pixels inside ``polygons`` (k, n, 2)."""
    fine = np.zeros((side * _FINE, side * _FINE), np.uint8)
    cv2.fillPoly(fine, list(np.rint(polygons * _FINE - 0.5).astype(np.int32)), 255)
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255)


def _draw_pattern(pattern: str, size: float, rng: np.random.Generator) -> np.ndarray:
    """Polygons (m, n, 2) around the origin that the second colour fills, not turned yet."""
    reach = 2 * size
    if pattern == "halved":
        return _stripes(2 * reach, reach)  # a single one, up to the middle
    period = max(3.5, size * rng.uniform(0.22, 0.3))
    if pattern == "dotted":
        return _dots(1.5 * period, reach)
    stripes = _stripes(period, reach)
    if pattern == "chequered":  # what stripes of both directions cover is filled once
        stripes = np.concatenate([stripes, rotate(stripes, np.pi / 2)])
    return stripes


def _stripes(period: float, reach: float) -> np.ndarray:
    starts = np.arange(-reach, reach, period)
    corners = np.array([[0, -reach], [period / 2, -reach], [period / 2, reach], [0, reach]])
    return corners + starts[:, None, None] * (1, 0)


def _dots(period: float, reach: float) -> np.ndarray:
    along = np.arange(-reach, reach, period)
    centres = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 1, 2)
    return centres + OUTLINES["disc"] * period / 2


def _colour(hue: float, rng: np.random.Generator) -> np.ndarray:
    red_green_blue = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.55, 1), rng.uniform(0.6, 1))
    return np.array(red_green_blue[::-1]) * 255
