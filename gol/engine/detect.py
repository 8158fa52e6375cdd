"""Checkpoint in, detections out: one JSON list in COCO's result format."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gol.config.own import own_part
from gol.config.resolve import fingerprint, load_config
from gol.engine.bill import Bill
from gol.engine.distributed import Ranks, join
from gol.engine.per_class import find_cutoffs
from gol.engine.precision import find_precision
from gol.engine.preemption import Preemption
from gol.engine.shards import write_sharded
from gol.engine.shares import HALF, ImageShare, batch_size
from gol.errors import UserError
from gol.files import exclusive, remove
from gol.models.state import DamagedError, load_weights
from gol.run_folder import RunFolder

if TYPE_CHECKING:
    from gol.calibration import Known
    from gol.engine.kept import KeptFolder
    from gol.models.keep import Keeper

_STOPPED = "the detection was asked to stop (SIGUSR2) and begins anew"
_OPTIMISTIC = (
    "weights {name}, which validation chose by the same images: their score is a little optimistic "
    "(--last: the final weights)"
)


def detect(
    run: str | Path,
    out: str | Path,
    scoring: str | None = None,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    last: bool = False,
    per_class: int | None = None,
    keep: bool = False,
    strength: float | None = None,
) -> int:
    """Detects on the test images of a run's dataset; called in every process of a job.

    Args:
        run: folder of a trained run.
        out: JSON file to write: a list of {image_id, category_id, score, bbox (x, y, w, h in
            pixels), segmentation (compressed RLE)}.
        scoring: activation that turns logits into scores; default the config's first.
        checkpoint: weights to use instead of the run's own, which are those that scored best where
            the training validated, else the last.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU, one per rank.
        last: use the last weights in any case.
        per_class: take the best so many of each class over all images instead of the best of each
            image, whatever their scores: what AP-fixed and AP-pool want. It takes two passes.
        keep: also keep what ``gol calibrate`` scores again, in the run folder.
        strength: of the scoring's calibration; default the method's.

    Returns:
        The number of detections.

    Raises:
        UserError: no config or checkpoint, a checkpoint of other classes, unknown scoring, a
            damaged image, a full disk, a strength out of range, both ``checkpoint`` and ``last``.
        PeerError: another rank failed.
        Interrupted: SIGUSR2 came and no other handler took over.
    """
    if checkpoint and last:
        raise UserError("--checkpoint and --last both name weights: give one of them")
    with Preemption() as preemption, join(device) as ranks:
        config = load_config(run)
        own = own_part(config)
        scoring = own.detected(scoring, per_class, keep)
        torch.set_num_threads(own.threads)
        wanted = None if checkpoint else fingerprint(config)
        folder = RunFolder(run)
        weights = checkpoint or (folder.weights if last else folder.chosen)
        if weights == folder.best and ranks.is_main:
            text = f"{own.experiment}  {_OPTIMISTIC.format(name=weights.name)}"
            print(text, file=sys.stderr, flush=True)
        activation = scoring.partition("+")[0]
        detection = Detecting(config, folder, weights, wanted, ranks, preemption)
        calibrated = detection.calibrated(scoring, Path(out), strength)
        with detection.alone(folder.kept(activation, "val")) if keep else nullcontext():
            count = detection.write(out, activation, "val", keep, calibrated, per_class)
        own_place = Path(out).resolve() == folder.detections(scoring).resolve()
        if calibrated and own_place and ranks.is_main:
            _forget_calibration(folder, scoring, calibrated[2])
        return count


class Detecting:
    """Detections of one training on one set of images after another.

    Args:
        config: the resolved config.
        folder: the run's.
        weights: file of the weights.
        wanted: fingerprint that the weights must have; None: any.
        ranks: this process among the others.
        preemption: asks to stop.
    """

    def __init__(
        self,
        config: Any,
        folder: RunFolder,
        weights: str | Path,
        wanted: str | None,
        ranks: Ranks,
        preemption: Preemption,
    ) -> None:
        self.config, self.folder, self.weights, self.wanted = config, folder, weights, wanted
        self.ranks, self.preemption, self.name = ranks, preemption, own_part(config).experiment

    def calibrated(
        self, scoring: str, out: Path, strength: float | None
    ) -> "tuple[str, Known, float] | None":
        """The calibration of a scoring, what it needs to know and its strength; None without one.

        LogN measures logits on training images for it.
        """
        from gol.calibration import calibration
        from gol.engine.known import read_known, say_empty_classes

        activation, _, method = scoring.partition("+")
        if not method:
            return None
        chosen = calibration(method)
        value = chosen.strength(chosen.parameter, self.ranks.broadcast(strength))
        measured = self.kept_half(activation, out).read_index() if method == "logn" else None
        known = read_known(self.config, method, measured)
        if self.ranks.is_main:
            say_empty_classes(known, method)
        return method, known, value

    def kept_half(self, activation: str, billed: Path | None = None) -> "KeptFolder":
        """The kept logits of half of the training images; detects there unless that was done.

        Args:
            activation: turns logits into scores.
            billed: the detections on whose bill that stands; None: on no bill.
        """
        from gol.engine.keeping import kept_folder

        folder = kept_folder(self.folder, activation, HALF)
        with self.alone(folder.path):
            held = self.ranks.is_main and folder.holds(self.weights)
            if not self.ranks.broadcast(held):
                out = folder.path.with_suffix(".json")
                self.write(out, activation, HALF, keep=True, billed=billed)
                if self.ranks.is_main:
                    remove(out)
        return folder

    @contextmanager
    def alone(self, kept: Path) -> Iterator[None]:
        """Rank 0 holds the lock of kept logits, since two detections would mix their files."""
        with ExitStack() as stack:
            if self.ranks.is_main:
                try:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    with self.preemption.at_once(_STOPPED):
                        text = f"{kept}: waiting for the process that writes it"
                        stack.enter_context(exclusive(kept, text))
                except OSError as error:
                    raise UserError(f"cannot write {kept}: {error.strerror or error}") from error
            self.ranks.barrier()
            yield

    def write(
        self,
        out: str | Path,
        activation: str,
        part: str,
        keep: bool = False,
        calibrated: "tuple[str, Known, float] | None" = None,
        per_class: int | None = None,
        billed: Path | None = None,
    ) -> int:
        """Detects on the images ``part``; returns the number of detections in ``out``."""
        from gol.engine.keeping import Keeping

        keeping = Keeping(self, activation, part) if keep else None

        out = Path(out)
        billed = billed or out
        of_run = billed.parent.resolve() == self.folder.detections(activation).parent.resolve()
        bill = Bill(self.folder.cost_of(billed) if of_run else None, self.ranks, "gol detect")

        def check() -> None:
            if self.preemption.requested:
                self.preemption.obey(_STOPPED)
            if bill.due:
                bill.note()

        def chunks() -> Iterator[Iterator[dict]]:
            # Begins when the list is this job's, so that no GPU is held while it waits.
            try:
                bill.start(torch.get_num_threads())
                device, keeper = self.ranks.device, keeping and keeping.keeper
                detector = build_scorer(self.config, activation, device, calibrated, keeper)
                meta = _load(detector, self.weights, self.wanted)
                if keeping:
                    keeping.begin()
                precision = find_precision(own_part(self.config), device, meta)
                detector = precision.prepare(detector)
                images = ImageShare(self.config, self.ranks, precision, part, keeping)
                cutoffs = None
                if per_class:
                    progress = _Progress(f"{self.name}  scores", images.count, self.ranks)
                    results = partial(images.results, detector, check, progress.add)
                    cutoffs = find_cutoffs(detector, results, per_class, images.classes, self.ranks)
                progress = _Progress(self.name, images.count, self.ranks)
                for count, entries in images.detections(detector, check, cutoffs):
                    yield entries
                    bill.images_per_second = progress.add(count)
                if keeping:
                    keeping.finish(images)
            except OSError as error:  # of reading; the list's own are named where it is written
                where = f"{error.filename}: " if error.filename else ""
                raise UserError(f"cannot detect: {where}{error.strerror or error}") from error

        with bill:
            stop = self.preemption.at_once(_STOPPED)
            return write_sharded(out, chunks(), self.ranks, stop)


def build_scorer(
    config: Any,
    scoring: str,
    device: torch.device,
    calibrated: "tuple[str, Known, float] | None" = None,
    keeper: "Keeper | None" = None,
) -> torch.nn.Module:
    """The detector of a resolved config as it detects, without weights or precision yet.

    Args:
        config: the resolved config.
        scoring: activation that turns logits into scores.
        device: where it is put.
        calibrated: a calibration of the scores, what it knows, its strength.
        keeper: takes what is to be kept of each image.
    """
    from gol.models import build_detector, lazy_masks, set_scoring
    from gol.models.postprocess import set_postprocessing

    # The weights come from a checkpoint: nothing is loaded to be overwritten.
    detector = build_detector(config, initialise=False)
    set_scoring(detector, scoring)
    if calibrated:
        from gol.engine.known import set_calibration

        set_calibration(detector, *calibrated)
    set_postprocessing(detector)
    if keeper:
        keeper.install(detector)
    at_once = batch_size(config.model) * max(config.model.test_cfg.rcnn.max_per_img, 0)
    lazy_masks(detector, at_once)  # before a precision makes float32 of the masks of all classes
    return detector.to(device).eval()


def _forget_calibration(folder: RunFolder, scoring: str, strength: float) -> None:
    """Removes what ``gol calibrate`` left, and what has another strength than detections now."""
    try:
        other = folder.strength(scoring) not in (None, strength)
    except UserError:  # a damaged record, which may have said any
        other = True
    if other:
        folder.remove_protocols(scoring)
    for path in (folder.calibration(scoring), *folder.fit_figures(scoring)):
        remove(path)


def _load(
    detector: torch.nn.Module, weights: str | Path, fingerprint: str | None
) -> dict[str, Any]:
    """Loads weights of a run; returns their meta."""
    try:
        return load_weights(detector, weights, fingerprint)
    except DamagedError as error:
        remedy = "; remove it, and `gol train` writes it again from the last checkpoint"
        if Path(weights).name == RunFolder("").best.name:
            remedy = "; --last takes the final weights instead"
        raise UserError(f"{error}{remedy if fingerprint else ''}") from error


class _Progress:
    """Says on rank 0 how far it is, which is about how far all are."""

    def __init__(self, name: str, total: int, ranks: Ranks) -> None:
        self.name, self.total, self.ranks = name, total, ranks
        self.done = 0
        self.begin = self.printed = time.monotonic()

    def add(self, images: int) -> float:
        """Returns the throughput of all ranks."""
        self.done += images
        now, world = time.monotonic(), self.ranks.world
        rate = world * self.done / (now - self.begin)
        if self.ranks.is_main and (now - self.printed > 5 or self.done == self.total):
            self.printed = now
            of = f" on each of {world} ranks" if world > 1 else ""
            left = timedelta(seconds=round((self.total - self.done) * world / rate))
            print(
                f"{self.name}  detected {self.done}/{self.total}{of}  {rate:.1f} img/s  "
                f"left {left}",
                file=sys.stderr,
                flush=True,
            )
        return rate
