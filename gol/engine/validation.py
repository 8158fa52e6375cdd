"""Validation during training: the current weights on the test images, and the best of them kept.

A copy of the detector detects with the weights of the moment, as ``gol detect`` would. The one that
trains, its running statistics and the generators of random numbers stay as they are, so training is
the same bit for bit as without validation. On a GPU the copy takes the memory of its weights.

A checkpoint is written before each validation, and all that decides what comes next stands in
``best.pth`` and ``validation.jsonl``. A run that was killed, within a validation too, therefore
validates again where its newest checkpoint is, and goes on as if nothing had happened.
"""

import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gol import __version__
from gol.config.own import own_part
from gol.engine.bill import Bill
from gol.engine.checkpoints import save_checkpoint
from gol.engine.detect import build_scorer
from gol.engine.preemption import Preemption
from gol.engine.runlog import append, shorten
from gol.engine.shards import write_sharded
from gol.engine.shares import ImageShare
from gol.errors import Interrupted, UserError
from gol.groups import GROUP_METRICS
from gol.models.state import DamagedError, load_checkpoint
from gol.progress import progress
from gol.run_folder import RunFolder, ValidationSummary

if TYPE_CHECKING:
    from gol.engine.trainer import Trainer

METRICS = tuple(GROUP_METRICS)
_TITLES = {"segm": "mask", "bbox": "box"}


class Validation:
    """The validations of one training; without ``gol.validate_every`` it does nothing.

    Args:
        run: the run folder.
        config: the resolved config.
        trainer: what trains.
        fingerprint: of the configuration.
        start: iterations already done; what the folder holds of later ones is forgotten.
        bill: what the training takes, validations too.

    Raises:
        UserError: the validation's annotations cannot be scored against, or ``best.pth`` is of
            another configuration.

    Attributes:
        lines: the scores so far, one dict a validation, as ``validation.jsonl`` holds them.
        best: iterations and score of the best weights so far.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Any,
        trainer: "Trainer",
        fingerprint: str,
        start: int,
        bill: Bill,
    ) -> None:
        own, ranks, self.bill = own_part(config), trainer.ranks, bill
        self.run, self.config, self.own, self.trainer = run, config, own, trainer
        self.ranks, self.fingerprint = ranks, fingerprint
        self.name = f"{own.experiment} seed {own.seed}"
        self.total = trainer.schedule.iterations
        self.kinds = ("segm", "bbox") if "mask_head" in config.model.roi_head else ("bbox",)
        self.metric = f"{self.kinds[0]}_AP"
        self.scorer: torch.nn.Module | None = None
        self.images: ImageShare | None = None
        self._advice: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.best: tuple[int, float] | None = None
        if own.validate_every:
            found = self._begin(start) if ranks.is_main else None
            self.lines, self.best = ranks.broadcast(found)

    def _begin(self, start: int) -> tuple[list[dict[str, Any]], tuple[int, float] | None]:
        """What earlier starts of this training have found."""
        from gol.evaluation.inputs import read_ground_truth

        if not read_ground_truth(self.annotations).dataset["annotations"]:
            raise UserError(f"{self.annotations} has no annotation: gol.validate_every needs some")
        every, patience = self.own.validate_every, self.own.patience
        text = f"{self.name}  validation every {every} of {self.total} iterations"
        title = f"{_TITLES[self.kinds[0]]} AP"
        text += f"; the training ends after {patience} without a better {title}" if patience else ""
        print(text, file=sys.stderr, flush=True)
        if not start:
            self.run.best.unlink(missing_ok=True)
        lines = shorten(self.run.validations, start)
        return lines, self._found()

    def _found(self) -> tuple[int, float] | None:
        """Iterations and score of ``best.pth``; set aside if it is damaged."""
        if not self.run.best.exists():
            return None
        try:
            meta = load_checkpoint(self.run.best).get("meta")
        except DamagedError as error:
            aside = self.run.best.rename(self.run.best.with_name(f"{self.run.best.name}.damaged"))
            text = f"{error}; it is now {aside.name}, and the best is sought from here on"
            print(text, file=sys.stderr, flush=True)
            return None
        meta = meta if isinstance(meta, dict) else {}
        if meta.get("fingerprint") != self.fingerprint:
            raise self.run.refusal()
        iteration, score = meta.get("iter"), meta.get(self.metric)
        if not isinstance(iteration, int) or not isinstance(score, float):
            raise UserError(f"{self.run.best} does not say its iteration and score: remove it")
        return iteration, score

    @property
    def annotations(self) -> Path:
        """What the scores are measured against: the prepared file beside its store."""
        return Path(self.config.data.test.ann_file).with_suffix(".json")

    def due(self, done: int) -> bool:
        """Whether to validate after so many iterations: at the interval's multiples and the end."""
        every = self.own.validate_every
        here = every is not None and done > 0 and (done % every == 0 or done == self.total)
        return here and all(line["iteration"] != done for line in self.lines)

    @property
    def exhausted(self) -> bool:
        """Whether as many validations as ``gol.patience`` have brought nothing better."""
        if not (self.own.patience and self.lines):
            return False
        scores = [line[self.metric] or 0.0 for line in self.lines]
        return len(scores) - 1 - scores.index(max(scores)) >= self.own.patience

    def may_end(self, done: int) -> bool:
        """Whether the training may end after so many iterations, though it is not their end."""
        return self.own.patience is not None and self.due(done)

    def validate(self, done: int, preemption: Preemption) -> float | None:
        """Scores the weights after ``done`` iterations; returns the seconds that it took.

        None: a rank was asked to stop; the validation begins anew with the next start.

        Raises:
            UserError: a damaged image, a full disk.
        """
        begin = time.monotonic()
        try:
            with _same_generators(self.ranks.device):
                self._detect(done, preemption)
        except Interrupted:
            return None
        line = self.ranks.broadcast(self._score(done, begin) if self.ranks.is_main else None)
        score = line[self.metric] or 0.0  # None: no annotation counts
        # Of weights that find nothing, the last have learned most.
        better = self.best is None or score > self.best[1] or score == 0 == self.best[1]
        if better:
            self.best = (done, score)
        self.lines.append(line)
        if self.ranks.is_main:
            self._record(line, better)
        self.ranks.barrier()  # a slow disk must not count against an exchange of gradients
        return time.monotonic() - begin

    @property
    def _detections(self) -> Path:
        return self.run.validating / "detections.json"

    def _detect(self, done: int, preemption: Preemption) -> None:
        """Writes the detections of all ranks."""

        def check() -> None:
            # Together, so that no rank waits for one that has left.
            if self.ranks.any(preemption.requested)[0]:
                raise Interrupted
            if self.bill.due:
                self.bill.note()

        if self.scorer is None or self.images is None:
            scorer = build_scorer(self.config, self.own.activations[0], self.ranks.device)
            self.scorer = self.trainer.precision.prepare(scorer)
            self.images = ImageShare(self.config, self.ranks, self.trainer.precision)
        self.scorer.load_state_dict(self.trainer.detector.state_dict())
        batches: Any = self.images.detections(self.scorer, check)
        if self.ranks.is_main:
            what = f"{self.name}  validation at iteration {done}, batches"
            batches = progress(batches, what, self.images.rounds)
        write_sharded(self._detections, (entries for _, entries in batches), self.ranks)

    def _score(self, done: int, begin: float) -> dict[str, Any]:
        """The line of this validation (rank 0 alone); scores in [0, 1] or None."""
        from gol.evaluation.advice import advice
        from gol.evaluation.lvis import evaluate

        result = evaluate(self.annotations, self._detections, self.kinds)
        self._advice = advice(result, self.annotations, self._detections, self.run)
        scores = {f"{kind}_{name}": result[kind][name] for kind in self.kinds for name in METRICS}
        return {
            "time": time.time(),
            "iteration": done,
            **scores,
            "seconds": time.monotonic() - begin,
        }

    def _record(self, line: dict[str, Any], better: bool) -> None:
        """Writes and says what was found (rank 0 alone)."""
        done = line["iteration"]
        if better:  # before the line: a run killed between the two validates again
            meta = {
                "CLASSES": list(self.trainer.classes),
                "fingerprint": self.fingerprint,
                "gol": __version__,
                "iter": done,
                "scoring": self.trainer.scoring,
                **self.trainer.precision.record,
                self.metric: self.best[1],
            }
            state = self.trainer.detector.state_dict()
            save_checkpoint(self.run.best, state_dict=state, meta=meta)
        append(self.run.validations, line)
        where = "(the best so far)" if better else f"(best at iteration {self.best[0]})"
        print(
            f"{self.name}  validation at iteration {done}/{self.total}  {_text(line)}  {where}  "
            f"took {line['seconds']:.1f} s",
            file=sys.stderr,
            flush=True,
        )
        if len(self.lines) == 1 or done == self.total or self.exhausted:
            for text in self._advice:
                print(f"{self.name}  {text}", file=sys.stderr, flush=True)
        shutil.rmtree(self.run.validating, ignore_errors=True)

    def summary(self, done: int) -> ValidationSummary | None:
        """What was found in all, once the training is over; None without validation."""
        if self.best is None:
            return None
        return ValidationSummary(
            metric=self.metric,
            best_iteration=self.best[0],
            best_score=self.best[1],
            stopped_early=done < self.total,
            seconds=sum(line["seconds"] for line in self.lines),
        )


def _text(line: dict[str, Any]) -> str:
    """The scores of a line in percent, those of the masks first; "-": no ground truth."""
    parts = []
    for kind, title in _TITLES.items():
        if f"{kind}_AP" in line:
            values = [(name, line[f"{kind}_{name}"]) for name in METRICS]
            cells = (f"{name} {'-' if x is None else f'{100 * x:.1f}'}" for name, x in values)
            parts.append(f"{title} {' '.join(cells)}")
    return "  ".join(parts)


@contextmanager
def _same_generators(device: torch.device) -> Iterator[None]:
    """Leaves the generators of random numbers as they were."""
    python, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
