"""Rows, tables and figures from run folders with random numbers."""

import csv
import json
import re
import shutil
import statistics
import subprocess

import numpy as np
import pytest
from run_folders import PUBLISHED, bill, edit, edit_gol, make_run

from gol.config.layout import Layout
from gol.errors import UserError
from gol.results.report import report, write_tables
from gol.results.rows import METRICS, collect
from gol.results.runs import read_identity
from gol.results.tables import latex, markdown, records, table_lines
from gol.run_folder import RunFolder

FIGURES = ("ap_by_group", "ap_per_class", "examples", "loss_gradients", "training_loss")


def _cells(text):
    """The Markdown's first table as label → cells, published lines under ``<label> published``."""
    lines, label = {}, None
    for line in text.split("\n\n")[2].splitlines()[2:]:
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        label = first if first[0] != "↳" else label
        lines[label + first.removeprefix("↳") * (first[0] == "↳")] = cells
    return lines


def test_rows_hold_mean_and_sample_deviation_over_seeds(folders):
    rows = collect(folders)
    assert [(row.experiment, row.scoring) for row in rows] == [
        ("demo/sigmoid", "softmax"),
        ("demo/sigmoid", "sigmoid"),
        ("demo/softmax", "softmax"),
        ("demo/gumbel", "gumbel"),
    ]
    cells = _cells(markdown({"": rows}))
    for row in rows:
        assert row.seeds == (0, 1, 2)
        own = [folder for folder in folders if folder.name.startswith(row.experiment[5:])]
        results = [json.loads((f / f"evaluation/{row.scoring}.json").read_text()) for f in own]
        for column, metric in enumerate(METRICS, start=1):
            kind, name = ("bbox", "AP") if metric == "APb" else ("segm", metric)
            values = 100 * np.array([result[kind][name] for result in results])
            expected = f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
            assert cells[row.label][column] == expected, (row.label, metric)


def test_labels_name_the_scoring_where_there_are_several(folders):
    assert [row.label for row in collect(folders)] == [
        "Sigmoid (scored with softmax, as the original)",
        "Sigmoid (scored with sigmoid)",
        "Softmax",
        "Gumbel",
    ]


def test_published_numbers_stand_under_the_primary_scoring_only(folders):
    cells = _cells(markdown({"": collect(folders)}))
    assert [label for label in cells if label.endswith(" published")] == [
        "Sigmoid (scored with softmax, as the original) published",
        "Gumbel published",
    ]
    assert cells["Gumbel published"] == ["", *(str(PUBLISHED[metric]) for metric in METRICS)]


@pytest.mark.parametrize("dataset", ["own", "lvis_v1", "folder/mine.yaml", "folder/demo.yaml"])
def test_published_numbers_stand_beside_the_dataset_that_they_were_measured_on(folders, dataset):
    for folder in folders:
        edit_gol(folder, axes={"dataset": dataset})
    rows = collect(folders)
    assert "ublished" not in markdown({"": rows})
    assert all(row.published is None and row.differences == {} for row in rows)


def test_differences_stand_under_published_numbers_of_the_same_experiment_only(folders):
    rows = collect(folders)
    cells = _cells(markdown({"": rows}))
    gumbel = next(row for row in rows if row.label == "Gumbel")
    for column, metric in enumerate(METRICS, start=1):
        expected = statistics.fmean(gumbel.values[metric]) - PUBLISHED[metric]
        shown = cells["Gumbel difference"][column].replace("−", "-")
        assert shown[0] in "+-" and float(shown) == pytest.approx(expected, abs=0.0501)
    for folder in folders:
        edit_gol(folder, compare="activations/r50_4x4_1x")
    text = markdown({"": collect(folders)}).partition("| Training")[0]
    assert "↳" not in text and "ifference" not in text  # LVIS's numbers, on the demo


def test_numbers_published_on_other_data_are_a_column(tmp_path):
    runs = [
        make_run(tmp_path / "a", "sigmoid", scorings=("softmax", "sigmoid"), published=PUBLISHED),
        make_run(tmp_path / "b", "gumbel"),
    ]
    edit_gol(runs[0], compare="activations/r50_4x4_1x")
    rows = collect(runs)
    head, *lines = table_lines(rows)
    assert head[-1] == "published (LVIS v1)"
    assert [line[-1] for line in lines] == ["16.4 / 0.8", "", ""]
    assert max(map(len, markdown({"": rows}).splitlines())) <= 120
    for text in (markdown({"": rows}), latex({"": rows})):
        assert text.count("published (LVIS v1)") == 1 and text.count("16.4 / 0.8") == 1
    record = records({"": rows})[0]
    assert (record["AP_published"], record["published_on"]) == (16.4, "lvis_v1")
    assert record["AP_difference"] is None


def test_a_layout_gives_titled_tables_of_what_there_is(paper, tmp_path, undrawn):
    runs, layout = paper
    (small,), (other,) = layout.tables.values()
    text = markdown(report(runs, tmp_path / "out", layout))
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == ["Small", "Softmax against Gumbel", "Cost"]  # "Other" has no run
    assert max(map(len, text.splitlines())) <= 120
    parts = dict(zip(titles, re.split(r"^## .*$", text, flags=re.MULTILINE)[1:], strict=True))
    assert "| Gumbel, R-101 " in parts["Softmax against Gumbel"]
    assert "published values read off the paper's figure, ± 0.15" in parts["Softmax against Gumbel"]
    assert "R-101" not in parts["Small"] and "read off" not in parts["Small"]
    with open(tmp_path / "out/table.csv", encoding="utf-8") as file:
        lines = [(line["table"], line["experiment"]) for line in csv.DictReader(file)]
    assert lines == [
        ("Small", small),
        ("Softmax against Gumbel", "activations/gumbel/gumbel_r101_4x4_1x"),
    ]
    assert (tmp_path / "out/table.tex").read_text().count(r"\begin{tabular}") == 2
    assert {path.stem for path in (tmp_path / "out/figures").iterdir()} == set(layout.files)
    with pytest.raises(UserError, match="the layout names none of the runs; they hold activations"):
        report(runs, tmp_path / "out", Layout({"Other": [other]}))


def test_a_damaged_log_leaves_no_half_of_a_report(folders, tmp_path):
    (folders[0] / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="line 1"):
        report(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_markdown_lines_up_and_fits_a_terminal(folders):
    text = markdown({"": collect(folders)})
    assert max(map(len, text.splitlines())) <= 120
    for table in (part for part in text.split("\n\n") if part.startswith("|")):
        bars = {tuple(m.start() for m in re.finditer(r"\|", line)) for line in table.splitlines()}
        assert len(bars) == 1


def test_one_seed_has_no_spread(folders):
    rows = collect(folders[:3])
    text = markdown({"": rows})
    assert "±" not in "".join(line for line in text.splitlines() if line.startswith("|"))
    assert all(len(row.seeds) == 1 for row in rows)


def test_weights_that_validation_chose_are_noted(tmp_path):
    run = make_run(tmp_path / "run", statement="a drawn set.")
    found = {"metric": "segm_AP", "best_iteration": 90, "best_score": 0.2, "seconds": 1.5}
    edit(run / "train.json", validation={**found, "stopped_early": True})
    text = " ".join(markdown({"": collect([run])}).split())
    assert "Measured on a drawn set; the images by which validation chose the weights" in text


def test_statement_is_printed_once_and_only_if_there_is_one(folders, tmp_path):
    assert (
        markdown({"": collect(folders)}).count("**Measured on a drawn set, which is not LVIS.**")
        == 1
    )
    lvis = make_run(tmp_path / "lvis", statement=None)
    assert "**" not in markdown({"": collect([lvis])})


def test_setting_tells_data_protocol_and_engine(folders, tmp_path):
    text = markdown({"": collect(folders)})
    assert text.count("\n- ") == 1
    for part in ("dataset demo", "250 images", "hotcoco 1.3.0", "LVIS", "iou thresholds 0.5–0.95"):
        assert part in text.replace("\n  ", " ")
    other = make_run(tmp_path / "other", "other")
    edit(other / "evaluation/gumbel.json", images=100)
    text = markdown({"": collect([*folders, other])})
    assert text.count("\n- ") == 2
    assert "- Other: dataset demo, 100 images" in text


def test_unmeasurable_group_is_a_dash_not_a_zero(tmp_path):
    run = make_run(tmp_path / "run", scorings=("gumbel",), published=PUBLISHED)
    path = run / "evaluation/gumbel.json"
    segm = json.loads(path.read_text())["segm"]
    edit(path, segm={**segm, "APr": None})
    write_tables({"": collect([run])}, tmp_path / "out")
    assert _cells((tmp_path / "out/table.md").read_text())["Gumbel"][2] == "–"
    with open(tmp_path / "out/table.csv", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["APr"] == ""
    row = next(r for r in (tmp_path / "out/table.tex").read_text().splitlines() if "Gumbel" in r)
    assert row.split(" & ")[3] == "--"


def test_csv_holds_the_numbers_to_six_digits(folders, tmp_path):
    rows = collect(folders)
    write_tables({"": rows}, tmp_path / "out")
    with open(tmp_path / "out/table.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["label"] for line in lines] == [row.label for row in rows]
    for row, line in zip(rows, lines, strict=True):
        for metric in METRICS:
            assert float(line[metric]) == pytest.approx(
                statistics.fmean(row.values[metric]), rel=1e-5
            )
            assert float(line[f"{metric}_std"]) == pytest.approx(
                statistics.stdev(row.values[metric]), rel=1e-5
            )
        published = [line[f"{metric}_published"] for metric in METRICS]
        wanted = row.published if row.primary and row.published else {}
        assert published == [str(wanted.get(metric, "")) for metric in METRICS]
        for metric in METRICS:
            difference = line[f"{metric}_difference"]
            if wanted:
                expected = statistics.fmean(row.values[metric]) - wanted[metric]
                assert float(difference) == pytest.approx(expected, rel=1e-4, abs=1e-4)
            else:
                assert difference == ""
        assert float(line["train_seconds"]) == pytest.approx(statistics.fmean(row.seconds), 1e-5)
        assert line["statement"] == row.statement


def _costs(text):
    """The Markdown's last table as lines of cells."""
    lines = text.rstrip().split("\n\n")[-1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_cost_of_seeds_is_added_and_what_is_not_known_makes_it_a_bound(folders, tmp_path):
    rows = collect(folders)
    head, _, *lines = _costs(markdown({"A": rows, "B": rows}))
    assert head == ["Training", "n", "CPU-h", "images/s", "GB", "kWh", "parameters", "device"]
    hours = [sum(row.seconds) / 3600 for row in rows[1:]]  # the first is scored in two ways
    assert [line[0] for line in lines] == [
        *("Sigmoid", "↳ detection, scored with softmax", "↳ detection, scored with sigmoid"),
        *("Softmax", "↳ detection", "Gumbel", "↳ detection", "All"),
    ]
    assert [lines[i][2] for i in (0, 3, 5)] == [f"{each:.3f}" for each in hours]
    assert lines[-1][1:] == ["9", f"≥ {sum(hours):.3f}", "", "–", "–", "", ""]
    for folder in folders:
        run = RunFolder(folder)
        start = {"seconds": 900.0, "energy_kwh": 0.5, "memory_gb": 30.0}
        bill(run.cost, start, start)
        for scoring in read_identity(run).scorings:
            start = {"seconds": 90.0, "devices": 1, "energy_kwh": 0.025, "images_per_second": 50.0}
            bill(run.cost_of(run.detections(scoring)), start)
    head, _, *lines = _costs(markdown({"": collect(folders)}))
    assert head[2] == "GPU-h"
    assert lines[0][2:3] + lines[0][4:6] == ["6.00", "30.0", "3.00"]
    assert lines[1][2:] == ["0.075", "50.0 ± 0.0", "–", "0.075", "", ""]
    assert lines[-1][1:] == ["9", "18.3", "", "30.0", "9.30", "", ""]
    record = records({"": collect(folders)})[1]
    assert record["training_gpu_hours"] == pytest.approx(6) and record["training_cpu_hours"] == 0
    assert record["detection_images_per_second"] == 50
    assert record["detection_energy_kwh"] == pytest.approx(0.075)
    (folders[0] / "cost.json").unlink()  # a seed of an older version
    assert records({"": collect(folders)})[0]["training_energy_kwh"] is None
    head, _, line, *_ = _costs(markdown({"": collect(folders)}))
    assert head[2:4] == ["GPU-h", "CPU-h"] and line[head.index("kWh")] == "≥ 2.00"


def test_older_readers_find_their_columns_where_they_were(folders):
    columns = [*records({"": collect(folders)})[0]]
    place = columns.index("published_note")
    assert columns[place - 6 :][:6] == [
        *("train_seconds", "images_per_second", "parameters", "device", "setting", "statement")
    ]
    assert all("hours" in c or "detection" in c or "training" in c for c in columns[place + 1 :])


def test_latex_is_rectangular_and_compiles(folders, tmp_path):
    edit_gol(folders[1], label="A_b & c% {x} ~ ^ \\ #1 $2")
    write_tables({"": collect(folders)}, tmp_path / "out")
    text = (tmp_path / "out/table.tex").read_text()
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    # four rows, and two lines more below each of the two with published numbers
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [6] * 8
    assert text.count("{") == text.count("}")
    if shutil.which("kpsewhich") and subprocess.run(["kpsewhich", "booktabs.sty"]).returncode == 0:
        (tmp_path / "t.tex").write_text(
            r"\documentclass{article}\usepackage{booktabs}\begin{document}"
            r"\input{out/table.tex}\end{document}"
        )
        command = ["pdflatex", "-interaction=batchmode", "-halt-on-error", "t.tex"]
        subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_report_writes_everything_and_returns_the_tables(folders, tmp_path, undrawn):
    tables = report(iter(folders), tmp_path / "a" / "b")
    assert (tmp_path / "a/b/table.md").read_text() == markdown(tables)
    assert list(tables[""]) == collect(folders)
    written = {str(p.relative_to(tmp_path / "a/b")) for p in (tmp_path / "a/b").rglob("*.*")}
    figures = {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")}
    assert written == {"table.md", "table.csv", "table.tex"} | figures


def test_runs_that_do_not_belong_together_are_refused(tmp_path):
    run = make_run(tmp_path / "a")
    with pytest.raises(UserError, match="both hold experiment demo/gumbel, seed 0"):
        collect([run, make_run(tmp_path / "b")])
    other = make_run(tmp_path / "c", seed=1)
    edit(other / "evaluation/gumbel.json", images=7)
    with pytest.raises(UserError, match="not scored alike"):
        collect([run, other])
    with pytest.raises(UserError, match="no run folder given"):
        collect([])


def test_unwritable_folder_is_a_user_error(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report([run], tmp_path / "file" / "out")
