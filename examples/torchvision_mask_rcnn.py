"""GumbelCE in torchvision's Mask R-CNN or Faster R-CNN: copy this file; it needs torchvision, gol.

    model = use_gumbel(torchvision.models.detection.maskrcnn_resnet50_fpn(num_classes=1204))

Train and test it as before. torchvision's channel 0 is the background, GumbelCE's is the last one.
"""

import torch
from torch import nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

import gol


class GumbelRoIHeads(RoIHeads):
    """RoI heads whose C classes are trained and scored with the Gumbel activation."""

    def select_training_samples(self, proposals, targets):
        samples = super().select_training_samples(proposals, targets)
        self.labels = torch.cat(samples[2])  # 0: background, 1 ... C: classes
        return samples

    def forward(self, features, proposals, image_shapes, targets=None):
        detections, losses = super().forward(features, proposals, image_shapes, targets)
        logits = vars(self.box_predictor).pop("logits")
        if self.training:  # replaces the softmax cross entropy
            labels = (self.labels - 1) % logits.shape[1]  # background: C
            loss = self.loss(logits.roll(-1, 1), labels, avg_factor=len(labels))
            losses["loss_classifier"] = loss
        return detections, losses

    def postprocess_detections(self, class_logits, box_regression, proposals, image_shapes):
        scores = self.loss.get_activation(class_logits.roll(-1, 1))[:, :-1]  # (R, C)
        boxes = self.box_coder.decode(box_regression, proposals)[:, 1:]  # (R, C, 4)
        counts, found = [len(proposal) for proposal in proposals], []
        for image, (box, score) in enumerate(zip(boxes.split(counts), scores.split(counts))):
            rows, classes = torch.where(score > self.score_thresh)
            box, score = box[rows, classes], score[rows, classes]
            box = clip_boxes_to_image(box, image_shapes[image])
            large = remove_small_boxes(box, min_size=1e-2)
            box, score, label = box[large], score[large], classes[large] + 1
            keep = batched_nms(box, score, label, self.nms_thresh)[: self.detections_per_img]
            found.append((box[keep], score[keep], label[keep]))
        return tuple(map(list, zip(*found)))


def _keep_logits(predictor, inputs, outputs):
    predictor.logits = outputs[0]


def use_gumbel(model: nn.Module) -> nn.Module:
    """Makes the RoI heads of a torchvision model use GumbelCE; returns the model."""
    heads, predictor = model.roi_heads, model.roi_heads.box_predictor
    heads.__class__ = GumbelRoIHeads
    heads.loss = gol.losses.GumbelCE(num_classes=predictor.cls_score.out_features - 1)
    predictor.register_forward_hook(_keep_logits)
    nn.init.normal_(predictor.cls_score.weight, std=0.001)
    nn.init.constant_(predictor.cls_score.bias, -2.0)  # every class starts out unlikely
    return model
