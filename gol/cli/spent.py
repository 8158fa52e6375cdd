"""What the finished runs of a pipeline took, beside what was planned for as many."""

from dataclasses import dataclass
from typing import Any

from gol.config.pipeline import Pipeline
from gol.costs import Cost, detection_cost, total, training_cost
from gol.results.bill import amount, in_words
from gol.run_folder import RunFolder


@dataclass(frozen=True)
class Spent:
    """What is spent of a plan.

    Attributes:
        runs: finished runs, by experiment that is trained.
        training: what each of them took to train.
        detection: what their detections took.
    """

    runs: dict[str, int]
    training: list[Cost]
    detection: list[Cost]

    def values(self) -> dict[str, Any]:
        """All of it as JSON: hours, kWh and GB, as far as they are known."""
        return {
            "runs": sum(self.runs.values()),
            "training": total(self.training),
            "detection": total(self.detection),
        }

    def text(self, planned: float | None) -> str:
        """In words.

        Args:
            planned: hours of one device for the trainings of as many runs; None if unknown.
        """
        trained = in_words(self.training)
        if planned is not None:
            trained += f" (planned: {amount(planned)})"
        return f"training took {trained}, detection {in_words(self.detection)}"


def spent(pipeline: Pipeline) -> Spent:
    """Adds up the finished runs of a pipeline.

    Raises:
        UserError: a file of one is damaged.
    """
    runs: dict[str, int] = {}
    training, detection = [], []
    for name in pipeline.trainings:
        done = _finished(pipeline, name)
        runs[name] = len(done)
        training += map(training_cost, done)
    for name in pipeline.experiments:  # a calibrated one has detections alone
        for run in _finished(pipeline, name):
            detection += [detection_cost(run, scoring) for scoring in pipeline.scorings(name)]
    return Spent(runs, training, detection)


def _finished(pipeline: Pipeline, name: str) -> list[RunFolder]:
    return [run for run in map(RunFolder, pipeline.runs(name)) if run.summary.exists()]
