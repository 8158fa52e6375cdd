"""The files of a run: named in one place, and asked in one place how far it is."""

import ast
from pathlib import Path, PurePosixPath

import pytest
from run_folders import edit, make_run

import gol
from gol.errors import UserError
from gol.run_folder import RunFolder, RunSummary

SUMMARY = RunSummary(
    fingerprint="abc",
    iterations=9,
    seconds=1.5,
    images_per_second=7.0,
    parameters=5,
    device="cpu",
    started=1.0,
    finished=2.0,
)


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "iteration_00000005.pth").touch()
    (run.checkpoints / "iteration_00000010.pth").touch()
    return run


def test_a_run_is_finished_when_weights_and_summary_are_there(run):
    assert run.finished("abc") is None and not run.of_another("abc")
    assert run.progress() == "iteration_00000010.pth"
    run.write_summary(SUMMARY)
    assert run.finished("abc") is None
    run.weights.touch()
    assert run.finished("abc") == SUMMARY
    assert run.finished("other") is None and run.of_another("other") and not run.of_another("abc")
    assert "trained with another configuration" in str(run.refusal())


def test_what_a_training_left_is_removed_and_the_rest_stays(run):
    for path in (run.config, run.weights, run.metrics, run.job, run.training_lock):
        path.touch()
    run.logs.mkdir()
    assert run.traces() == [run.checkpoints, run.metrics]
    run.clear()
    assert sorted(run.path.iterdir()) == sorted([run.config, run.logs, run.training_lock])
    assert run.progress() == "" and run.traces() == []


def test_a_summary_of_0_1_0_lacks_the_ranks(tmp_path):
    run = RunFolder(make_run(tmp_path / "run"))
    assert run.read_summary().ranks == 1
    edit(run.summary, seconds=None)
    with pytest.raises(UserError, match=r"train\.json: key 'seconds' must be a number, not None"):
        run.read_summary()


NAMES = {
    *("config.json", "model.pth", "train.json", "metrics.jsonl", "checkpoints", "job.json"),
    *("logs", "evaluation", "tracked.txt", ".train.lock"),
}
#: Names outside of runs that look alike: torch.hub's folder, and a key of mmdet's configs.
ALIKE = {
    ("sources/weights.py", "checkpoints"),
    ("config/overrides.py", "evaluation"),
    ("config/resolve.py", "evaluation"),
    ("config/trusted.py", "evaluation"),
}


def _texts(tree):
    """All constant texts of a module but its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        constant = isinstance(node, ast.Constant) and id(node) not in docstrings
        if constant and isinstance(node.value, str):
            yield node.value


def test_the_names_in_a_run_folder_stand_in_one_module():
    package = Path(gol.__file__).parent
    found = {
        (path.relative_to(package).as_posix(), part)
        for path in package.rglob("*.py")
        for text in _texts(ast.parse(path.read_text()))
        for part in PurePosixPath(text).parts
        if part in NAMES
    }
    inside = {part for module, part in found if module == "run_folder.py"}
    assert inside == NAMES
    assert {pair for pair in found if pair[0] != "run_folder.py"} == ALIKE
