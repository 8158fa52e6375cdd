"""A training step waits for the GPU once in our own code, whatever the loss."""

import pytest
import torch
from waits import Waits

import gol
from gol.compat import roi_align
from gol.config.axes import axis_values
from gol.engine.distributed import Ranks
from gol.engine.trainer import Trainer

#: The values to log, all at once; with them the loss and the gradient are checked.
ALLOWED = {("gol/engine/trainer.py", "tolist"): 1}


def classifiers():
    """One of each loss; most are slow."""
    kinds = {value["loss"]["type"]: name for name, value in axis_values("classifier").items()}
    quick = ("GumbelCE", "DropLoss", "Federated")
    return [
        name if kind in quick else pytest.param(name, marks=pytest.mark.slow)
        for kind, name in kinds.items()
    ]


@pytest.mark.parametrize("classifier", classifiers())
def test_our_code_waits_once_in_a_step(classifier, tiny_data, monkeypatch):
    monkeypatch.setattr(roi_align, "MAX_MAP_CELLS", 0)  # as on a GPU, which has a kernel
    overrides = {"classifier": classifier, "layer": "normed", "mask_predictor": "normed"}
    config = gol.load_experiment("demo/gumbel", overrides, tiny_data)
    trainer = Trainer(config, Ranks(0, 1, torch.device("cpu")))
    trainer.step(0)
    trainer.batches = iter([next(trainer.batches)])  # made before: loading is not the step's
    with Waits() as waits:
        trainer.step(1)
    assert waits.of("gol") == ALLOWED
    assert waits.of("mmdet")  # the hook sees the operators, too
