"""The demo's objects: six shapes in four hues, solid or striped, drawn with soft edges.

A set of more classes than these combinations takes four more hues, and chequered objects.

Letters: P is the side of the square patch of pixels that holds one object.
"""

import colorsys
import itertools
from dataclasses import dataclass

import cv2
import numpy as np

SHAPES = ("bar", "cross", "disc", "ring", "square", "triangle")
HUES = {"red": 0.0, "lime": 0.25, "cyan": 0.5, "purple": 0.75}
TEXTURES = ("solid", "striped")
_MORE_HUES = {"orange": 0.1, "green": 0.375, "azure": 0.6, "pink": 0.875}
_MORE_TEXTURES = ("chequered",)

_TILT = np.pi / 6  # most that an object is turned either way
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


COMBINATIONS = tuple(
    Combination(shape, hue, texture) for shape in SHAPES for hue in HUES for texture in TEXTURES
)
ALL_HUES = HUES | _MORE_HUES
MORE_COMBINATIONS = tuple(
    Combination(*traits)
    for traits in itertools.product(SHAPES, ALL_HUES, (*TEXTURES, *_MORE_TEXTURES))
)


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
    outline = _OUTLINES[kind.shape] * size * (stretch, 1 / stretch)
    base = _colour(ALL_HUES[kind.hue] + rng.uniform(-0.05, 0.05), rng)
    angle = rng.uniform(-_TILT, _TILT)
    if kind.texture == "solid":
        return _render(_rotate(outline, angle), base, base, None, rng)
    period = max(3.5, size * rng.uniform(0.22, 0.3))
    stripes = _stripes(period, 2 * size)
    if kind.texture == "chequered":  # what stripes of both directions cover is filled once
        stripes = np.concatenate([stripes, _rotate(stripes, np.pi / 2)])
    stripes = _rotate(stripes, rng.uniform(0, np.pi))
    return _render(_rotate(outline, angle), base, base * rng.uniform(0.2, 0.4), stripes, rng)


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
    stripes: np.ndarray | None,
    rng: np.random.Generator,
) -> Sprite:
    """``outline`` (n, 2) around the origin, ``stripes`` (m, 4, 2) where ``second`` shows."""
    side = 2 * int(np.ceil(np.abs(outline).max())) + 3
    centre = side / 2 + rng.uniform(-0.5, 0.5, 2)
    alpha = _cover(outline[None] + centre, side)
    share = 0.0 if stripes is None else _cover(stripes + centre, side)[..., None]
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


def _stripes(period: float, reach: float) -> np.ndarray:
    starts = np.arange(-reach, reach, period)
    corners = np.array([[0, -reach], [period / 2, -reach], [period / 2, reach], [0, reach]])
    return corners + starts[:, None, None] * (1, 0)


def _rotate(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _colour(hue: float, rng: np.random.Generator) -> np.ndarray:
    red_green_blue = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.55, 1), rng.uniform(0.6, 1))
    return np.array(red_green_blue[::-1]) * 255


def _arc(start: float, stop: float, points: int, radius: float = 1.0) -> np.ndarray:
    angles = np.linspace(start, stop, points)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radius


def _unit(points: np.ndarray) -> np.ndarray:
    """The outline (n, 2) moved to its centre of gravity and scaled to area 1."""
    x, y = points.T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum() / 2
    centre = ((points + np.roll(points, -1, 0)) * cross[:, None]).sum(0) / (6 * area)
    return (points - centre) / np.sqrt(abs(area))


def _ring() -> np.ndarray:
    # out and back along one cut, so that the hole needs no second polygon
    return np.concatenate([_arc(0, 2 * np.pi, 33), _arc(2 * np.pi, 0, 33, 0.55)])


def _cross() -> np.ndarray:
    arm = np.array([[1, -0.33], [1, 0.33], [0.33, 0.33]])
    return np.concatenate([_rotate(arm, turn * np.pi / 2) for turn in range(4)])


_OUTLINES = {
    "bar": _unit(np.array([[-1.5, -0.5], [1.5, -0.5], [1.5, 0.5], [-1.5, 0.5]])),
    "cross": _unit(_cross()),
    "disc": _unit(_arc(0, 2 * np.pi, 33)[:-1]),
    "ring": _unit(_ring()),
    "square": _unit(_arc(0, 1.5 * np.pi, 4)),
    "triangle": _unit(_arc(0, 4 / 3 * np.pi, 3)),
}
