"""Intervals and tests, against scipy, by hand and by their coverage."""

import numpy as np
import pytest
from scipy import stats

from gol.results.significance import estimate, holm


def test_without_the_images_it_is_students_paired_test(rng):
    values, others = rng.normal(size=(2, 5))
    found = estimate(values - others, np.zeros((5, 10)))
    test = stats.ttest_rel(values, others)
    interval = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_without_the_seeds_it_is_the_normal_test_of_a_bootstrap(rng):
    resampled = np.broadcast_to(rng.normal(0, 2, 400), (4, 400))
    found = estimate(np.full(4, 3.0), resampled)
    assert found.high - found.mean == pytest.approx(
        stats.norm.ppf(0.975) * resampled[0].std(ddof=1)
    )
    assert found.p == pytest.approx(2 * stats.norm.sf(3 / resampled[0].std(ddof=1)))


def test_equal_rows_do_not_differ():
    found = estimate(np.zeros(3), np.zeros((3, 5)))
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_holm():
    """Worked out by hand: times 4, 3, 2, 1 from the least on, never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("of_seed", [0.0, 0.5, 1.0])
def test_intervals_hold_the_truth_as_often_as_they_say(rng, of_seed):
    """Five seeds on 60 images, each with an effect of its own; the least of 95 % that is chance."""
    trials, seeds, images = 400, 5, 60
    weights = rng.multinomial(images, np.full(images, 1 / images), size=150) / images
    held = 0
    for _ in range(trials):
        seed = of_seed * rng.normal(size=(seeds, 1))
        image = np.sqrt(images) * (1 - of_seed) * rng.normal(size=(1, images))
        numbers = seed + image + 0.1 * rng.normal(size=(seeds, images))
        found = estimate(numbers.mean(axis=1), numbers @ weights.T)
        held += found.low <= 0 <= found.high
        assert (found.p >= 0.05) == (found.low <= 0 <= found.high)
    assert 0.90 <= held / trials <= 0.985
