"""GumbelCE in an mmdet 3 config: put this file beside the config; it needs mmdet 3 and gol.

    _base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
    custom_imports = dict(imports=["mmdet3_head"])
    loss = dict(type="GumbelCE", num_classes=80)
    fc_cls = dict(type="Constant", val=0.001, bias=-2.0, override=dict(name="fc_cls"))
    head = dict(loss_cls=dict(_delete_=True, **loss), init_cfg=fc_cls)
    model = dict(roi_head=dict(bbox_head=head))

mmdet 3's box heads ask a loss for its channels, activation and accuracy, as mmdet 2's do, so that
training and testing need nothing else. This project installs mmdet 2: tests/examples runs the file
against a stub of mmdet 3's registry and box head. (In mmdet 2 import ``gol.models`` instead.)
"""

from mmdet.registry import MODELS

import gol

for name, loss in gol.losses.LOSSES.items():
    MODELS.register_module(name=name, module=loss)
