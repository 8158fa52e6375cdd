"""The training loop: plain torch around an mmdet detector and mmdet's data pipeline.

Everything random is drawn from (seed, iteration, micro-batch), and a checkpoint holds the weights,
the optimizer and the iteration. A run killed at any moment therefore continues from its newest
checkpoint to the same weights, bit for bit (on the CPU, with the same threads and ranks).
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gol import __version__
from gol.config.own import Identity, Own, own_part
from gol.config.resolve import fingerprint, load_config, training_annotations
from gol.data.prepared import raw_digests
from gol.engine.bill import Bill
from gol.engine.checkpoints import save_checkpoint
from gol.engine.distributed import Ranks, join
from gol.engine.memory import keep_freed_memory
from gol.engine.precision import training_precision
from gol.engine.preemption import Preemption
from gol.engine.provenance import provenance
from gol.engine.runlog import RunLog
from gol.engine.validation import Validation
from gol.errors import Interrupted, LostJobError, UserError
from gol.run_folder import RunFolder, RunSummary

if TYPE_CHECKING:
    from gol.engine.trainer import Trainer

__all__ = ["Interrupted", "train"]


def train(run: str | Path, device: str | None = None) -> RunSummary:
    """Trains the experiment of a run folder, or continues it, or does nothing if it is done.

    Called in every process of a job; the ranks find each other (``gol.engine.distributed``). What
    the backbone begins with must be there (``gol.config.backbones.fetch_for``). Rank 0 writes the
    folder's files (``gol.run_folder``), last of all the summary.

    Args:
        run: the run folder, prepared by ``gol config``.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU, one per rank.

    Returns:
        The summary that was written.

    Raises:
        UserError: no config or backbone weights, another configuration's files, no images, a loss
            that is not finite, a full disk.
        PeerError: another rank failed.
        Interrupted: SIGUSR2 came, a checkpoint was written, and no other handler took over.
    """
    run = RunFolder(run)
    with Preemption() as preemption, join(device) as ranks:
        config = load_config(run.path)
        with _sole_writer(run, ranks), Bill(run.cost, ranks, "gol train") as bill:
            summary = _train(run, config, ranks, preemption, bill)
    if summary is None:
        preemption.obey(f"{run} was asked to stop (SIGUSR2); the same command continues it")
    return summary


@contextmanager
def _sole_writer(run: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Rank 0 holds the run's lock; what the system says of files becomes one line."""
    from filelock import FileLock, Timeout

    lock = FileLock(run.training_lock, timeout=0)
    try:
        if ranks.is_main:
            lock.acquire()
        yield
    except Timeout as error:
        raise LostJobError(f"{run} is being trained by another process") from error
    except OSError as error:
        raise UserError(f"cannot write {error.filename or run}: {error.strerror}") from error
    finally:
        lock.release()


def _train(
    run: RunFolder, config: Any, ranks: Ranks, preemption: Preemption, bill: Bill
) -> RunSummary | None:
    """Trains to the end, or to the next iteration where a rank is asked to stop: None."""
    from gol.engine.trainer import Trainer  # imports mmcv, which is loud before load_config

    wanted = fingerprint(config)
    if done := ranks.broadcast(_finished(run, wanted) if ranks.is_main else None):
        return done
    own = own_part(config)
    bill.start(own.threads)
    torch.set_num_threads(own.threads)
    keep_freed_memory()
    raw = raw_digests(training_annotations(config))  # not at the end: it may be damaged
    provenance()  # kept: at the end the checkout may be at another commit
    trainer = Trainer(config, ranks, training_precision(own, ranks, run))
    meta = trainer.resume(run, wanted)
    clock = _Clock(meta["started"], meta["seconds"], own)
    start, epoch = meta["iter"], len(trainer.loader)
    total = trainer.schedule.iterations
    if ranks.is_main and start:
        print(f"{_name(own)} continues after iteration {start}", file=sys.stderr, flush=True)
    validation = Validation(run, config, trainer, wanted, start, bill)
    log, done = None, start
    if ranks.is_main:
        log = RunLog(run.metrics, start, total, epoch, _name(own))
    while True:
        if validation.due(done):
            seconds = validation.validate(done, preemption)
            if seconds is None:
                return None
            clock.pause(seconds)
            if log:
                log.pause(seconds)
        if done == total or validation.exhausted:
            break
        values, position, done = trainer.step(done), done % epoch, done + 1
        if log:
            images = trainer.loader.images(position)
            log.add(done, images, values, validation.may_end(done))
        stop, due, tally = ranks.any(
            preemption.requested, clock.due(done) and ranks.is_main, bill.due
        )
        due |= done == total or validation.due(done)
        if stop or due or tally:  # before the checkpoint, whose seconds are then known here too
            bill.add_up()
        if ranks.is_main and (stop or due):
            trainer.save(run, done, wanted, clock.started, clock.spent())
            clock.saved = time.monotonic()
        if stop or due:
            ranks.barrier()  # a slow disk must not count against an exchange of gradients
        if stop and done < total:
            return None
    bill.close()  # the summary is the last file
    if not ranks.is_main:
        return ranks.broadcast(None)
    return ranks.broadcast(_finish(run, wanted, trainer, clock, raw, validation, done))


def _finish(
    run: RunFolder,
    wanted: str,
    trainer: "Trainer",
    clock: "_Clock",
    raw: dict[str, str],
    validation: Validation,
    done: int,
) -> RunSummary:
    """Writes the weights and, last, the summary."""
    seconds = clock.spent()  # no more than the bill, which is closed
    meta = {
        "CLASSES": list(trainer.classes),
        "fingerprint": wanted,
        "gol": __version__,
        "scoring": trainer.scoring,
        **trainer.precision.record,
    }
    save_checkpoint(run.weights, state_dict=trainer.detector.state_dict(), meta=meta)
    loader = trainer.loader
    epochs, rest = divmod(done, len(loader))
    images = epochs * len(loader.dataset) + rest * loader.global_batch
    found = validation.summary(done)
    summary = RunSummary(
        fingerprint=wanted,
        iterations=done,
        seconds=seconds,
        images_per_second=images / seconds,
        parameters=sum(p.numel() for p in trainer.detector.parameters()),
        device=str(trainer.ranks.device),
        ranks=trainer.ranks.world,
        started=clock.started,
        finished=time.time(),
        versions=_versions(),
        raw_annotations=raw,
        source=provenance(),
        **trainer.precision.record,
        **({"validation": found} if found else {}),
    )
    run.write_summary(summary)
    return summary


def _finished(run: RunFolder, wanted: str) -> RunSummary | None:
    if run.of_another(wanted):
        raise run.refusal()
    return run.finished(wanted)


def _name(own: Identity) -> str:
    return f"{own.experiment} seed {own.seed}"


def _versions() -> dict[str, str]:
    import mmcv
    import mmdet

    return {
        "gol": __version__,
        "torch": str(torch.__version__),
        "mmdet": mmdet.__version__,
        "mmcv": mmcv.__version__,
    }


class _Clock:
    """Seconds spent on a training over all its starts, and when a checkpoint is due."""

    def __init__(self, started: float, seconds: float, settings: Own) -> None:
        self.started, self.seconds, self.settings = started, seconds, settings
        self.begin = self.saved = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Leaves out so many seconds."""
        self.begin += seconds

    def spent(self) -> float:
        return self.seconds + time.monotonic() - self.begin

    def due(self, done: int) -> bool:
        waited = time.monotonic() - self.saved
        return (
            done % self.settings.checkpoint_interval == 0
            or waited >= self.settings.checkpoint_minutes * 60
        )
