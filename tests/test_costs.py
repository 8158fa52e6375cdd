"""What run folders of this and of older versions say that they took."""

import json
import shutil

import pytest
from run_folders import bill, edit, edit_gol, make_run

from gol.costs import Cost, detection_cost, total, training_cost
from gol.errors import UserError
from gol.results.runs import read_run
from gol.results.tracking_content import content_hash
from gol.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder(make_run(tmp_path / "run"))


def test_all_starts_are_added_and_the_highest_memory_counts(run):
    edit(run.summary, device="cuda:0", ranks=4, seconds=1000.0)  # not 4 GPUs all the time
    killed = {"seconds": 900.0, "energy_kwh": 0.5, "memory_gb": 30.0}
    moved = {"seconds": 360.0, "devices": 1, "energy_kwh": 0.125, "memory_gb": 20.0}
    bill(run.cost, killed, moved, {"seconds": 60.0, "device": "cpu", "devices": 6, "energy_kwh": 0})
    found = training_cost(run)
    assert found.hours == {"GPU": pytest.approx(1.1), "CPU": pytest.approx(0.1)}
    assert (found.energy_kwh, found.memory_gb) == (0.625, 30.0)
    assert found.images_per_second == run.read_summary().images_per_second
    bill(run.cost, killed, {"seconds": 360.0})
    assert training_cost(run).energy_kwh is None  # not half of it


def test_of_a_run_of_an_older_version_the_summary_is_known(run):
    edit(run.summary, device="cuda:0", ranks=2)
    seconds = run.read_summary().seconds
    assert training_cost(run).hours == {"GPU": 2 * seconds / 3600}
    assert training_cost(run).memory_gb is None
    edit(run.summary, device="cpu")
    edit_gol(run.path, threads=3)
    assert training_cost(run).hours == {"CPU": 6 * seconds / 3600}
    *lines, last = run.metrics.read_text().splitlines()
    lines[5] = json.dumps({**json.loads(lines[5]), "memory_gb": 1.25})
    run.metrics.write_text("\n".join([*lines, last, ""]))
    assert training_cost(run).memory_gb == 1.25
    assert detection_cost(run, "gumbel") == Cost({})
    bill(run.cost, {"seconds": 1.0, "device": "cpu", "devices": 6})  # continued by this version
    assert training_cost(run).hours == {"CPU": 6 * seconds / 3600}


def test_the_detection_of_the_best_of_each_class_is_part_of_the_cost(run):
    usual, best = (run.detections("gumbel", per_class) for per_class in (False, True))
    twice = {"seconds": 180.0, "memory_gb": 9.0, "images_per_second": 2.0}
    bill(run.cost_of(best), twice)
    assert detection_cost(run, "gumbel") == Cost({})  # not a part of it
    bill(run.cost_of(usual), {"seconds": 90.0, "images_per_second": 5.0})
    found = detection_cost(run, "gumbel")
    assert (found.hours, found.memory_gb) == ({"GPU": pytest.approx(0.3)}, 9.0)
    assert found.images_per_second == 5.0
    before = content_hash(read_run(run.path))
    bill(run.cost_of(best), twice, twice)
    assert content_hash(read_run(run.path)) != before


def test_of_several_what_is_known_is_added():
    parts = [Cost({"GPU": 2.0}, energy_kwh=1.0, memory_gb=8.0), Cost({}), Cost({"CPU": 0.5})]
    expected = {"gpu_hours": 2.0, "cpu_hours": 0.5, "energy_kwh": 1.0, "peak_memory_gb": 8.0}
    assert total(parts) == expected
    assert total([]) == {}


def test_a_damaged_list_is_named_and_a_restart_forgets_it(run):
    bill(run.cost, {"seconds": 1.0})
    run.cost.write_text(run.cost.read_text().replace("1.0", "2.0"))
    with pytest.raises(UserError, match=r"cost\.json is damaged"):
        training_cost(run)
    other = RunFolder(shutil.copytree(run.path, run.path.with_name("other")))
    other.clear()
    assert not other.cost.exists()
    run.cost.write_text('[{"seconds": "1"}]')
    with pytest.raises(UserError, match=r"cost\.json: key 'attempts.0.started' is missing"):
        training_cost(run)
