"""One bit flipped, or the end cut off, in each kind of file that a later step reads, and that step.

The suite does it 30 times for each kind. ``GOL_DAMAGE=150 pytest
tests/campaigns/test_damage.py -s`` does it 150 times for each and prints what became of it;
GOL_TEST_SEED repeats a run.
"""

import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from old_store import downgrade
from seeds import fresh_seed

from gol.config.resolve import read_config
from gol.data.annotations import load_annotations
from gol.data.store import AnnotationStore
from gol.engine.checkpoints import checkpoint_path, newest_checkpoint, save_checkpoint
from gol.engine.distributed import Ranks
from gol.engine.runlog import RunLog
from gol.engine.shards import write_sharded
from gol.errors import UserError
from gol.evaluation.inputs import read_detections, read_ground_truth
from gol.evaluation.lvis import evaluate_file
from gol.files import read_json
from gol.files.digests import sealed_line
from gol.losses.class_statistics import ClassStatistics
from gol.models.state import load_state
from gol.results.runs import read_curve, read_run
from gol.run_folder import RunFolder

CUTS = 0.15  # share of cuts; all else are flips
MEMORY = 4 << 30  # bytes that a damaged file may make us ask for
FAULTS = ("SILENT", "TRACEBACK", "MEMORY")

Kinds = dict[str, tuple[Path, Callable[[Path], object]]]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, demo_data, alone) -> Kinds:
    """Each kind of file with what the next step reads of it."""
    folder = tmp_path_factory.mktemp("damage")
    run, small = RunFolder(folder / "run"), folder / "small"
    data = shutil.copytree(demo_data, folder / "data", ignore=shutil.ignore_patterns("*.jpg"))
    shutil.copytree(alone, run.path)
    done = run.read_summary().iterations
    lines = ({"time": i, "iteration": i, "loss": 1 / i} for i in range(1, done + 1))
    run.metrics.write_text("".join(map(sealed_line, lines)))
    scorings = read_config(run.path)["gol"]["scorings"]
    detections = folder / "detections.json"
    write_detections(detections, data / "val.json")
    for scoring in scorings:
        evaluate_file(data / "val.json", detections, run.evaluation(scoring))
    write_small_checkpoints(small)
    shutil.copy(data / "train.store", data / "old.store")
    downgrade(data / "old.store")
    truth = read_ground_truth(data / "val.json")
    return {
        "checkpoint": (checkpoint_path(run.checkpoints, done), resumed),
        "small checkpoint": (checkpoint_path(small, 10), resumed),
        "model.pth": (run.weights, load_state),
        "train.store": (data / "train.store", whole_store),
        "store of 0.3.0": (data / "old.store", whole_store),
        "metrics.jsonl, plotted": (run.metrics, lambda path: read_curve(path.parent)),
        "metrics.jsonl, resumed": (run.metrics, resumed_log),
        "config.json": (run.config, lambda path: read_config(path.parent)),
        "train.json": (run.summary, lambda path: RunFolder(path.parent).read_summary()),
        "evaluation": (run.evaluation(scorings[0]), lambda path: read_run(path.parent.parent)),
        "detections": (detections, lambda path: read_detections(path, truth, None)),
        "val.json": (data / "val.json", read_ground_truth),
        "classes.json": (data / "classes.json", ClassStatistics.load),
        "summary.json": (data / "summary.json", read_json),
        "drawn annotations": (data / "raw" / "train.json", load_annotations),
    }


def write_detections(path: Path, annotations: Path) -> None:
    """The objects themselves, as if they had been found."""
    keys = ("image_id", "category_id", "bbox")
    objects = read_json(annotations)["annotations"]
    found = [{"score": 1 / a["id"], **{key: a[key] for key in keys}} for a in objects]
    write_sharded(path, [found], Ranks(0, 1, torch.device("cpu")))


def write_small_checkpoints(folder: Path) -> None:
    """Two, so small that most of the file is not weights."""
    for done in (5, 10):
        meta = {"iter": done, "fingerprint": "f", "seconds": 1.0, "started": 1.0}
        state = {"weight": torch.rand(9, 9), "count": torch.tensor(done)}
        path = checkpoint_path(folder, done)
        save_checkpoint(path, state_dict=state, optimizer={}, scaler={}, meta=meta)


def resumed(path: Path) -> object:
    return newest_checkpoint(path.parent)


def whole_store(path: Path) -> object:
    return AnnotationStore.open(path).dataset()


def resumed_log(path: Path) -> object:
    RunLog(path, 10**6, 10**6, 1, "run")
    return read_curve(path.parent)


def frozen(value: object) -> object:
    """A copy that is equal only if all is, NaN and types included."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return tuple((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    return repr(value) if not hasattr(value, "__dict__") else frozen(vars(value))


def spoil(path: Path, rng: np.random.Generator) -> str:
    """Damages a file; returns how."""
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    if rng.random() < CUTS:
        path.write_bytes(content[:place])
        return f"cut at {place}"
    bit = int(rng.integers(8))
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place}"


def become(read: Callable[[], object], wanted: object, said: Callable[[], str]) -> str:
    """What a step makes of a damaged file."""
    try:
        found = frozen(read())
    except UserError as error:
        return "MEMORY" if "does not fit into memory" in str(error) else "refused"
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {error}"
    if said():
        return "said, and gone on"
    return "harmless" if found == wanted else "SILENT"


@contextmanager
def little_memory():
    """Makes an error of what a damaged file asks for in excess."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def restored(folder: Path):
    """Gives the files beside a damaged one back, whatever a step did to them."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    try:
        yield
    finally:
        for path in set(folder.iterdir()) - before.keys():
            if path.is_file():
                path.unlink()
        for path, content in before.items():
            path.write_bytes(content)


@pytest.mark.parametrize("seed", [fresh_seed()])
@pytest.mark.slow
def test_damage_is_noticed_or_changes_nothing(kinds, seed, capsys):
    times = int(os.environ.get("GOL_DAMAGE", 30))
    rng, table, faults = np.random.default_rng(seed), {}, []
    for kind, (path, read) in kinds.items():
        wanted, table[kind] = frozen(read(path)), Counter()
        for _ in range(times):
            capsys.readouterr()
            with restored(path.parent), little_memory():
                how = spoil(path, rng)
                found = become(partial(read, path), wanted, lambda: capsys.readouterr().err)
            table[kind][found.split()[0].rstrip(",")] += 1
            if found.startswith(FAULTS):
                faults.append(f"{kind}, {how}: {found}")
    with capsys.disabled():
        if "GOL_DAMAGE" in os.environ:
            print(*(f"\n{kind:<24}{dict(sorted(table[kind].items()))}" for kind in table))
            print(f"{times * len(kinds)} in all", file=sys.stderr)
    assert not faults, "\n".join(faults)
    # Some must have been noticed, or nothing was damaged.
    assert sum(counts["refused"] + counts["said"] for counts in table.values()) > times
