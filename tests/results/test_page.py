"""The report as a page: what is in it, and how Chromium shows it without a network."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from lvis_oracle import random_dataset, random_detections, write
from numpy.random import default_rng
from PIL import Image
from run_folders import draw_images, edit, make_run
from seeds import fresh_seed

from gol.cli import main
from gol.config.layout import Layout
from gol.errors import UserError
from gol.evaluation.lvis import evaluate_file
from gol.results import page_figures
from gol.results.page import headline, write_page
from gol.results.page_tables import cost_lines, setting_lines
from gol.results.rows import collect
from gol.results.runs import find_runs, read_runs

LABEL = "<script>document.title='taken'</script> <img src=x onerror=alert(1)> {{ 7 * 7 }} $x$"
CLASS = "</td></table><h1>class</h1> & _name_"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def _with_detections(run: Path, data: Path) -> None:
    """Gives a made-up run detections and their scores, on drawn annotations."""
    detections = run / "detections/gumbel.json"
    detections.parent.mkdir()
    shutil.copy(data / "detections.json", detections)
    test = {"ann_file": str(data / "val.store"), "img_prefix": str(data)}
    edit(run / "config.json", data={"test": test})
    evaluate_file(data / "val.json", detections, run / "evaluation/gumbel.json")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Two methods, the first with two seeds, on the same small data, hostile names in it."""
    folder = tmp_path_factory.mktemp("results")
    rng = default_rng(fresh_seed())
    dataset = random_dataset(rng, images=15)
    dataset["categories"][0]["name"] = CLASS
    annotations, _ = write(folder, dataset, random_detections(rng, dataset, crowded=0))
    annotations.rename(folder / "val.json")
    draw_images(rng, dataset, folder)
    for name, seed in (("gumbel", 0), ("gumbel", 1), ("other", 0)):
        run = make_run(folder / "runs" / f"{name}{seed}", name, seed)
        _with_detections(run, folder)
        content = json.loads((run / "config.json").read_text())
        content["gol"]["label"] = LABEL if name == "other" else "Gumbel"
        edit(run / "config.json", gol=content["gol"], optimizer={"lr": 0.1 + 0.1 * (name > "h")})
        points = [{"time": i, "iteration": i, "segm_AP": i / 100} for i in (10, 20, 30)]
        (run / "validation.jsonl").write_text("".join(f"{json.dumps(p)}\n" for p in points))
    assert main(["report", str(folder), "--out", str(folder / "report.html")]) == 0
    return folder


@pytest.fixture
def drawn_small(monkeypatch):
    """Figures are put together and become one pixel each, where the test is of something else."""
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig",
        lambda self, path, **_: Image.new("RGB", (1, 1)).save(path, "PNG"),
    )


def test_the_page_is_small_and_refers_to_nothing_outside(pipeline):
    text = (pipeline / "report.html").read_text()
    assert len(text) < 10_000_000
    assert not re.findall(r'(?:src|href)="(?!data:|#)|url\(|@import', text)
    pictures = re.findall(r"<img [^>]*>", text)
    assert len(pictures) == 8 and all(re.search(r'alt="[^"]{20,}"', each) for each in pictures)
    assert re.findall(r"<h1>", text) == ["<h1>"]  # the class has none
    assert "<script" not in text and "{{ 7 * 7 }}" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.slow
def test_chromium_shows_it_offline_on_a_screen_and_on_a_phone(pipeline):
    from playwright.sync_api import sync_playwright

    address, wrong = (pipeline / "report.html").as_uri(), []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        colours = []
        for width, scheme in ((1280, "light"), (390, "dark")):
            context = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
            )
            page = context.new_page()
            page.on("console", lambda message: wrong.append(message.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("dialog", lambda dialog: wrong.append(dialog.message))
            page.on(
                "request",
                lambda request: (
                    request.url.startswith(("data:", address)) or wrong.append(request.url)
                ),
            )
            page.goto(address)
            assert page.title() == "Results on demo"
            assert page.evaluate("document.documentElement.scrollWidth") == width
            sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
            assert len(sizes) == 8 and min(sizes) > 0
            assert page.get_by_role("rowheader", name=CLASS).count() == 1
            assert page.get_by_role("rowheader", name=LABEL).count() == 2
            levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName)")
            assert levels[0] == "H1" and levels.count("H1") == 1
            colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.close()
    assert colours == ["rgb(255, 255, 255)", "rgb(22, 24, 27)"]
    assert wrong == []


def test_a_run_can_be_chosen_and_one_that_is_not_there_is_refused(
    pipeline, tmp_path, capsys, drawn_small
):
    runs = find_runs([pipeline])
    assert [run.name for run in runs] == ["gumbel0", "gumbel1", "other0"]
    write_page(runs, tmp_path / "page.html", chosen=runs[1])
    assert "One run in detail: Gumbel, seed 1" in (tmp_path / "page.html").read_text()
    command = ["report", str(pipeline), "--out", str(tmp_path / "b.html"), "--run", str(tmp_path)]
    assert main(command) == 2
    assert "allowed are" in capsys.readouterr().err and not (tmp_path / "b.html").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is no run folder and holds none"):
        find_runs([tmp_path / "empty"])


def test_without_detections_the_page_says_what_is_missing(tmp_path):
    run = make_run(tmp_path / "run")
    edit(run / "config.json", data={"test": {"ann_file": "gone/val.store"}})
    both = {"R-18": {"Sigmoid": "demo/sigmoid", "Gumbel": "demo/gumbel"}}
    layout = Layout({"A title": ["demo/gumbel"]}, {"Sigmoid against Gumbel": both})
    write_page([run], tmp_path / "page.html", layout)
    text = (tmp_path / "page.html").read_text()
    assert "are not shown: gone/val.json is missing" in text and text.count("<img") == 5
    assert "<h3>A title</h3>" in text and "each model: Sigmoid against Gumbel" in text


def test_a_damaged_validation_is_named_and_leaves_no_page(tmp_path, drawn_small):
    run = make_run(tmp_path / "run")
    (run / "validation.jsonl").write_text('{"iteration": 3}\n')
    with pytest.raises(UserError, match=r"validation\.jsonl, line 1 is damaged"):
        write_page([run], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_headline_names_the_best_and_how_sure_that_is(tmp_path):
    runs = [make_run(tmp_path / name, name, skill=s) for name, s in (("bad", 0.2), ("good", 0.6))]
    assert re.match(
        r"Good has the highest mask AP, [\d.]+ \([\d.]+ on rare classes\), [\d.]+ more than Bad\. "
        "One seed does not tell",
        headline(collect(runs)),
    )
    runs += [make_run(tmp_path / f"{n}1", n, 1, skill=s) for n, s in (("bad", 0.2), ("good", 0.6))]
    assert re.search(r"AP, [\d.]+ ± [\d.]+ .*: mean .* over 2 seeds\.$", headline(collect(runs)))
    runs.append(make_run(tmp_path / "other", "other"))
    edit(runs[-1] / "evaluation/gumbel.json", images=7)
    said = headline(collect(runs))
    assert said.count("On dataset demo: ") == 2 and "more than Other" not in said
    for run in runs:
        path = run / "evaluation/gumbel.json"
        segm = json.loads(path.read_text())["segm"]
        edit(path, images=7, segm=dict.fromkeys(segm, 0.0))
    assert headline(collect(runs)) == "AP is 0.0 everywhere: nothing was found yet."


def test_another_dataset_s_classes_stand_in_no_table_with_these(tmp_path, drawn_small):
    runs = [make_run(tmp_path / name, name) for name in ("first", "second")]
    path = runs[1] / "evaluation/gumbel.json"
    classes = json.loads(path.read_text())["per_class"]
    edit(path, images=7, per_class=[{**each, "name": "a wheel"} for each in classes])
    write_page(runs, tmp_path / "page.html", chosen=runs[0])
    assert "a wheel" not in (tmp_path / "page.html").read_text()


def test_costs_and_differences_of_configurations(pipeline):
    runs = read_runs(find_runs([pipeline]))
    assert setting_lines(runs) == [
        ["Key", "Gumbel", LABEL],
        ["optimizer.lr", "0.1", "0.2"],
        ["gol.axes.classifier", "gumbel", "other"],
    ]
    head, *lines, last = cost_lines(runs)
    for run, line, detection in zip(runs, lines[::2], lines[1::2], strict=True):
        cost = dict(zip(head, line, strict=True))
        assert float(cost["CPU-h"]) == pytest.approx(run.train.seconds / 3600, abs=6e-4)
        assert cost["Parameters"] == "1,240,000" and cost["GB"] == cost["kWh"] == "–"
        assert detection[:3] == ["↳ detection", "–", "–"]
    assert last[:2] == [f"All ({len(runs)} runs)", f"≥ {_hours(runs):.3f}"]


def _hours(runs):
    return sum(run.train.seconds for run in runs) / 3600


def test_a_picture_of_photos_is_embedded_in_less_than_4_mb(tmp_path, rng):
    """Whatever the photos are; a browser has to open the page."""
    noise = rng.integers(0, 256, (4500, 1200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", compress_level=1)
    picture = page_figures._embed(tmp_path / "a.png", "", "")
    assert picture.source.startswith("data:image/jpeg") and len(picture.source) < 4e6
    assert (picture.width, picture.height) == (1200, 4500)
