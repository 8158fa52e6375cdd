"""The activation figure: series of experiments over several models, ours beside the published."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gol.config.experiments import experiment as find_experiment
from gol.results import quoting
from gol.results.plots import COLOURS, draw_bar, new_figure, save, tidy
from gol.results.rows import Row

_METRICS = {"AP": "all classes", "APr": "rare classes"}


def plot_comparison(
    title: str, groups: Mapping[str, Mapping[str, str]], rows: Sequence[Row], path: str | Path
) -> None:
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
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    looks = {}  # full colour for ours, pale with a line on top for the published
    for name, colour in zip(series, COLOURS * len(series), strict=False):
        looks[name] = {"facecolor": colour, "edgecolor": colour}
        looks[f"{name}, published"] = {"facecolor": _pale(colour), "edgecolor": colour}
    figure = new_figure(3.0 + 1.6 * len(groups), 4.2)
    panels = figure.subplots(1, len(_METRICS))
    width = 0.8 / len(looks)
    names = [name for group in groups.values() for name in group.values()]
    shown = [ours[name] for name in names if name in ours]
    # Published numbers of what is not trained stand beside none of another dataset.
    elsewhere = any(
        not row.published and find_experiment(row.experiment).published for row in shown
    )
    for axes, (metric, text) in zip(panels, _METRICS.items(), strict=True):
        tidy(axes)
        for place, group in enumerate(groups.values()):
            for name, experiment in group.items():
                # The middle of this series' pair of bars lies half a bar to the right of x.
                x = place + (2 * series.index(name) + 0.5 - len(series)) * width
                row = ours.get(experiment)
                listed = None if elsewhere else find_experiment(experiment).published
                published = ((row.published if row else listed) or {}).get(metric)
                bar = {"width": 0.88 * width, "linewidth": 0.8}
                draw_bar(axes, x, row.values[metric] if row else [], **bar, **looks[name])
                draw_bar(axes, x + width, [published], **bar, **looks[f"{name}, published"])
                if published is not None:  # a bar of 0.0 would not be seen
                    at = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
                    axes.annotate(f"{published:.1f}", (x + width, published), fontsize=6.5, **at)
        axes.set_xticks(range(len(groups)), [*map(quoting.figure, groups)])
        axes.set_title(f"{metric} ({text})", loc="left", fontsize=10)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("mask AP × 100")
    legend = figure.legend(
        [Patch(**look) for look in looks.values()],
        [*map(quoting.figure, looks)],
        loc="outside upper left",
        ncols=len(looks),
        frameon=False,
        fontsize=9,
        title=quoting.figure(title),
        alignment="left",
    )
    legend.get_title().set_fontweight("bold")
    save(figure, path)


def _pale(colour: str) -> tuple[float, ...]:
    """The colour mixed with twice as much white: opaque, so that no grid line shines through."""
    from matplotlib.colors import to_rgb

    return tuple((part + 2) / 3 for part in to_rgb(colour))
