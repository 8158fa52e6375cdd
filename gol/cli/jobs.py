"""Verbs that train and detect, here or as a job."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.cli.verbs import JSON, RUN, Option, Result, option, verb, whole
from gol.errors import UserError, plural

if TYPE_CHECKING:
    from gol.run_folder import RunFolder, RunSummary

_DEVICE = option("--device", help="cpu, cuda, cuda:1 … (default: the GPU if there is one)")
_SCORING = option(
    "--scoring",
    help="activation for the scores, or ACTIVATION+CALIBRATION (default: the config's first)",
)
_LAST = option(
    "--last",
    action="store_true",
    help="detect with the final weights, though validation found better ones (best.pth)",
)
_PER_CLASS = option(
    "--per-class",
    type=whole(1),
    metavar="N",
    help="the N best of each class over all images, instead of the best of each image, for the "
    "protocols fixed and pool (10000 on LVIS)",
)
_KEEP = option(
    "--keep-logits",
    dest="keep",
    action="store_true",
    help="also keep in the run folder what `gol calibrate` scores again",
)


@verb(RUN, _DEVICE, JSON)
def train(run: Path, device: str | None) -> Result | None:
    """Train a run, or continue it, in this process."""
    from gol.config.backbones import fetch_for
    from gol.engine.train import train
    from gol.run_folder import RunFolder

    fetch_for(RunFolder(run))
    summary = train(run, device)
    return _trained(summary) if _is_main() else None


def _launch_options() -> list[Option]:
    """One for each launch setting; none where the package lacks what launching needs."""
    try:
        from gol.cluster.settings import Settings
    except ModuleNotFoundError:
        return []
    return [
        option(
            f"--{name.replace('_', '-')}",
            type=whole(0) if setting.annotation is int else str,
            default=setting.default,
            help=setting.description.replace("%", "%%"),
        )
        for name, setting in Settings.model_fields.items()
    ]


@verb(
    RUN,
    option("--detect", type=Path, metavar="OUT", help="detect instead, and write this file"),
    _SCORING,
    _PER_CLASS,
    _LAST,
    _KEEP,
    JSON,
    later=_launch_options,
    extra="all",
)
def launch(
    run: Path,
    detect: Path | None,
    scoring: str | None,
    per_class: int | None,
    last: bool,
    keep: bool,
    **settings: Any,
) -> Result:
    """Train a run, or detect with it, as a submitit job, and wait for it."""
    from gol.cluster.launch import launch
    from gol.cluster.settings import Settings
    from gol.cluster.tasks import Detection, Training

    chosen = Settings(**settings)
    device = chosen.device or None
    if detect:
        launch(Detection(run, detect, scoring, device, last, per_class, keep), chosen)
        return Result({"out": str(detect)}, f"detections in {detect}")
    if scoring or per_class or last or keep:
        raise UserError("--scoring, --per-class, --last and --keep-logits need --detect OUT")
    return _trained(launch(Training(run, device), chosen))


@verb(
    RUN,
    option("--out", type=Path, help="where to write (default: where `gol evaluate RUN` looks)"),
    _SCORING,
    _PER_CLASS,
    option("--checkpoint", type=Path, help="weights instead of the run's own"),
    _LAST,
    _KEEP,
    _DEVICE,
    JSON,
)
def detect(
    run: Path,
    out: Path | None,
    scoring: str | None,
    per_class: int | None,
    checkpoint: Path | None,
    last: bool,
    keep: bool,
    device: str | None,
) -> Result | None:
    """Detect on the test images with a trained run."""
    from gol.config.own import own_part
    from gol.config.resolve import read_config
    from gol.engine.detect import detect
    from gol.run_folder import RunFolder

    strength = None
    if out is None:
        folder = RunFolder(run)
        if checkpoint or (last and folder.best.exists()):
            option = "--checkpoint" if checkpoint else "--last"
            raise UserError(
                f"{option} takes other weights than those that {run} is scored by: "
                "give --out, so that its own detections stay"
            )
        scoring = own_part(read_config(run)).scoring(scoring)
        out = folder.detections(scoring, bool(per_class))
        strength = _taken(folder, scoring) if per_class else None
    count = detect(run, out, scoring, checkpoint, device, last, per_class, keep, strength)
    if not _is_main():
        return None
    return Result({"out": str(out), "detections": count}, f"{plural(count, 'detection')} in {out}")


def _taken(folder: "RunFolder", scoring: str) -> float | None:
    """The strength that `gol calibrate` took, at which the run's own detections are."""
    from gol.calibration import calibration

    strength, method = folder.strength(scoring), scoring.partition("+")[2]
    if strength is None:
        return None
    chosen = calibration(method)
    try:
        chosen.strength(chosen.parameter, strength)
    except UserError as error:
        raise UserError(f"{folder.calibration(scoring)}: {error}") from error
    if strength != chosen.default and _is_main():
        text = f"{scoring} at {chosen.parameter} {strength:.3g}, as `gol calibrate` took it"
        print(text, file=sys.stderr, flush=True)
    return strength


def _trained(summary: "RunSummary") -> Result:
    text = (
        f"{plural(summary.iterations, 'iteration')} in {summary.seconds:.0f} s, "
        f"{summary.images_per_second:.1f} img/s on {summary.device}"
    )
    if found := summary.validation:
        score = f"{found.metric.replace('_', ' ')} {100 * found.best_score:.1f}"
        early = "stopped early; " if found.stopped_early else ""
        text += f"; {early}best {score} at iteration {found.best_iteration}"
    return Result(summary.model_dump(exclude_none=True), text)


def _is_main() -> bool:
    """Whether this is rank 0 of the processes that work together; it alone reports."""
    from gol.engine.distributed import find_address

    return find_address().rank == 0
