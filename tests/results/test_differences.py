"""Rows beside a baseline, from run folders whose detections are scored for real."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from lvis_oracle import random_dataset, random_detections, write
from run_folders import edit, make_run

from gol.cli import main
from gol.config.layout import Layout
from gol.errors import UserError
from gol.evaluation.lvis import evaluate_file
from gol.results.difference_file import Compared
from gol.results.differences import METRICS, compare, markdown, records, write_comparison
from gol.results.page_tables import difference_lines

NAMES = ("softmax", "gumbel", "worse")


@pytest.fixture
def runs(rng, tmp_path):
    """Three experiments, three seeds: gumbel is softmax again, and worse lacks half of it."""
    dataset = random_dataset(rng, images=30, classes=6, awkward=False)
    found = [random_detections(rng, dataset, crowded=0) for _ in range(3)]
    folders = []
    for name in NAMES:
        for seed in range(3):
            folder = make_run(tmp_path / f"{name}{seed}", name, seed)
            part = found[seed][:: 2 if name == "worse" else 1]
            (folder / "detections").mkdir()
            annotations, detections = write(tmp_path, dataset, part)
            scores = folder / "evaluation/gumbel.json"
            detections = detections.rename(folder / "detections/gumbel.json")
            evaluate_file(annotations, detections, scores)
            edit(folder / "config.json", data={"test": {"ann_file": str(tmp_path / "val.store")}})
            folders.append(folder)
    annotations.rename(tmp_path / "val.json")
    return folders


def test_what_is_equal_differs_by_nothing_and_what_is_worse_by_its_mean(runs):
    found = compare(runs, "demo/softmax", resamples=60)
    assert "AP" in found
    for metric in METRICS:
        rows = {row.experiment: row for row in found[metric]}
        if not rows:  # a group without classes
            continue
        scores = {
            name: [
                100 * json.loads((run / "evaluation/gumbel.json").read_text())["segm"][metric]
                for run in runs
                if run.name.startswith(name)
            ]
            for name in NAMES
        }
        for name in NAMES:
            assert rows[f"demo/{name}"].mean.mean == pytest.approx(np.mean(scores[name]))
        assert rows["demo/softmax"].difference is None
        assert rows["demo/gumbel"].p == 1
        worse = rows["demo/worse"]
        assert worse.difference.mean == pytest.approx(
            np.mean(scores["worse"]) - np.mean(scores["softmax"])
        )
        assert worse.difference.low < worse.difference.mean < worse.difference.high
        assert worse.p >= worse.difference.p  # two tests, so Holm's


def test_what_was_calibrated_by_hand_or_is_not_shown_stops_nothing(runs, capsys):
    """One of three seeds was calibrated, without its detections; Holm counts the rows shown."""
    for run in (runs[0], runs[5]):
        scores = (run / "evaluation/gumbel.json").read_text()
        (run / "evaluation/gumbel+norcal.json").write_text(scores)
    full = compare(runs, "demo/softmax", resamples=20)
    assert "left out: Softmax, NorCal and demo/softmax share 1 seed: " in capsys.readouterr().err
    assert len(full["AP"]) == 3
    layout = Layout({"": ["demo/softmax", "demo/worse"]})
    rows = compare(runs, "demo/softmax", resamples=20, layout=layout)["AP"]
    assert [row.experiment for row in rows] == ["demo/softmax", "demo/worse"]
    assert rows[1].p == pytest.approx(rows[1].difference.p)  # one test, so nothing to correct


def test_the_head_names_the_fewest_and_the_most_seeds(runs):
    (row, *_) = compare(runs, "demo/softmax", resamples=20)["AP"]
    found = {"AP": [replace(row, seeds=seeds) for seeds in (4, 3, 5)]}
    assert "mean over 3 to 5 seeds" in markdown(found).replace("\n", " ")


def test_files(runs, tmp_path):
    rows, text = write_comparison(runs, "demo/softmax", tmp_path / "out", resamples=20)
    assert json.loads((tmp_path / "out/differences.json").read_text()) == rows
    assert (tmp_path / "out/differences.md").read_text() == text
    with (tmp_path / "out/differences.csv").open() as file:
        assert [row["experiment"] for row in csv.DictReader(file)] == [
            r["experiment"] for r in rows
        ]
    assert "| Softmax " in text and "baseline" in text
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"out/figures/differences.{suffix}").stat().st_size > 5000


def test_the_report_shows_them(runs, tmp_path, capsys):
    rows, _ = write_comparison(runs, "demo/softmax", tmp_path / "out", resamples=20)
    path, page = tmp_path / "out/differences.json", tmp_path / "page.html"
    folders, out = [*map(str, runs)], ["--out", str(page)]
    assert main(["report", *folders, "--differences", str(path), *out]) == 0
    text = page.read_text()
    assert "Intervals: difference of each method" in text  # the figure's words
    own = next(r for r in rows if r["metric"] == "AP" and r["experiment"] == "demo/worse")
    table = text[text.index("<caption>Differences from the baseline") :]
    (line,) = re.findall(r"<tr><th[^>]*>Worse</th>(.*?)</tr>", table[: table.index("</table>")])
    assert line.startswith(f"<td>{own['difference']:+.1f} (".replace("-", "−"))
    assert ("*" in line.split("</td>")[0]) == own["real"]
    page.unlink()
    wrong = "differences.json is not a differences.json of `gol compare`\n"
    for content, message in [
        ('[{"label": "Gumbel"}]', wrong),
        ("{}", wrong),
        (json.dumps([{**rows[0], "label": 5}]), wrong),
        (json.dumps([{**rows[0], "mean": 10**400}]), wrong),
        (
            json.dumps([{**rows[0], "experiment": "x"}]),
            "compares x, which is none of the rows here\n",
        ),
        (json.dumps(rows), "differences.png is not a figure of `gol compare`\n"),
    ]:
        path.write_text(content)
        if content == json.dumps(rows):
            (tmp_path / "out/figures/differences.png").write_bytes(b"\x89PNG")
        capsys.readouterr()
        assert main(["report", *folders, "--differences", str(path), *out]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if "no examples" not in line]
        assert len(said) == 1 and f"{said[0]}\n".endswith(message) and not page.exists()
    (tmp_path / "out/figures/differences.png").unlink()
    assert main(["report", *folders, "--differences", str(path), *out]) == 0


def test_rows_of_one_label_are_rows_of_their_own(runs):
    first, *_ = records(compare(runs, "demo/softmax", resamples=20))
    same = [Compared(**first), Compared(**{**first, "experiment": "demo/other"})]
    assert len(difference_lines(same)) == 3
    assert difference_lines([]) == []


@pytest.mark.parametrize(
    ("baseline", "left", "message"),
    [
        ("demo/sofmax", 9, "baseline demo/sofmax: it is none of the runs; allowed: demo/softmax"),
        ("demo/softmax", 8, "demo/worse and demo/softmax share 2 seeds: intervals need"),
    ],
)
def test_refused(runs, baseline, left, message):
    with pytest.raises(UserError, match=message):
        compare(runs[:left], baseline)


def test_runs_on_other_data_and_without_detections_are_refused(runs, tmp_path):
    edit(runs[4] / "config.json", data={"test": {"ann_file": str(tmp_path / "other/val.store")}})
    with pytest.raises(UserError, match="scored on different data"):
        compare(runs, "demo/softmax")
    (runs[0] / "detections/gumbel.json").unlink()
    with pytest.raises(UserError, match=r"gumbel\.json"):
        compare([run for run in runs if "gumbel" not in run.name], "demo/softmax")
