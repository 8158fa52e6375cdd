"""Weights that stand alone: what detector they are of, and class counts that were left behind."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gol.config.datasets import load_dataset
from gol.config.experiments import experiment as find_experiment
from gol.config.resolve import load_config, load_experiment
from gol.errors import UserError, plural
from gol.losses import LOSSES
from gol.losses.class_statistics import ClassStatistics
from gol.models.init import file_classes
from gol.models.state import load_state
from gol.run_folder import RunFolder

_STATE = "--classes coco (COCO's 80) or --classes dog,cat,…"


def detector_of(
    run: str | Path,
    checkpoint: str | Path | None = None,
    experiment: str | None = None,
    config: str | Path | None = None,
    dataset: str | None = None,
    classes: str | None = None,
) -> tuple[Any, Path, list[str]]:
    """A detector's resolved config, its weights and the names of its classes.

    Args: as for :func:`gol.engine.predict.load_detector`.

    Raises:
        UserError: as there.
    """
    path = Path(run)
    alone = path.is_file()
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    if checkpoint and alone:
        raise UserError(f"{path} and --checkpoint both name weights: give one of them")
    if not alone and (experiment or config):
        raise UserError(f"{path} is not a file: only a checkpoint needs --experiment or --config")
    if dataset and not experiment:
        raise UserError("--dataset says at what size --experiment detects: give both")
    if experiment and config:
        raise UserError("--experiment and --config both say what the checkpoint is: give one")
    weights = path if alone else Path(checkpoint or RunFolder(path).chosen)
    if experiment:
        names = _names(weights, classes)
        return _resolve(weights, experiment, dataset, names), weights, names
    if alone and not config:
        config = RunFolder(path.parent).config
        if not config.exists():
            raise UserError(
                f"{path} does not say what detector it is of: --experiment NAME or --config FILE"
                " (the run's config.json)"
            )
    found = load_config(config or path)
    names = _names(weights, classes)
    if len(names) != (count := _heads(found)[0].num_classes):
        raise UserError(f"{weights} names {plural(len(names), 'class')}, the config has {count}")
    return found, weights, names


def _names(weights: Path, stated: str | None) -> list[str]:
    return file_classes(weights, load_state(weights)[1], stated, _STATE)


def _resolve(weights: Path, name: str, dataset: str | None, classes: Sequence[str]) -> Any:
    """An experiment for the classes of a file, whose training data are elsewhere."""
    axes = find_experiment(name).axes
    # own/* name the demo until one's own data are named; they are meant for photos' size.
    dataset = dataset or (axes.dataset if axes.init == "none" else "own")
    count = load_dataset(dataset).num_classes
    if count not in (None, len(classes)):
        raise UserError(
            f"{weights} names {plural(len(classes), 'class')}, dataset {dataset} has {count}: "
            "name another --dataset, at whose image size to detect"
        )
    with TemporaryDirectory() as folder:
        _equal_counts(classes).save(Path(folder) / "classes.json")
        return load_experiment(name, {"dataset": dataset}, folder)


@contextmanager
def counted(config: Any, classes: Sequence[str]) -> Iterator[Any]:
    """The config, of which a loss finds class counts where the training's own are elsewhere.

    Raises:
        UserError: the scores follow from the counts.
    """
    config = copy.deepcopy(config)
    with TemporaryDirectory() as folder:
        lent = Path(folder) / "classes.json"
        for loss in (head.loss_cls for head in _heads(config)):
            path = loss.get("class_statistics")
            if path is None or Path(path).exists():
                continue
            if LOSSES[loss.type].scores_by_counts or loss.get("use_classif") == "cls_rel":
                raise UserError(
                    f"{loss.type} scores by the class counts of its training, which are not here: "
                    "name its config.json, --config, where the prepared data are"
                )
            _equal_counts(classes).save(lent)
            loss.class_statistics = str(lent)
        yield config


def _heads(config: Any) -> list[Mapping[str, Any]]:
    heads = config.model.roi_head.bbox_head
    return heads if isinstance(heads, list) else [heads]


def _equal_counts(classes: Sequence[str]) -> ClassStatistics:
    once = (1,) * len(classes)
    ids, groups = tuple(range(1, len(classes) + 1)), ("f",) * len(classes)
    return ClassStatistics(ids, tuple(classes), groups, once, once, 1, 1)
