"""The official GOL checkpoints as run folders that ``gol detect`` and ``gol evaluate`` take."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from gol.errors import UserError, pick, without_secrets
from gol.files import configs_folder, read_yaml
from gol.run_folder import RunFolder


@cache
def pretrained() -> dict[str, dict[str, str]]:
    """Name of every official checkpoint to its experiment and URL."""
    return read_yaml(configs_folder() / "pretrained.yaml")


def fetch_pretrained(name: str, out: str | Path | None = None) -> Path:
    """Downloads an official checkpoint unless it is there.

    Args:
        name: a key of :func:`pretrained`.
        out: file, or folder that exists; by default torch.hub's cache.

    Returns:
        The file.

    Raises:
        UserError: unknown name, no network, a full disk.
    """
    from gol.sources.download import Source, fetch
    from gol.sources.weights import cache_path

    entry = pick("checkpoint", name, pretrained())
    path = Path(out) if out else cache_path(f"{name}.pth")
    source = Source.of(entry)
    try:
        return fetch(source, path / f"{name}.pth" if path.is_dir() else path)
    except UserError as error:
        advice = (
            f"get {source.urls[0]} elsewhere and name it by `gol pretrained {name} --file FILE`"
        )
        raise UserError(f"{error}. Without network, {advice}") from error


def prepare_run(
    name: str,
    run: str | Path,
    file: str | Path | None = None,
    prepared: str | Path | None = None,
) -> None:
    """Makes a run folder of an official checkpoint: config and weights, no training.

    Args:
        name: a key of :func:`pretrained`.
        run: folder to write.
        file: the checkpoint, if it is at hand; otherwise it is downloaded.
        prepared: folder written by ``gol preprocess``, as for ``gol config``.

    Raises:
        UserError: the folder was trained in already, the checkpoint does not fit the experiment's
            detector in every name and shape, the data are not prepared.
    """
    from gol.config.own import own_part
    from gol.config.resolve import fingerprint, load_experiment, save_config
    from gol.engine.checkpoints import save_checkpoint
    from gol.models import build_detector
    from gol.models.state import load_state, load_weights

    run, entry = RunFolder(run), pick("checkpoint", name, pretrained())
    config = load_experiment(entry["experiment"], None, prepared)
    _check_free(run, config)
    wanted = fingerprint(config)  # fails early where the data are missing
    path = Path(file) if file else fetch_pretrained(name)
    detector = build_detector(config, initialise=False)
    load_weights(detector, path)
    classes = load_state(path)[1].get("CLASSES")
    classes = list(classes) if isinstance(classes, list | tuple) else []
    save_config(config, run.path)
    meta = {
        "CLASSES": classes,
        "fingerprint": wanted,
        "scoring": own_part(config).activations[-1],
        "source": without_secrets(entry["url"]),
    }
    save_checkpoint(run.weights, state_dict=detector.state_dict(), meta=meta)


def _check_free(run: RunFolder, config: Any) -> None:
    """The folder is new, or an earlier call made it."""
    from gol.config.resolve import load_config

    if traces := run.traces():
        raise UserError(f"{run} was trained already (it has {traces[0].name}): name another folder")
    if run.config.exists():
        found, wanted = (
            json.dumps(c._cfg_dict, sort_keys=True) for c in (load_config(run.path), config)
        )
        if found != wanted:
            raise UserError(f"{run.config} is of another experiment: name another folder")
