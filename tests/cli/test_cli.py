"""What bad input gets: one line that names the file, key and what is allowed, and exit code 2."""

import json
import os
import shutil
import subprocess
import sys
from ast import literal_eval
from inspect import getdoc
from pathlib import Path

import pytest
import yaml

import gol
from gol.cli import main
from gol.cli.verbs import VERBS, Verb
from gol.config.axes import axis_values
from gol.config.resolve import save_config
from gol.engine.checkpoints import save_checkpoint


def fails(capsys, *arguments):
    """Runs a verb that must fail; returns its one line."""
    assert main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in lines if not line.startswith("learning rate")]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"gol {arguments[0]}: error: ")
    return lines[0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: gol {verb}" in out and getdoc(VERBS[verb].action).split(":")[0][:60] in out


def test_gol_alone_prints_its_help(capsys):
    """As pip and docker do: exit code 0, on stdout."""
    assert main([]) == 0
    out = capsys.readouterr().out
    assert len(VERBS) == 23
    assert out.startswith("usage: gol ") and all(f"\n    {verb}" in out for verb in VERBS)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert (ended.value.code, capsys.readouterr().out) == (0, out)


def test_gol_says_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"gol {gol.__version__}\n")


def test_help_imports_nothing_but_pythons_own_library():
    code = (
        "import sys; from gol.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "own = {*sys.stdlib_module_names, 'gol', '__main__'}\n"
        "print({name.partition('.')[0] for name in sys.modules} - own, file=sys.stderr)"
    )
    bare = [sys.executable, "-c", "import sys; print({n.partition('.')[0] for n in sys.modules})"]
    site = subprocess.run(bare, capture_output=True, text=True, check=True).stdout
    for arguments in ([], ["--help"], ["train", "--help"], ["table", "--help"]):
        command = [sys.executable, "-c", code, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "usage: gol" in result.stdout
        # What an editable installation's .pth files import comes before any of our code.
        assert literal_eval(result.stderr) <= literal_eval(site), arguments


def test_the_exit_code_of_each_end(monkeypatch, capsys):
    from gol import errors

    def ends(error):
        def verb():
            raise error

        verb.__doc__ = "End."
        monkeypatch.setitem(VERBS, "demo", Verb(verb, (), tuple, "detection"))
        return main(["demo"]), capsys.readouterr().err

    assert ends(errors.UserError("bad\n input")) == (2, "gol demo: error: bad input\n")
    assert ends(errors.PeerError("said by another rank")) == (2, "")
    assert ends(errors.JobFailed("failed:\n  why")) == (1, "gol demo: failed:\n  why\n")
    assert ends(errors.Interrupted("stopped")) == (75, "gol demo: stopped\n")
    with pytest.raises(ModuleNotFoundError):  # not what an extra would install
        ends(ModuleNotFoundError("broken", name="broken"))
    assert ends(KeyboardInterrupt()) == (130, "gol demo: interrupted\n")


def test_a_closed_pipe_ends_in_silence(root):
    result = subprocess.run(
        "set -o pipefail; python -m gol experiments --json | true; echo $PIPESTATUS",
        shell=True,
        executable="/bin/bash",
        cwd=root,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train"], ["config", "demo/gumbel", "--seed", "x"]]
)
def test_wrong_usage_is_one_line_and_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_experiments_are_listed_with_their_axes(capsys):
    assert main(["experiments"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in gol.experiments()) and "classifier=gumbel" in out


@pytest.fixture
def dataset(tmp_path, demo_data):
    """A dataset file on copies that a test may damage."""
    shutil.copytree(demo_data / "raw", tmp_path / "raw")
    splits = {
        split: {
            "annotations": str(tmp_path / f"raw/{split}.json"),
            "images": str(tmp_path / f"raw/{split}"),
        }
        for split in ("train", "val")
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"source": "files", **splits, **common_settings()}))
    return path


def common_settings():
    keys = ("image_scales", "normalize", "pad", "repeat_threshold", "rare_frequency")
    return {key: axis_values("dataset")["demo"][key] for key in keys}


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "truncated annotations": (lambda raw: truncate(raw / "train.json"), "train.json"),
    "another schema": (lambda raw: (raw / "train.json").write_text('{"a": 1}'), "train.json"),
    "no category": (
        lambda raw: edit(raw / "train.json", lambda data: data.update(categories=[])),
        "categor",
    ),
    "no image in a split": (
        lambda raw: edit(raw / "val.json", lambda data: data.update(images=[], annotations=[])),
        "val.json",
    ),
    "missing image": (lambda raw: next((raw / "train").iterdir()).unlink(), "missing"),
    "truncated image": (lambda raw: truncate(next((raw / "val").iterdir())), "val.json"),
    "missing annotations": (lambda raw: (raw / "val.json").unlink(), "No such file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_data_is_refused_and_nothing_half_written(name, dataset, tmp_path, capsys):
    damage, words = DAMAGES[name]
    damage(tmp_path / "raw")
    line = fails(capsys, "preprocess", "--dataset", dataset, "--out", tmp_path / "out")
    assert words in line
    written = {path.name for path in (tmp_path / "out").glob("*")}
    assert written <= {"problems.json"}


@pytest.fixture
def run(tmp_path, demo_data):
    save_config(
        gol.load_experiment("demo/gumbel", {"runner.max_epochs": 1}, demo_data), tmp_path / "run"
    )
    return tmp_path / "run"


def test_unknown_names_are_refused(tmp_path, capsys):
    run = tmp_path / "run"
    assert "unknown experiment" in fails(capsys, "config", "gumbel", "--run", run)
    line = fails(capsys, "config", "demo/gumbel", "--run", run, "--set", "optimizer.lrr=1")
    assert "unknown key 'lrr'" in line and "did you mean 'lr'? allowed: lr, type" in line
    line = fails(capsys, "config", "demo/gumbel", "--run", run, "--set", "optimizer.lr={")
    assert "override optimizer.lr: '{' is neither JSON nor YAML" in line
    assert "unknown dataset" in fails(capsys, "demo", "--dataset", "coco", "--out", run)
    assert not run.exists()


@pytest.mark.parametrize("verb", ["train", "launch", "detect", "track", "table"])
def test_a_folder_that_is_no_run_is_refused(verb, tmp_path, capsys):
    options = {"detect": ["--out", tmp_path / "o"], "table": ["--out", tmp_path / "o"]}
    options["track"] = ["--name", "x", "--store", f"sqlite:///{tmp_path}/m.db"]
    assert str(tmp_path / "none") in fails(capsys, verb, tmp_path / "none", *options.get(verb, []))


def test_a_truncated_config_is_refused(run, capsys):
    truncate(run / "config.json")
    assert "config.json is not valid JSON" in fails(capsys, "train", run)


def test_a_checkpoint_of_other_classes_is_refused(run, tmp_path, demo_data, capsys):
    other = gol.load_experiment("demo/gumbel", None, demo_data)
    state = gol.build_detector(other).state_dict()
    state["roi_head.bbox_head.fc_cls.weight"] = state["roi_head.bbox_head.fc_cls.weight"][:12]
    save_checkpoint(tmp_path / "other.pth", state_dict=state, meta={})
    options = ["--checkpoint", tmp_path / "other.pth", "--out", tmp_path / "d.json"]
    assert "fc_cls.weight is (12, 256), the model has (41, 256)" in fails(
        capsys, "detect", run, *options
    )
    assert not (tmp_path / "d.json").exists()


def test_other_weights_never_replace_a_run_s_own_detections(run, tmp_path, capsys):
    out = run / "detections/gumbel.json"
    out.parent.mkdir()
    out.write_text("[]")
    (run / "best.pth").touch()
    for options in (["--checkpoint", tmp_path / "other.pth"], ["--last"]):
        line = fails(capsys, "detect", run, *options)
        assert f"error: {options[0]} takes other weights" in line and "give --out" in line
    assert out.read_text() == "[]"


@pytest.mark.parametrize("option", ["--scoring=gumbel", "--per-class=9", "--last", "--keep-logits"])
def test_options_of_a_detection_are_refused_for_a_training(option, run, capsys):
    assert "need --detect OUT" in fails(capsys, "launch", run, option)


def test_an_unknown_scoring_is_refused(run, tmp_path, demo_data, capsys):
    config = gol.load_experiment("demo/softmax", None, demo_data)
    save_config(config, run)
    save_checkpoint(run / "model.pth", state_dict=gol.build_detector(config).state_dict(), meta={})
    line = fails(capsys, "detect", run, "--scoring", "gumbal", "--out", tmp_path / "d.json")
    assert "unknown scoring 'gumbal' in demo/softmax; allowed: softmax" in line


def test_an_image_damaged_after_preprocessing_is_named(tmp_path, demo_data, capsys):
    data = tmp_path / "data"
    shutil.copytree(demo_data, data)
    truncate(sorted((data / "raw/train").iterdir())[3])
    save_config(
        gol.load_experiment("demo/gumbel", {"runner.max_epochs": 1}, data), tmp_path / "run"
    )
    assert sorted((data / "raw/train").iterdir())[3].name in fails(
        capsys, "train", tmp_path / "run"
    )


def test_an_unwritable_folder_is_named(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    line = fails(capsys, "config", "demo/gumbel", "--run", blocked / "run")
    assert "cannot write" in line and str(blocked) in line


@pytest.mark.parametrize("writer", ["checkpoint", "json"])
def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path, writer, full_disk):
    import torch

    from gol.errors import UserError
    from gol.files import write_json

    path = full_disk / "out"
    path.write_text("old")
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        if writer == "json":
            write_json(path, list(range(3_000_000)))
        else:
            save_checkpoint(path, state_dict={"weight": torch.zeros(3_000_000)})
    assert path.read_text() == "old"
    assert [entry.name for entry in full_disk.iterdir()] == ["out"]


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 1 MB."""
    import subprocess

    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)
