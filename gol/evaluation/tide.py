"""TIDE: what each kind of error costs in AP50.

Bolya, Foley, Hays, Hoffman: "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV
2020. A detection that is not right at IoU 0.5 is, in this order, badly placed (Loc: IoU from 0.1 on
with an object of its class), of the wrong class (Cls), a duplicate (Dupe), on nothing (Bkg: IoU
below 0.1) or both badly placed and of the wrong class (Both); an object that none of these explains
is missed (Miss). The cost of a kind is the AP50 that its mending would bring; FP and FN mend all
wrong detections and all missed objects. On LVIS a detection counts only in images where its class
is annotated or known to be absent, so an object that is called by another name shows as Cls only
where that name's class is.
"""

from typing import Any

import hotcoco

from gol.evaluation.lvis import AREA_RANGES, parameters
from gol.evaluation.source import Source

_FOREGROUND, _BACKGROUND = 0.5, 0.1


def measure(source: Source) -> dict[str, Any]:
    """Costs and counts of errors, as ``evaluate_by`` wants them; hotcoco's."""
    (part,) = source.pair.parts(len(source.pair.truth.images))
    engine = hotcoco.COCOeval(*source.pair.load(part), source.kind, lvis_style=True)
    engine.params = parameters(source.kind, source.most, [_FOREGROUND], {"all": AREA_RANGES["all"]})
    engine.evaluate()
    found = engine.tide_errors(_FOREGROUND, _BACKGROUND)
    kinds = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN")
    return {
        "protocol": {
            "name": "TIDE",
            "foreground_iou": _FOREGROUND,
            "background_iou": _BACKGROUND,
            "engine": f"hotcoco {hotcoco.__version__}",
        },
        "scores": {
            "cost": {"AP50": found["ap_base"], **{kind: found["delta_ap"][kind] for kind in kinds}},
            "count": {"AP50": None, **{kind: found["counts"].get(kind) for kind in kinds}},
        },
        "per_class": [],
    }
