"""Outlines of the demo's shapes: polygons of area 1 around their centre of gravity, (n, 2)."""

import numpy as np


def rotate(points: np.ndarray, angle: float) -> np.ndarray:
    """The points (..., 2) turned around the origin by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


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
    return np.concatenate([rotate(arm, turn * np.pi / 2) for turn in range(4)])


def _crescent() -> np.ndarray:
    # along a circle to its other tip, and back along a smaller one through both tips
    tip, away = _arc(0.3 * np.pi, 0.3 * np.pi, 1)[0], np.array([0.45, 0])
    radius, start = np.hypot(*(tip - away)), np.arctan2(*(tip - away)[::-1])
    back = _arc(2 * np.pi - start, start, 25, radius)[1:-1] + away
    return np.concatenate([_arc(0.3 * np.pi, 1.7 * np.pi, 33), back])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 41)[:-1]
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], 1)


def _star() -> np.ndarray:
    points = np.stack([_arc(0, 2 * np.pi, 6)[:-1], rotate(_arc(0, 2 * np.pi, 6)[:-1], 0.63) * 0.42])
    return points.transpose(1, 0, 2).reshape(-1, 2)


def _polygon(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, float)


def _mirrored(*right: tuple[float, float]) -> np.ndarray:
    return np.concatenate([_polygon(*right), _polygon(*right[::-1]) * (-1, 1)])


#: Shape to its outline.
OUTLINES = {
    name: _unit(points)
    for name, points in {
        "bar": _polygon((-1.5, -0.5), (1.5, -0.5), (1.5, 0.5), (-1.5, 0.5)),
        "cross": _cross(),
        "disc": _arc(0, 2 * np.pi, 33)[:-1],
        "ring": _ring(),
        "square": _arc(0, 1.5 * np.pi, 4),
        "triangle": _arc(0, 4 / 3 * np.pi, 3),
        "arrow": _mirrored((0, -1), (0.9, 0), (0.35, 0), (0.35, 1)),
        "crescent": _crescent(),
        "ell": _polygon((-0.7, -1), (-0.1, -1), (-0.1, 0.4), (0.7, 0.4), (0.7, 1), (-0.7, 1)),
        "half": _arc(0, np.pi, 17),
        "heart": _heart(),
        "hourglass": _mirrored((1, -1), (0.15, 0), (1, 1)),
        "star": _star(),
        "tee": _mirrored((1, -0.9), (1, -0.3), (0.3, -0.3), (0.3, 0.9)),
    }.items()
}
