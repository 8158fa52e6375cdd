"""Figures of finished runs: what they show, and that they do so again."""

import json
import math

import numpy as np
import pytest
from run_folders import edit, edit_gol, make_run

from gol.results import class_plots, plots
from gol.results.colours import METHODS, PALETTE, assign_colours
from gol.results.comparison import plot_comparison
from gol.results.drawing import png_alone
from gol.results.report import report
from gol.results.rows import collect


def test_the_comparison_shows_ours_where_trained_and_the_published_everywhere(paper, tmp_path):
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    runs, layout = paper
    ((title, groups),) = layout.figures.items()

    def bars(rows):
        """Pixels in the two panels (not the legend) of: softmax, gumbel, and both published."""
        with png_alone():
            plot_comparison(title, groups, rows, tmp_path / "figure.png")
        pixels = imread(tmp_path / "figure.png")[100:, :, :3]
        full = [to_rgb(METHODS[method]) for method in ("softmax", "gumbel")]
        pale = [tuple((part + 2) / 3 for part in colour) for colour in full]
        return [int((np.abs(pixels - np.array(c)).max(-1) < 0.01).sum()) for c in full + pale]

    edges = bars([])  # the published bars' edges have the full colour
    both = bars(collect(runs))
    assert min(edges[2:]) > 500 and min(both[2:]) > 100
    assert both[1] > edges[1] + 500  # Gumbel was trained
    assert both[0] < edges[0] + 500  # Softmax was not

    for run in runs:
        edit_gol(run, axes={"dataset": "mine.yaml"})
    assert max(bars(collect(runs))[2:]) < 100  # no published numbers beside another dataset's
    assert not (tmp_path / "figure.pdf").exists()


@pytest.mark.slow
def test_figures_show_each_experiment_in_its_colour(folders, tmp_path):
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    rows = collect(folders)
    plots.plot_groups({"": rows}, tmp_path / "groups.png")
    assert (tmp_path / "groups.pdf").read_bytes().startswith(b"%PDF")
    with png_alone():
        class_plots.plot_per_class({"": rows}, tmp_path / "classes.png")
        plots.plot_curves(folders, {"": rows}, tmp_path / "curves.png")
    for name in ("groups", "classes", "curves"):
        pixels = imread(tmp_path / f"{name}.png")[..., :3]
        for colour in (METHODS[method] for method in ("sigmoid", "softmax", "gumbel")):
            hits = np.abs(pixels - np.array(to_rgb(colour))).max(-1) < 0.01
            assert hits.sum() > 100, (name, colour)
        absent = np.abs(pixels - np.array(to_rgb(METHODS["droploss_gumbel"]))).max(-1) < 0.01
        assert absent.sum() == 0, name


@pytest.mark.slow
def test_figures_are_reproducible_and_survive_missing_values(tmp_path):
    run = make_run(tmp_path / "run")
    path = run / "evaluation/gumbel.json"
    content = json.loads(path.read_text())
    classes = [{**entry, "segm_AP": None} for entry in content["per_class"]]
    edit(path, segm=dict.fromkeys(content["segm"]), per_class=classes)
    (run / "metrics.jsonl").write_text("")
    for name in ("a", "b"):
        report([run], tmp_path / name)
    for figure in (tmp_path / "a/figures").iterdir():
        assert figure.read_bytes() == (tmp_path / "b/figures" / figure.name).read_bytes()


def test_a_method_keeps_its_colour_whatever_is_beside_it():
    alone = assign_colours([{"b": "gumbel"}])
    beside = assign_colours(
        [{"a": "sigmoid", "a@slow": "sigmoid", "x": "of my own", "b": "gumbel"}]
    )
    assert alone["b"] == beside["b"] == METHODS["gumbel"] and beside["a"] == METHODS["sigmoid"]
    assert len(set(beside.values())) == 4
    full = {str(index): "of my own" for index in range(len(PALETTE))}
    assert set(assign_colours([full]).values()) == set(PALETTE)
    # The same experiment in two tables has one colour, and differs from all beside it in both.
    two = assign_colours([{"a": "gumbel", "b": "x"}, {"c": "x", "b": "x"}])
    assert two["a"] != two["b"] != two["c"]


def test_legends_lie_within_the_figure_and_flat_results_have_a_scale(tmp_path):
    import matplotlib.figure

    label = "GOL (DropLoss, normed mask, repeat factors) $x$ " * 5
    runs = []
    for index in range(5):
        runs.append(make_run(tmp_path / str(index), f"run{index}"))
        edit_gol(runs[-1], label=f"{index} {label}")
        path = runs[-1] / "evaluation/gumbel.json"
        content = json.loads(path.read_text())
        classes = [{**entry, "segm_AP": 0.0} for entry in content["per_class"]]
        edit(path, segm=dict.fromkeys(content["segm"], 0.0), per_class=classes)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_plots, "mark_groups", lambda axes, _: drawn.append(axes))
        class_plots.plot_per_class({"": collect(runs)}, tmp_path / "figure.png")
    (axes,) = drawn
    figure: matplotlib.figure.Figure = axes.figure
    inside = axes.get_legend().get_window_extent()
    assert figure.bbox.x0 <= inside.x0 and inside.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= inside.y0 and inside.y1 <= figure.bbox.y1
    assert axes.get_ylim()[1] >= 1


@pytest.mark.parametrize("length", [0, 1, 2, 39, 40, 100, 333])
def test_running_mean_equals_a_loop(length):
    values = np.random.default_rng(length).normal(size=length)
    half = length // 40
    expected = [values[max(0, i - half) : i + half + 1].mean() for i in range(length)]
    np.testing.assert_allclose(plots._running_mean(values), expected, atol=1e-12)


def test_bins_keep_every_class_once():
    rng = np.random.default_rng()
    counts, values = rng.integers(0, 5000, 300).astype(float), rng.random(300)
    position = np.log1p(counts)
    width = (position.max() - position.min()) / 8
    bins = {}
    for where, value in zip(position, values, strict=True):
        bins.setdefault(min(7, math.floor((where - position.min()) / width)), []).append(value)
    centres, means = class_plots._binned(counts, values)
    np.testing.assert_allclose(means, [np.mean(bins[key]) for key in sorted(bins)], rtol=1e-9)
    assert (np.diff(centres) > 0).all()
