"""GumbelCE in a detectron2 style box head: copy this file; it needs detectron2 and gol.

    model = build_model(cfg)
    heads = model.roi_heads
    heads.box_predictor = GumbelOutputLayers(cfg, heads.box_head.output_shape)

Train and test it as before. This project does not install detectron2: tests/examples runs the file
against a stub of ``FastRCNNOutputLayers`` (forward, losses, predict_probs, as in v0.6).
"""

import torch
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import nn

import gol


class GumbelOutputLayers(FastRCNNOutputLayers):
    """Output layers whose classes are trained and scored with the Gumbel activation.

    As in detectron2 there are K classes, and the background is channel and label K.
    """

    def __init__(self, *args, bias: float = -2.0, **kwargs):
        super().__init__(*args, **kwargs)
        nn.init.normal_(self.cls_score.weight, std=0.001)
        nn.init.constant_(self.cls_score.bias, bias)  # every class starts out unlikely
        self.gumbel = gol.losses.GumbelCE(num_classes=self.cls_score.out_features - 1)

    def losses(self, predictions, proposals):
        """Returns detectron2's losses, with the Gumbel cross entropy as ``loss_cls``."""
        losses = super().losses(predictions, proposals)
        labels = torch.cat([proposal.gt_classes for proposal in proposals])
        loss = self.gumbel(predictions[0], labels, avg_factor=len(labels))
        return {**losses, "loss_cls": loss * self.loss_weight.get("loss_cls", 1.0)}

    def predict_probs(self, predictions, proposals):
        """Returns the Gumbel probabilities of each image's proposals, (Ri, K + 1)."""
        probabilities = self.gumbel.get_activation(predictions[0])
        return probabilities.split([len(proposal) for proposal in proposals])
