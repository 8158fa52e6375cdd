"""The activation figure: series of experiments over several models, ours beside the published."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gol.config.experiments import experiment as find_experiment
from gol.results import quoting
from gol.results.colours import assign_colours
from gol.results.drawing import new_figure, save, tidy, zero_based
from gol.results.plots import draw_bar
from gol.results.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRICS = {"AP": "all classes", "APr": "rare classes"}
_Groups = Mapping[str, Mapping[str, str]]


def plot_comparison(title: str, groups: _Groups, rows: Sequence[Row], path: str | Path) -> None:
    """Draws mask AP and APr of each series for each model.

    Full bars are ours (mean over seeds, whiskers one sample standard deviation, dots the single
    seeds), pale bars beside them the published values. What has not been trained leaves a gap.

    Args:
        title: stands above the figure.
        groups: model to name of the series to experiment.
        rows: result of ``gol.results.rows.collect``; the first scoring of an experiment is drawn.
        path: figure to write; the suffix gives the format.

    Raises:
        UserError: there is no experiment of that name.
    """
    from matplotlib.patches import Patch

    ours = {row.experiment: row for row in rows if row.primary}
    published = _published(groups, ours)
    looks = _looks(groups, bool(published))
    figure = new_figure(max(6.0, 3.0 + 1.6 * len(groups)), 4.2)
    panels = figure.subplots(1, len(_METRICS))
    for axes, (metric, text) in zip(panels, _METRICS.items(), strict=True):
        tidy(axes)
        _draw_panel(axes, metric, groups, ours, published, looks)
        axes.set_xticks(range(len(groups)), [*map(quoting.figure, groups)])
        axes.set_title(f"{metric} ({text})", loc="left", fontsize=10)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        zero_based(axes)
    panels[0].set_ylabel("mask AP × 100")
    legend = figure.legend(
        [Patch(**look) for look in looks.values()],
        [*map(quoting.figure, looks)],
        loc="outside upper left",
        ncols=2 if published else min(len(looks), 3),
        frameon=False,
        fontsize=9,
        title=quoting.figure(title),
        alignment="left",
    )
    legend.get_title().set_fontweight("bold")
    save(figure, path)


def _published(groups: _Groups, ours: Mapping[str, Row]) -> dict[str, dict[str, float]]:
    """Experiment to its published values, those of what is not trained too.

    There are none where a run is on another dataset than its published values.
    """
    values = {}
    for name in (name for group in groups.values() for name in group.values()):
        row, listed = ours.get(name), find_experiment(name).published
        if row and (row.elsewhere or (listed and not row.published)):
            return {}
        if numbers := (row.published if row else listed):
            values[name] = numbers
    return values


def _looks(groups: _Groups, with_published: bool) -> dict[str, dict[str, str | tuple]]:
    """The series' bars: in the full colour ours, pale with a line on top the published."""
    first = {name: each for group in reversed(groups.values()) for name, each in group.items()}
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    methods = {name: find_experiment(first[name]).axes.classifier for name in series}
    looks = {}
    for name, colour in ((name, assign_colours([methods])[name]) for name in series):
        looks[name] = {"facecolor": colour, "edgecolor": colour}
        if with_published:
            looks[f"{name}, published"] = {"facecolor": _pale(colour), "edgecolor": colour}
    return looks


def _draw_panel(
    axes: "Axes",
    metric: str,
    groups: _Groups,
    ours: Mapping[str, Row],
    published: Mapping[str, Mapping[str, float]],
    looks: Mapping[str, Mapping[str, str | tuple]],
) -> None:
    """A bar for each look and model; that of a series' published values is on the right of ours."""
    width, names = 0.8 / len(looks), list(looks)
    for place, group in enumerate(groups.values()):
        for series, experiment in group.items():
            x = place + (names.index(series) + 0.5) * width - 0.4
            row = ours.get(experiment)
            bar = {"width": 0.88 * width, "linewidth": 0.8}
            draw_bar(axes, x, row.values[metric] if row else [], **bar, **looks[series])
            value = published.get(experiment, {}).get(metric)
            if value is not None:
                draw_bar(axes, x + width, [value], **bar, **looks[f"{series}, published"])
                at = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
                axes.annotate(f"{value:.1f}", (x + width, value), fontsize=6.5, **at)  # 0.0 too


def _pale(colour: str) -> tuple[float, ...]:
    """The colour mixed with twice as much white: opaque, so that no grid line shines through."""
    from matplotlib.colors import to_rgb

    return tuple((part + 2) / 3 for part in to_rgb(colour))
