"""Verbs that train and detect, here or as a job."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from gol.cli.verbs import JSON, OUT, RUN, Result, option, verb, whole
from gol.cluster.settings import Settings

_DEVICE = option("--device", help="cpu, cuda, cuda:1 … (default: the GPU if there is one)")
_SCORING = option("--scoring", help="activation for the scores (default: the config's first)")


@verb(RUN, _DEVICE, JSON)
def train(run: Path, device: str | None) -> Result | None:
    """Train a run, or continue it, in this process."""
    from gol.engine.train import train

    summary = train(run, device)
    return Result(summary, _summary_line(summary)) if _is_main() else None


@verb(
    RUN,
    option("--detect", type=Path, metavar="OUT", help="detect instead, and write this file"),
    _SCORING,
    *(
        option(
            f"--{setting.name.replace('_', '-')}",
            type=whole(0) if setting.type is int else str,
            default=setting.default,
            help=setting.metadata["help"].replace("%", "%%"),
        )
        for setting in fields(Settings)
    ),
    JSON,
)
def launch(run: Path, detect: Path | None, scoring: str | None, **settings: Any) -> Result:
    """Train a run, or detect with it, as a submitit job, and wait for it."""
    from gol.cluster.launch import launch
    from gol.cluster.tasks import Detection, Work

    chosen = Settings(**settings)
    device = chosen.device or None
    if detect:
        launch(Detection(run, detect, scoring, device), chosen)
        return Result({"out": str(detect)}, f"detections in {detect}")
    summary = launch(Work(run, device), chosen)
    return Result(summary, _summary_line(summary))


@verb(
    RUN,
    OUT,
    _SCORING,
    option("--checkpoint", type=Path, help="weights instead of the run's model.pth"),
    _DEVICE,
    JSON,
)
def detect(
    run: Path, out: Path, scoring: str | None, checkpoint: Path | None, device: str | None
) -> Result | None:
    """Detect on the test images with a trained run."""
    from gol.engine.detect import detect

    count = detect(run, out, scoring, checkpoint, device)
    if not _is_main():
        return None
    return Result({"out": str(out), "detections": count}, f"{count} detections in {out}")


def _summary_line(summary: dict[str, Any]) -> str:
    return (
        f"{summary['iterations']} iterations in {summary['seconds']:.0f} s, "
        f"{summary['images_per_second']:.1f} img/s on {summary['device']}"
    )


def _is_main() -> bool:
    """Whether this is rank 0 of the processes that work together; it alone reports."""
    from gol.engine.distributed import find_address

    return find_address().rank == 0
