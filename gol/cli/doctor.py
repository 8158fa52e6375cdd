"""What is in place for training and what is missing, one line a check."""

import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from gol.config.datasets import export_files, load_dataset
from gol.data.images import file_names, find_image
from gol.data.sample import sample_images
from gol.errors import UserError, plural, without_secrets
from gol.progress import format_bytes

OK, NOTE, MISSING = "ok", "note", "missing"
_PACKAGES = ("torch", "torchvision", "mmcv-full", "mmdet", "hotcoco", "snakemake", "mlflow")
_SLURM_SECONDS = 10
_SAMPLE = 200  # images looked for in a split


class Check(NamedTuple):
    """One finding: ``missing`` is a problem to solve, ``note`` is not."""

    status: str
    name: str
    text: str


def diagnose(dataset: str | None = None, store: str | None = None) -> Iterator[Check]:
    """Checks this machine; nothing is written.

    Args:
        dataset: name in ``configs/datasets`` or YAML file whose files to look for; None: none.
        store: MLflow store to open; None: none.

    Yields:
        The findings, as they are made.

    Raises:
        UserError: there is no such dataset.
    """
    if dataset is not None:
        yield from _dataset(dataset)
    yield from _packages()
    yield _operators()
    yield from _gpus()
    yield _disk(dataset)
    yield from _weights()
    yield _slurm()
    if store is not None:
        yield _store(store)


def _dataset(name: str) -> Iterator[Check]:
    dataset = load_dataset(name)
    if dataset.source == "demo":
        yield Check(OK, "data", f"{name} is drawn by `gol demo`")
        return
    if exports := export_files(name):
        for export in exports:
            there = Path(export).exists()
            advice = "`gol import --dataset` reads it" if there else "no such file or folder"
            yield Check(OK if there else MISSING, "data export", f"{export}: {advice}")
        return
    advice = f"`gol download --dataset {name}` fetches it" if dataset.download else ""
    for split in ("train", "val"):
        annotations, folder = dataset.files(split, "")
        yield _split(split, annotations, folder, advice or f"see the dataset {name}")


def _split(split: str, annotations: Path, folder: Path, advice: str) -> Check:
    if not annotations.is_file():
        return Check(MISSING, f"data {split}", f"no {annotations}: {advice}")
    try:
        images = sample_images(annotations, _SAMPLE)
    except (UserError, OSError) as error:
        return Check(MISSING, f"data {split}", str(error))
    if not images:
        return Check(MISSING, f"data {split}", f"{annotations} names no images")
    found = [find_image(image, folder) for image in images]
    lost = [image for image, name in zip(images, found, strict=True) if not name]
    if lost:
        example = next(iter(file_names(lost[0])), "an image without file_name and coco_url")
        text = f"{len(lost)} of {len(images)} sampled images are not in {folder}, e.g. {example}"
        return Check(MISSING, f"data {split}", f"{text}: {advice}")
    folders = Counter(str((folder / name).parent) for name in found if name)
    places = ", ".join(f"{count} in {place}" for place, count in sorted(folders.items()))
    return Check(OK, f"data {split}", f"{annotations}; images sampled: {places}")


def _packages() -> Iterator[Check]:
    found, missing = [f"python {platform.python_version()}"], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Check(OK, "packages", ", ".join(found))
    if missing:
        yield Check(
            MISSING, "packages", f"{', '.join(missing)}: pip install '.[all]' in the checkout"
        )


def _operators() -> Check:
    """Runs mmcv's NMS and RoIAlign, by whatever carries them."""
    import torch

    from gol import compat

    try:
        compat.apply()
        from mmcv.ops import nms, roi_align

        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [5, 5, 9, 9]])
            kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1].tolist()
            rois = torch.tensor([[0.0, 0, 0, 4, 4]])
            mean = float(roi_align(torch.ones(1, 1, 8, 8), rois, (2, 2), 1.0, 2).mean())
    except Exception as error:  # whatever a broken installation raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Check(MISSING, "operators", f"mmcv does not run: {reason}")
    if kept != [0, 2] or mean != 1:
        return Check(MISSING, "operators", f"NMS keeps {kept}, RoIAlign of ones gives {mean}")
    compiled = "mmcv._ext" in sys.modules and hasattr(sys.modules["mmcv._ext"], "__file__")
    carrier = "mmcv-full's own" if compiled else "torchvision's"
    return Check(OK, "operators", f"NMS and RoIAlign: {carrier}")


def _gpus() -> Iterator[Check]:
    import torch

    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield Check(OK, f"cuda:{index}", f"{found.name}, {format_bytes(found.total_memory)}")
    if not torch.cuda.device_count():
        if shutil.which("nvidia-smi"):
            text = f"torch {torch.__version__} sees no GPU, though nvidia-smi is here: compare the"
            yield Check(MISSING, "gpu", f"{text} driver's CUDA with torch's ({torch.version.cuda})")
        else:
            yield Check(NOTE, "gpu", "none: training and detection run on the CPU")


def _disk(dataset: str | None) -> Check:
    from gol.sources.raw import check_disk

    try:
        check_disk(load_dataset(dataset).download if dataset else [])
    except UserError as error:
        return Check(MISSING, "disk", f"{error} for what is to be downloaded")
    free = shutil.disk_usage(Path.cwd()).free
    return Check(OK, "disk", f"{format_bytes(free)} free in {Path.cwd()}")


def _weights() -> Iterator[Check]:
    from gol.config.backbones import published_weights
    from gol.sources.download import Source, is_complete
    from gol.sources.weights import elsewhere, weights_path

    for name, weights in published_weights().items():
        path = weights_path(weights)
        try:
            there = path.is_file() if "page" in weights else is_complete(Source.of(weights), path)
        except UserError as error:
            yield Check(MISSING, f"weights {name}", str(error))
            continue
        advice = f"not in {path.parent}: "
        advice += elsewhere(weights) if "page" in weights else f"`gol weights {name}` fetches it"
        yield Check(OK if there else NOTE, f"weights {name}", str(path) if there else advice)


def _slurm() -> Check:
    if not (shutil.which("sinfo") and shutil.which("sbatch")):
        return Check(NOTE, "slurm", "neither sinfo nor sbatch here: jobs run on this machine")
    try:
        answer = subprocess.run(
            ["sinfo", "-h", "-o", "%P %a %D nodes"],
            capture_output=True,
            text=True,
            timeout=_SLURM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Check(MISSING, "slurm", f"sinfo gave no answer in {_SLURM_SECONDS} s")
    if answer.returncode:
        reason = " ".join(answer.stderr.split())
        if "configuration source" in reason:
            return Check(NOTE, "slurm", "the client is here, but no slurm.conf: set SLURM_CONF")
        return Check(MISSING, "slurm", f"the controller does not answer: {reason}")
    return Check(OK, "slurm", "; ".join(answer.stdout.split("\n")).strip("; "))


def _store(store: str) -> Check:
    from gol.results.tracking_store import connect, sqlite_path, tracking_errors, tracking_uri

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    try:
        uri = tracking_uri(store)
        path = sqlite_path(uri)
        if path is not None and not path.exists():
            return Check(NOTE, "mlflow", f"{path} is not there yet: `gol store` creates it")
        with tracking_errors(uri):
            count = len(connect(uri).search_experiments())
    except UserError as error:
        return Check(MISSING, "mlflow", str(error))
    return Check(OK, "mlflow", f"{without_secrets(uri)}: {plural(count, 'experiment')}")
