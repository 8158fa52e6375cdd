"""One image of the demo: a cluttered background and objects that cover each other.

Letters: S is the image's width and height, P the side of an object's patch.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from gol.data.demo.shapes import Combination, Sprite, draw_blob, draw_object

VISIBLE = 0.65  # at least this share of a labelled object can be seen
_SIZES = (16, 34)  # square root of an object's area in pixels, in an image of 96 x 96
_CLUSTER = 0.05  # share of objects placed beside another one, so that they touch or overlap


def draw_scene(
    labelled: Sequence[Combination],
    unlabelled: Sequence[Combination | None],
    size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draws one image.

    Args:
        labelled: the objects whose masks are wanted.
        unlabelled: further objects; None stands for a blob of clutter.
        size: S.
        rng: source of the randomness.

    Returns:
        The image, (S, S, 3) uint8 BGR, and for each labelled object the mask of what can be
        seen of it, (S, S) bool.

    Raises:
        ValueError: no place was found for an object: the image is too crowded.
    """
    scene = _Scene(size, rng)
    kinds = [*labelled, *unlabelled]
    numbers = {}
    for i in rng.permutation(len(kinds)).tolist():
        kind, keep = kinds[i], i < len(labelled)
        if kind is None:
            scene.place(lambda side: draw_blob(side, rng), False)
        else:
            numbers[i] = scene.place(lambda side, kind=kind: draw_object(kind, side, rng), keep)
    return scene.finish(), [scene.mask(numbers[i]) for i in range(len(labelled))]


class _Scene:
    """Canvas with a margin of S on each side, so that objects may stick out.

    ``_owner`` holds for each pixel the number of the object on top, 0 for the background and
    -1 for the margin.
    """

    def __init__(self, size: int, rng: np.random.Generator):
        self._size, self._rng = size, rng
        self._inner = (slice(size, 2 * size),) * 2
        self._pixels = np.zeros((3 * size, 3 * size, 3), np.float32)
        self._pixels[self._inner] = _background(size, rng)
        self._owner = np.full((3 * size, 3 * size), -1, np.int32)
        self._owner[self._inner] = 0
        # visible and needed pixels of each object; the background (0) needs none
        self._visible, self._needed = np.zeros(1), np.full(1, -np.inf)
        self._places: list[tuple[np.ndarray, float]] = []

    def place(self, draw: Callable[[float], Sprite], keep_visible: bool) -> int:
        """Puts an object on top where it fits and returns its number (0: nowhere, left out)."""
        low, high = np.log(np.array(_SIZES) * self._size / 96)
        side = float(np.exp(self._rng.uniform(low, high)))
        for _ in range(12):
            sprite = draw(side)
            for _ in range(10):
                centre = self._centre(side)
                if number := self._try(sprite, centre, keep_visible):
                    self._places.append((centre, side))
                    return number
            side *= 0.85
        if keep_visible:
            raise ValueError("no place for an object")
        return 0

    def mask(self, number: int) -> np.ndarray:
        """What can be seen of an object, (S, S) bool."""
        return self._owner[self._inner] == number

    def finish(self) -> np.ndarray:
        """The image with its light and noise, (S, S, 3) uint8."""
        rng, pixels = self._rng, self._pixels[self._inner]
        pixels = (pixels - 128) * rng.uniform(0.85, 1.1) + 128 + rng.uniform(-15, 15)
        pixels += rng.standard_normal(pixels.shape, np.float32) * rng.uniform(2, 8)
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    def _centre(self, side: float) -> np.ndarray:
        rng = self._rng
        if self._places and rng.random() < _CLUSTER:
            place, other = self._places[rng.integers(len(self._places))]
            angle = rng.uniform(0, 2 * np.pi)
            away = rng.uniform(0.4, 1.0) * (side + other) / 2
            centre = place + away * np.array([np.cos(angle), np.sin(angle)])
        else:
            centre = rng.uniform(0, self._size, 2)
        # A corner of an object may stick out of the image, rarely more.
        margin = 0.4 * side
        return np.clip(centre, margin, self._size - margin)

    def _try(self, sprite: Sprite, centre: np.ndarray, keep_visible: bool) -> int:
        side = len(sprite.alpha)
        x, y = np.rint(centre).astype(int) + self._size - side // 2
        window = (slice(y, y + side), slice(x, x + side))
        owner, mask = self._owner[window], sprite.mask
        inside = mask & (owner >= 0)
        visible, needed = inside.sum(), VISIBLE * mask.sum() if keep_visible else 0
        left = self._visible - np.bincount(owner[inside], minlength=len(self._visible))
        if visible == 0 or visible < needed or (left < self._needed).any():
            return 0
        number = len(self._visible)
        self._visible = np.append(left, visible)
        self._needed = np.append(self._needed, needed)
        owner[inside] = number
        alpha = sprite.alpha[..., None]
        self._pixels[window] += alpha * (sprite.colour - self._pixels[window])
        return number


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    cells = int(rng.integers(2, 8))
    # Duller than the objects, as most backgrounds are.
    grey = rng.uniform(70, 190)
    colours = grey + rng.uniform(-15, 15, 3) + rng.uniform(-25, 25, (cells, cells, 3))
    pixels = cv2.resize(colours.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(3, 9)):
        colour = (grey + rng.uniform(-60, 60, 3)).tolist()
        start, stop = rng.integers(0, size, (2, 2)).tolist()
        thick = int(rng.integers(1, 3))
        if rng.random() < 0.5:
            cv2.line(pixels, start, stop, colour, thick)
        else:
            axes = rng.integers(3, size // 5, 2).tolist()
            cv2.ellipse(pixels, start, axes, 0, 0, int(rng.integers(90, 360)), colour, thick)
    return pixels
