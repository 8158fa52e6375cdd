"""The fractal dimension of the places where a class's objects are, by box counting."""

import numpy as np

_FINEST = 64  # cells of a side of the finest grid


def fractal_dimension(centres: np.ndarray) -> float:
    """The box-counting dimension of points in the unit square, from 1 to 2.

    N_G is the number of cells of a G x G grid with at least one of the M points; the dimension is
    the slope of log N_G over log G, by least squares, over the grids with at most M cells and
    G <= 64. Fewer than four points, and a slope below 1, count as 1.

    Args:
        centres: (M, 2), x and y of the objects' centres divided by the image's size, in [0, 1].

    Source: Alexandridis et al., "Fractal Calibration for Long-tailed Object Detection", CVPR 2025.
    """
    if len(centres) < 4:
        return 1.0
    grids = np.arange(1, min(_FINEST, int(np.sqrt(len(centres)))) + 1)
    counts = [_occupied(centres, grid) for grid in grids]
    slope = np.polyfit(np.log(grids), np.log(counts), 1)[0]
    return max(float(slope), 1.0)


def fractal_dimensions(labels: np.ndarray, centres: np.ndarray, classes: int) -> list[float]:
    """The dimension of each of C classes.

    Args:
        labels: (M,), from 0 to C - 1.
        centres: (M, 2) as for :func:`fractal_dimension`.
        classes: C.
    """
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(1, classes))
    return [fractal_dimension(part) for part in np.split(centres[order], bounds)]


def _occupied(centres: np.ndarray, grid: int) -> int:
    cells = np.clip((centres * grid).astype(np.int64), 0, grid - 1)
    return len(np.unique(cells[:, 0] * grid + cells[:, 1]))
