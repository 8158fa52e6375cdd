"""A package of somebody else, installed on ``sys.path``, that adds a loss and an activation."""

MODULE = '''
import torch
from gol.losses import ClassificationLoss
from gol.losses.base import full_precision, prepare_labels, reduce_rows


class TinyLoss(ClassificationLoss):
    background_channel = True
    initial_bias = -4.5

    def __init__(self, num_classes=1203, loss_weight=1.0):
        super().__init__(True, "mean", None, loss_weight, num_classes, "paper")

    def get_activation(self, cls_score):
        return full_precision(cls_score).sigmoid()

    def forward(self, cls_score, label, weight=None, avg_factor=None,
                reduction_override=None, ignore_index=-100):
        logits = full_precision(cls_score)
        target, row_weight = prepare_labels(logits, label, weight, ignore_index)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, target, reduction="none")
        reduction = self._reduction(reduction_override)
        return self.loss_weight * reduce_rows(loss, row_weight, reduction, avg_factor)


class Steep:
    """The sigmoid of 2 x."""

    def probability(self, x):
        return torch.sigmoid(2 * full_precision(x))

    def log_probability(self, x):
        return torch.nn.functional.logsigmoid(2 * full_precision(x))

    def log_complement(self, x):
        return self.log_probability(-x)

    def bias(self, prior):
        if not 0 < prior < 1:
            raise ValueError(f"prior is {prior}; allowed: strictly between 0 and 1")
        return torch.logit(torch.tensor(prior)).item() / 2
'''
ENTRY_POINTS = {
    "gol.losses": {"TinyLoss": "tiny_loss:TinyLoss"},
    "gol.activations": {"Steep": "tiny_loss:Steep"},
}


def install(folder, entry_points=ENTRY_POINTS, name="tiny-loss", module=MODULE):
    """Puts the package into a folder as pip would; returns the folder."""
    stem = name.replace("-", "_")
    information = folder / f"{stem}-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / f"{stem}.py").write_text(module)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
