"""A detection that keeps what ``gol calibrate`` scores again."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gol.calibration import CALIBRATIONS, Score, SenselessError
from gol.config.resolve import fingerprint
from gol.engine.kept import KeptFolder, KeptIndex
from gol.engine.known import moments, read_known
from gol.files.digests import sha256
from gol.models.keep import Keeper, Rules
from gol.run_folder import RunFolder

if TYPE_CHECKING:
    from gol.engine.detect import Detecting
    from gol.engine.shares import ImageShare

#: Beside the scores as they are: candidates under these are kept, too, and LogN's, at most as many
#: of each as an image may have detections.
VIEWS = (("norcal", 0.5), ("norcal", 1.0), ("logit_adjust", 1.0), ("fracal", 2.0))


class Keeping:
    """What one rank keeps of the images of a detection.

    Args:
        detection: what detects.
        activation: turns logits into scores.
        part: which images.
    """

    def __init__(self, detection: "Detecting", activation: str, part: str) -> None:
        self.detection, self.activation, self.part = detection, activation, part
        self.known = read_known(detection.config, "fracal")
        self.keeper = Keeper([*(partial(self._view, *view) for view in VIEWS), self._logn])
        self.folder = kept_folder(detection.folder, activation, part)
        self.rules = Rules.of(detection.config.model.test_cfg.rcnn)
        self.images = 0

    def begin(self) -> None:
        """Removes what was kept before; called on every rank once the detector is there."""
        if self.detection.ranks.is_main:
            self.folder.clear()
        self.detection.ranks.barrier()

    def take(self, number: int, image_ids: Sequence[int], results: Sequence[Any]) -> list[Any]:
        """Keeps the images of a batch; returns their results as the detector alone gives them.

        Args:
            number: of the batch, over all ranks.
            image_ids: of the batch.
            results: mmdet's, of all candidates that are kept.
        """
        images = self.keeper.take(results)
        self.images += len(images)
        self.folder.write(number, image_ids, images)
        return [self._plain(kept, result) for kept, result in zip(images, results, strict=True)]

    def _view(self, name: str, strength: float, logits: Tensor, score: Score) -> Tensor | None:
        with suppress(SenselessError):
            return CALIBRATIONS[name].function(logits, score, self.known, strength)
        return None

    def _logn(self, logits: Tensor, score: Score) -> Tensor | None:
        """As LogN sees them by the images so far, whose logits are much like those of training."""
        mean, variance = moments(self.keeper.count, *self.keeper.sums)
        self.known = replace(self.known, mean=mean, variance=variance)
        return self._view("logn", 0.0, logits, score)

    def _plain(self, kept: Any, result: Any) -> Any:
        if not len(kept.logits):
            return result
        scores = self.keeper.score(kept.logits)
        return kept.result(scores, kept.detections(scores, self.rules))

    def finish(self, images: "ImageShare") -> None:
        """Completes the folder; called on every rank."""
        ranks, keeper = self.detection.ranks, self.keeper
        own = [keeper.count, self.images, *keeper.sums.flatten().tolist()]
        count, number, *sums = ranks.sum(own)
        if not ranks.is_main:
            return
        mean, variance = moments(int(count), *torch.tensor(sums, dtype=torch.float64).chunk(2))
        config = self.detection.config
        self.folder.write_index(
            KeptIndex(
                fingerprint=fingerprint(config),
                weights=sha256(self.detection.weights),
                scoring=self.activation,
                categories=list(images.dataset.cat_ids),
                files=images.total,
                images=int(number),
                channels=keeper.channels,
                views=["none", *(f"{name} {strength:g}" for name, strength in VIEWS), "logn"],
                proposals=int(count),
                mean=mean,
                variance=variance,
            )
        )


def kept_folder(run: RunFolder, activation: str, part: str) -> KeptFolder:
    """Where a run's logits of some images are kept."""
    return KeptFolder(run.kept(activation, part))
