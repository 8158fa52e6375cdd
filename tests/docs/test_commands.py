"""What README.md, CONTRIBUTING.md and docs/ tell to type works: it is run here, or says why not."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import snakemake.exceptions
import torch
import yaml
from snakemake.cli import get_argument_parser

from gol.cli import main
from gol.cli.verbs import VERBS, build_parser
from gol.config.experiments import experiments
from gol.config.pipeline import read_pipeline

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: How a command begins that does not run here, and why. Of verbs the arguments are checked.
NOT_RUN = {
    "python3.11 -m venv": "makes an environment; tests/packaging compares it with `make`",
    "pip install": "installs; tests/packaging installs the wheel",
    "uv pip install": "as above",
    "PIP_CONSTRAINT=": "as above",
    "pre-commit install": "changes the checkout's git hooks",
    "pytest": "is the suite itself",
    "printf": "compiles mmcv for 10 minutes",
    "CC=": "as above",
    "export": "sets what the next command reads",
    "snakemake --report": "wants finished runs; tests/workflow",
    "gol report": "as above; tests/results",
    "gol compare": "as above",
    "gol weights mask": "as weights of backbones",
    "mlflow ui": "a server; tests/results starts one",
    "eval": "is bash's; tests/cli/test_completion.py types it",
    "snakemake --unlock": "removes locks of the folder in which it is typed",
    "gol demo": "draws 700 images; tests/data/test_demo.py",
    "gol download": "gigabytes; tests/sources downloads from a server of its own",
    "gol weights r": "hundreds of megabytes; as above",
    "gol pretrained GOL": "as above; tests/engine/test_pretrained.py",
    "gol serve": "a server; tests/results/test_serve.py",
    "curl": "asks that server",
    "gol predict CHECKPOINT": "as pretrained; tests/engine/test_predict.py",
    "sbatch": "a cluster's; tests/slurm starts several runs in one job",
    "gol launch": "a process; tests/cluster/test_launch.py",
}


def blocks(*kinds):
    """(document, content) of each fenced block of one of the kinds; '' is what a shell takes."""
    return [
        (path.name, content)
        for path in DOCUMENTS
        for kind, content in BLOCK.findall(path.read_text())
        if kind in kinds
    ]


def commands():
    """(document, command) as typed, without comments and without the environment's folder."""
    for document, content in blocks(""):
        for line in content.replace("\\\n", " ").splitlines():
            typed = re.sub(r"^[.]venv/bin/", "", re.split(r"\s+#\s", line)[0].strip())
            if typed:
                yield document, typed


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data, tiny_data, alone):
    """A checkout's files, and under the documents' own names an export, data and a finished run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "Makefile", "workflow", "profiles", "slurm"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("configs", "gol"):  # configs are looked for beside the package
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copytree(tiny_data / "raw/train", folder / "EXPORT/photos")
    labels = json.loads((tiny_data / "raw/train.json").read_text())
    for image in labels["images"]:
        image["file_name"] = Path(image.pop("coco_url")).name
    (folder / "EXPORT/labels.json").write_text(json.dumps(labels))
    (folder / "data").mkdir()
    (folder / "data/prepared").symlink_to(tiny_data)
    (folder / "results/lvis/data").mkdir(parents=True)
    (folder / "results/lvis/data/lvis_v1").symlink_to(demo_data)
    (folder / "RUN").symlink_to(alone)
    (folder / "PHOTOS").mkdir()
    shutil.copy(next((tiny_data / "raw/val").iterdir()), folder / "PHOTOS")
    return folder


def parse_gol(words):
    """Refuses an unknown verb, option or missing argument."""
    parser = build_parser()._subparsers._group_actions[0].choices[words[0]]
    parser.parse_args(words[1:])


def check_snakemake(words):
    options = get_argument_parser().parse_args(words)
    assert set(options.targets) <= {"all", "reproduce_table"}
    for profile in options.profile or ():
        assert profile == "mysite" or (ROOT / profile / "config.yaml").is_file()
    content = yaml.safe_load((options.configfile or [Path("configs/demo.yaml")])[0].read_text())
    given = dict(item.partition("=")[::2] for item in options.config or ())
    read_pipeline(content | {key: yaml.safe_load(value) for key, value in given.items()})


def check(words):
    """Runs a command or checks its arguments; says what is wrong by an exception."""
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", Path("Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif program == "snakemake":
        check_snakemake(rest)
    elif program == "torchrun":
        assert rest[0] == "--nproc_per_node" and rest[2:4] == ["-m", "gol"]
        parse_gol(rest[4:])
    elif words[:3] == ["python", "-m", "gol.compat"]:
        tools = Path(find_spec("mmdet").origin).parent / ".mim/tools"
        assert (tools / rest[2]).is_file()
    elif program == "gol":
        target = rest.index(">") if ">" in rest else len(rest)
        code = main(rest[:target])
        assert code == 0 or (rest[0] == "doctor" and code == 1)
    else:
        pytest.fail(f"neither run nor in NOT_RUN: {shlex.join(words)}")


@pytest.mark.slow
def test_every_command_runs_or_says_why_not(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    failed, used, done = [], set(), set()
    for document, typed in commands():
        if typed in done:
            continue
        done.add(typed)
        reasons = {start for start in NOT_RUN if typed.startswith(start)}
        used |= reasons
        words = shlex.split(typed)
        try:
            if not reasons:
                check(words)
            elif words[0] == "gol":
                parse_gol(words[1:])
        except (Exception, SystemExit) as error:
            failed.append(f"{document}: {typed}: {error} {capsys.readouterr().err[-300:]}")
        capsys.readouterr()
    assert not failed, "\n".join(failed)
    assert used == NOT_RUN.keys() and len(done) > 50
    ran = {typed.split()[1] for typed in done if typed.startswith("gol ")}
    assert ran >= {"import", "split", "config", "train", "detect", "evaluate", "plan", "doctor"}


@pytest.mark.slow
def test_the_three_commands_of_own_data_print_each_other(folder, monkeypatch, capsys):
    """And lead up to a dry run; a second `gol split` keeps what was changed by hand."""
    monkeypatch.chdir(folder)
    text = next(content for _, content in blocks("") if "gol import EXPORT" in content)
    _, divide, train = [shlex.split(line, comments=True) for line in text.splitlines()]

    def follow(words):
        assert main(words[1:]) == 0
        printed = re.search("^next: (.*)$", capsys.readouterr().out, re.MULTILINE)[1]
        return shlex.split(printed)

    assert follow(["gol", "import", "EXPORT", "--out", "data/mine"]) == divide
    assert follow(divide) == train
    file = folder / "data/mine/split/photos.yaml"
    file.write_text(
        file.read_text().replace("pad: 32", "pad: 64").replace("train: {", "train:\n  {")
    )
    assert follow([*divide, "--seed", "1"]) == train
    assert yaml.safe_load(file.read_text())["train"]["annotations"] == "data/mine/split/train.json"
    assert "pad: 64" in file.read_text()
    command = [Path(sys.executable).parent / "snakemake", "--dry-run", *train[1:]]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "reproduce_table" in result.stdout, result.stderr


def test_blocks_of_python_run():
    found = blocks("python")
    assert len(found) >= 2
    for document, content in found:
        names = {"logits": torch.randn(4, 1203), "one_hot": torch.eye(4, 1203)}
        exec(compile(content, document, "exec"), names)
        assert names["loss"] > 0


def test_blocks_of_yaml_are_pipelines_and_those_of_toml_entry_points():
    for document, content in blocks("yaml"):
        pipeline = read_pipeline({"dataset": "demo", "name": "x"} | yaml.safe_load(content))
        assert pipeline.experiments, document
    for _, content in blocks("toml"):
        groups = tomllib.loads(content)["project"]["entry-points"].keys()
        assert groups == {"gol.losses", "gol.activations"}


def test_there_are_no_other_blocks():
    kinds = {kind for path in DOCUMENTS for kind, _ in BLOCK.findall(path.read_text())}
    assert kinds <= {"", "python", "yaml", "toml", "text", "math"}


def test_every_message_that_is_explained_is_one_of_ours_or_of_a_library_s():
    known = [(ROOT / "Makefile").read_text()]
    for path in (ROOT / "gol").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        known += [n.value for n in nodes if isinstance(n, ast.Constant) and type(n.value) is str]
    known = "\n".join(known)
    messages = [content.strip() for name, content in blocks("text") if name == "faq.md"]
    for message in messages:
        first = message.split()[0]
        if hasattr(snakemake.exceptions, first) or first == "ImportError:":
            continue
        missing = [part for part in message.split("…") if part.strip(" .;") not in known]
        assert not missing, (message, missing)
    titles = re.findall("^### ", (ROOT / "docs/faq.md").read_text(), re.MULTILINE)
    assert len(titles) == len(messages) == 20


def test_every_verb_is_in_the_table_of_steps():
    page = (ROOT / "docs/commands.md").read_text()
    assert {verb for verb in VERBS if f"`gol {verb}`" not in page} == set()


def test_every_file_that_a_document_names_is_there():
    """Paths of the repository, in backticks or links."""
    for path in DOCUMENTS:
        text = path.read_text()
        named = re.findall(r"`((?:configs|tests|gol|examples|profiles|workflow)/[\w./-]+)`", text)
        for name in set(named) - set(experiments()):
            assert (ROOT / name).exists(), (path.name, name)
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (path.parent / link).exists(), (path.name, link)
