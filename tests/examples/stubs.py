"""Stand-ins for the parts of detectron2 and mmdet 3 that the examples touch.

Neither can be installed beside mmdet 2: detectron2 is built from source, mmdet 3 needs mmcv 2. The
stubs have the interface of detectron2 0.6's ``FastRCNNOutputLayers`` and of mmdet 3.3's registry
and ``BBoxHead``, and no more; what they compute is theirs.
"""

from types import ModuleType

import torch
from torch import nn
from torch.nn import functional as F


class FastRCNNOutputLayers(nn.Module):
    def __init__(self, input_size, num_classes, loss_weight=1.0):
        super().__init__()
        self.cls_score = nn.Linear(input_size, num_classes + 1)
        self.bbox_pred = nn.Linear(input_size, num_classes * 4)
        nn.init.constant_(self.cls_score.bias, 0)
        if isinstance(loss_weight, float):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight

    def forward(self, x):
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions, proposals):
        scores, deltas = predictions
        labels = torch.cat([proposal.gt_classes for proposal in proposals])
        losses = {"loss_cls": F.cross_entropy(scores, labels), "loss_box_reg": deltas.abs().mean()}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def predict_probs(self, predictions, proposals):
        return F.softmax(predictions[0], -1).split([len(proposal) for proposal in proposals])


class Instances:
    """The proposals of one image."""

    def __init__(self, gt_classes):
        self.gt_classes = gt_classes

    def __len__(self):
        return len(self.gt_classes)


class Registry:
    def __init__(self):
        self.modules = {}

    def register_module(self, name=None, force=False, module=None):
        assert name not in self.modules or force
        self.modules[name] = module

    def build(self, config):
        config = dict(config)
        return self.modules[config.pop("type")](**config)


class BBoxHead(nn.Module):
    def __init__(self, models, input_size, num_classes, loss_cls):
        super().__init__()
        self.loss_cls = models.build(loss_cls)
        self.custom = {
            name: getattr(self.loss_cls, f"custom_{name}", False)
            for name in ("cls_channels", "activation", "accuracy")
        }
        channels = num_classes + 1
        if self.custom["cls_channels"]:
            channels = self.loss_cls.get_cls_channels(num_classes)
        self.fc_cls = nn.Linear(input_size, channels)

    def loss(self, cls_score, labels, label_weights):
        avg_factor = max(torch.sum(label_weights > 0).float().item(), 1.0)
        options = {"avg_factor": avg_factor, "reduction_override": None}
        losses = {"loss_cls": self.loss_cls(cls_score, labels, label_weights, **options)}
        if self.custom["activation"]:
            losses.update(self.loss_cls.get_accuracy(cls_score, labels))
        return losses

    def scores(self, cls_score):
        if self.custom["cls_channels"]:
            return self.loss_cls.get_activation(cls_score)
        return F.softmax(cls_score, -1)


def module(name, **members):
    made = ModuleType(name)
    vars(made).update(members)
    return made
