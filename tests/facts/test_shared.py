"""What the project holds of others' facts equals the facts as they were collected, where those are.

They lie outside (GOL_TEST_FACTS); all other tests of parity need only what the project holds.
"""

import json

import facts
from gol.losses.class_statistics import ClassStatistics
from gol.sources.raw import downloads


def modern(original):
    """An experiment's collected facts in mmdet 2.28's names and the form of ``facts.original``."""
    if not original["loads"]:
        return None
    fields = {key: value for key, value in original.items() if key != "loads"}
    heads = fields.pop("n_bbox_heads")
    rpn = dict(fields["test"]["rpn"])
    # Removed from mmdet, or without effect at test time.
    rpn.pop("nms_across_levels", None)
    rpn.pop("nms_post", None)
    if "nms_thr" in rpn:
        rpn["nms"] = {"type": "nms", "iou_threshold": rpn.pop("nms_thr")}
        rpn["max_per_img"] = rpn.pop("max_num")
    (num_classes,), (mask_predictor,) = fields["num_classes"], fields["mask_predictor"]
    return {
        **fields,
        "bbox_heads": heads,
        "num_classes": num_classes,
        "mask_predictor": mask_predictor,
        # The older `pretrained=`, which was not collected.
        "pretrained": fields["pretrained"] or "torchvision://resnet50",
        "poly2mask": fields["poly2mask"] != [False],  # null: mmdet's default, true
        "train_aug": [step["type"] for step in fields["train_aug"]],
        "test": {**fields["test"], "rpn": rpn},
    }


def test_facts_equal_those_collected(shared_facts):
    def collected(name):
        return json.loads((shared_facts / name).read_text())

    experiments = collected("original_experiments.json").items()
    expected = {name.removesuffix(".py"): modern(original) for name, original in experiments}
    assert facts.original() == expected

    results = collected("paper_results.json")
    ours = facts.paper()
    rows = [{"method": name, **values} for name, values in ours["activations"].items()]
    assert rows == results["activations_mask_rcnn_r50_1x"]
    rows = [
        {"model": name, "config": row["config"], "weights": row["weights"], **row["results"]}
        for name, row in ours["pretrained"].items()
    ]
    assert rows == results["pretrained"]
    plot = results["activation_figure_read_off_plot"]
    assert list(ours["figure"]) == plot["models"]
    for series in ("Softmax", "Gumbel"):
        for metric in ("AP", "APr"):
            values = [model[series][metric] for model in ours["figure"].values()]
            assert values == plot[f"{series.lower()}_{metric}"]

    files = {entry["file"]: entry for entry in collected("downloads.json")}
    for entry in downloads().values():
        if file := files.pop(entry["urls"][0].rsplit("/", 1)[1], None):
            assert entry["urls"] == [file[key] for key in ("url", "mirror") if key in file]
            assert (entry["bytes"], entry["sha256"]) == (file["bytes"], file["sha256"])
    assert not files

    for version in ("v1", "v0_5"):
        found = ClassStatistics.published(version)
        columns = {
            "id": found.ids,
            "name": found.names,
            "frequency": found.frequencies,
            "image_count": found.image_counts,
            "instance_count": found.instance_counts,
        }
        source = collected(f"lvis_{version.replace('_', '.')}_train_cat_stats.json")
        for key, column in columns.items():
            assert column == tuple(category[key] for category in source), (version, key)
