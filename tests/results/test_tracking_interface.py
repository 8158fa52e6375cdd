"""MLflow's own pages, clicked through: the list by AP, runs compared, artifacts."""

import json
import shutil

import pytest
from mlflow_stores import get, served
from run_folders import make_run

from gol.results.tracking import page_of
from gol.results.tracking_pipeline import log_pipeline

TABLE = """
| Method | n | AP  |
| ------ | - | --- |
| Gumbel | 2 | 1.0 |
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def interface(made_once, empty_store):
    """(address, link to the list of runs, folder) of a pipeline in ``mlflow ui``."""

    def fill(folder):
        (folder / "mlflow.db").write_bytes(empty_store)
        runs = [
            make_run(folder / name, name.rstrip("01"), int(name[-1]), skill=skill, lines=5)
            for name, skill in (("gumbel0", 0.6), ("gumbel1", 0.5), ("softmax0", 0.2))
        ]
        (folder / "table.md").write_text(TABLE)
        (folder / "parent").write_text(log_pipeline(runs, folder / "mlflow.db", "demo", folder))

    folder = made_once("interface", fill)
    link = page_of(folder / "mlflow.db", "demo")
    with served(folder) as address:
        yield address, link.replace("http://127.0.0.1:5000", address), folder


@pytest.fixture
def page():
    """A page of a real browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_the_interface_without_options_serves_the_runs(interface):
    address, _, folder = interface
    run_id = (folder / "parent").read_text()
    run = json.loads(get(f"{address}/api/2.0/mlflow/runs/get?run_id={run_id}"))["run"]
    assert run["info"]["run_name"] == "demo"
    table = get(f"{address}/get-artifact?run_uuid={run_id}&path=table.md")
    assert table == (folder / "table.md").read_text()


def test_runs_by_ap_compared_and_their_artifacts(interface, page, tmp_path):
    _, link, _ = interface
    page.goto(link)
    runs = page.locator("a[href*='/runs/']").filter(has_text="demo")
    runs.filter(has_text="softmax").wait_for()
    page.screenshot(path=tmp_path / "list.png")
    assert [text.strip() for text in runs.all_inner_texts()] == [
        *("demo/gumbel, seed 0", "demo/gumbel", "demo/gumbel, seed 1", "demo/softmax, seed 0"),
        "demo",
    ]
    for name in ("demo/gumbel, seed 0", "demo/softmax, seed 0"):
        row = page.locator("[role=row]").filter(has=page.get_by_text(name, exact=True))
        row.locator("input[type=checkbox]").first.check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Comparing 2 Runs").wait_for()
    chosen = page.locator(".ant-select-selection-item, [class*=select-selection-item]")
    chosen.filter(has_text="segm_AP").first.wait_for()
    page.screenshot(path=tmp_path / "compare.png")
    page.goto(link)
    runs.filter(has_text="softmax").click()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("per_class.json").first.click()
    page.get_by_text("class_12", exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "artifacts.png")


def test_the_parent_shows_the_table(interface, page, tmp_path):
    address, link, folder = interface
    experiment = link.split("/experiments/")[1].split("/")[0]
    page.goto(f"{address}/#/experiments/{experiment}/runs/{(folder / 'parent').read_text()}")
    page.locator("td").filter(has_text="1.0").first.wait_for(state="attached")
    page.get_by_text("demo/gumbel").first.wait_for()
    page.screenshot(path=tmp_path / "parent.png")
