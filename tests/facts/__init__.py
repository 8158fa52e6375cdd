"""What others published, as this project holds it for its tests; each file names its sources."""

from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent
#: Fields of which every bounding-box head of a detector has one.
BBOX_HEAD = ("loss_cls", "fc_cls_init", "cls_predictor", "reg_class_agnostic", "loss_bbox")


def original() -> dict[str, dict[str, Any] | None]:
    """The original's hyper-parameters by experiment; None where its config does not load.

    Of the fields in ``BBOX_HEAD`` there is a list, one value for each head.
    """
    facts = yaml.safe_load((_FOLDER / "original.yaml").read_text())
    found: dict[str, dict[str, Any] | None] = dict.fromkeys(facts["missing_base"])
    for name, parts in facts["experiments"].items():
        fields = facts["common"]
        for part in parts:
            fields = _merged(fields, facts["parts"][part])
        lists = {key: [fields[key]] * fields["bbox_heads"] for key in BBOX_HEAD}
        found[name] = {**fields, **lists}
    return found


def _merged(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in part.items():
        merge = isinstance(value, dict) and "type" not in value and isinstance(base.get(key), dict)
        result[key] = _merged(base[key], value) if merge else value
    return result


def paper() -> dict[str, Any]:
    """The paper's and the original's published results."""
    return yaml.safe_load((_FOLDER / "paper.yaml").read_text())
