"""Pipeline files: every shipped one is right, and what is wrong is named."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import facts
import pytest
from jsonschema import Draft202012Validator

from gol.config.datasets import annotation_files
from gol.config.experiments import experiment, experiments
from gol.config.layout import Layout
from gol.config.pipeline import read_layout, read_pipeline
from gol.config.pipeline_file import schema
from gol.errors import UserError
from gol.files import configs_folder, read_yaml

GOOD = {"name": "mine", "dataset": "demo", "experiments": ["demo/gumbel"]}


PIPELINES = [path for path in sorted(configs_folder().glob("*.yaml")) if "name" in read_yaml(path)]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_shipped_pipeline_files_are_right(path):
    pipeline = read_pipeline(read_yaml(path))
    assert pipeline.name == path.stem
    assert pipeline.experiments and len(pipeline.seeds) >= 1


def test_backbones_that_need_published_weights():
    r50 = "activations/gumbel/gumbel_r50_4x4_1x"
    pipeline = read_pipeline({"name": "mine", "experiments": [r50, "demo/gumbel"]})
    assert pipeline.pretrained_backbone(r50) == "r50"
    assert pipeline.pretrained_backbone("demo/gumbel") is None
    own = replace(pipeline, set={"gol.weights": {"file": "mine.pth"}})
    assert own.pretrained_backbone(r50) is None


def test_defaults():
    pipeline = read_pipeline(GOOD)
    assert (list(pipeline.seeds), pipeline.threads, pipeline.settings("demo/gumbel")) == (
        [0],
        1,
        ["gol.threads=1"],
    )
    assert pipeline.layout == Layout({"": ["demo/gumbel"]}) and pipeline.grid is None
    assert pipeline.scorings("demo/sigmoid") == ["softmax", "sigmoid"]
    assert annotation_files("demo", "d") == ["d/raw/train.json", "d/raw/val.json"]


def test_each_experiment_has_its_own_dataset_unless_one_is_named_for_all():
    names = ["demo/gumbel", "activations/r50_4x4_1x"]
    own = read_pipeline({"name": "mine", "experiments": names})
    assert [own.dataset_of(name) for name in names] == ["demo", "lvis_v1"]
    assert [own.data(name) for name in names] == [
        "results/mine/data/demo",
        "results/mine/data/lvis_v1",
    ]
    one = read_pipeline(
        {"name": "mine", "experiments": names, "dataset": "configs/datasets/own.yaml"}
    )
    assert {one.data(name) for name in names} == {"results/mine/data/own"}
    definitions = {pipeline.definition(name) for pipeline in (own, one) for name in names}
    assert len(definitions) == 4


def test_tables_and_figures_come_first_and_the_rest_is_the_grid():
    pipeline = read_pipeline(
        {
            "name": "mine",
            "tables": {"A": ["demo/gumbel", "demo/gol"], "B": ["demo/gol"]},
            "figures": {
                "Softmax against Gumbel!": {"R-18": {"S": "demo/softmax", "G": "demo/gumbel"}}
            },
            "experiments": ["demo/sigmoid", "demo/gumbel"],
        }
    )
    shown = ["demo/gumbel", "demo/gol", "demo/softmax"]
    assert pipeline.layout.experiments == shown
    assert list(pipeline.experiments) == [*shown, "demo/sigmoid"]
    assert list(pipeline.grid.tables) == ["A", "B", "Further experiments"]
    assert pipeline.grid.experiments == ["demo/gumbel", "demo/gol", "demo/sigmoid", "demo/softmax"]
    assert pipeline.layout.files[-1] == "softmax_against_gumbel"
    for layout in (pipeline.layout, pipeline.grid):
        assert read_layout(layout.text) == layout


def test_lvis_is_the_whole_grid_of_the_original_and_the_recipes():
    pipeline = read_pipeline(read_yaml(configs_folder() / "lvis.yaml"))
    twice = "activations/gumbel_htc_r101_4x4_1x"
    names = facts.original().keys() - {twice}
    recipes = {name for name in experiments() if name.startswith("longtail/")}
    recipes -= {"longtail/apa_gol"}  # wants a file that cannot be fetched
    assert set(pipeline.experiments) == names | recipes and len(names) == 49
    assert len(pipeline.layout.experiments) == 14
    paper = facts.paper()
    activations, gol = pipeline.layout.tables.values()
    for name, (label, results) in zip(activations, paper["activations"].items(), strict=True):
        assert (experiment(name).label, experiment(name).published) == (label, results)
    for name, model in zip(gol, paper["pretrained"].values(), strict=True):
        assert name == model["config"]
        assert experiment(name).published == model["results"]
    (figure,) = pipeline.layout.figures.values()
    assert list(figure) == list(paper["figure"])
    for model, group in figure.items():
        for series, name in group.items():
            published = experiment(name).published
            assert paper["figure"][model][series] == {key: published[key] for key in ("AP", "APr")}


SLOW = {"set": {"optimizer.lr": "0.01"}, "label": "Gumbel, lr 0.01"}


def test_rows_with_changes_of_their_own():
    """Three learning rates are three rows of one table."""
    items = [
        "demo/gumbel",
        {"demo/gumbel@slow": SLOW},
        {"demo/gumbel@fast": {"set": {"optimizer.lr": 0.08, "runner.max_epochs": 3}}},
    ]
    content = {
        "name": "mine",
        "tables": {"Rates": items},
        "figures": {"Two": {"R-18": {"slow": "demo/gumbel@slow", "as it is": "demo/gumbel"}}},
        "experiments": ["demo/softmax", "demo/gumbel@slow"],
        "set": {"runner.max_epochs": 2},
        "seeds": 2,
    }
    pipeline = read_pipeline(content)
    names = ["demo/gumbel", "demo/gumbel@slow", "demo/gumbel@fast"]
    assert pipeline.layout.tables == {"Rates": names}
    assert list(pipeline.experiments) == [*names, "demo/softmax"]
    assert read_layout(pipeline.layout.text) == pipeline.layout
    assert pipeline.runs(names[1])[1] == "results/mine/runs/demo/gumbel@slow/seed1"
    assert {pipeline.data(name) for name in names} == {"results/mine/data/demo"}
    assert pipeline.settings(names[0]) == ["gol.threads=1", "runner.max_epochs=2"]
    assert pipeline.settings(names[1]) == [
        "gol.threads=1",
        "runner.max_epochs=2",
        'optimizer.lr="0.01"',
        'gol.label="Gumbel, lr 0.01"',
    ]
    assert pipeline.overrides(names[2])["runner.max_epochs"] == 3
    assert len({pipeline.definition(name) for name in names}) == 3
    assert pipeline.scorings(names[1]) == ["gumbel"]


def test_a_row_may_bring_its_own_weights():
    r50 = "activations/gumbel/gumbel_r50_4x4_1x"
    row = {f"{r50}@mine": {"set": {"gol.weights": {"_delete_": True, "file": "mine.pth"}}}}
    pipeline = read_pipeline({"name": "mine", "experiments": [r50, row]})
    assert pipeline.pretrained_backbone(r50) == "r50"
    assert pipeline.pretrained_backbone(f"{r50}@mine") is None


def test_the_schema_is_made_from_the_model(root):
    """`python -m gol.config.pipeline_file` writes it anew; editors read it."""
    path = root / "workflow/schemas/pipeline.schema.yaml"
    assert path.read_text(encoding="utf-8") == schema()
    validator = Draft202012Validator(read_yaml(path))
    for shipped in PIPELINES:
        assert validator.is_valid(read_yaml(shipped))
    assert validator.is_valid({"name": "mine", "experiments": ["a", {"a@b": SLOW}]})
    assert not validator.is_valid({"name": "mine", "experiments": [{"a@b": {"sett": {}}}]})
    assert not validator.is_valid({"name": "mine", "seeds": 0})


BAD = {
    "unknown key": ({"expochs": 3}, "unknown key 'expochs'; allowed: name, dataset, experiments"),
    "unknown experiment": ({"experiments": ["demo/gumble"]}, "unknown experiment 'demo/gumble'"),
    "unknown dataset": ({"dataset": "coco"}, "unknown dataset 'coco'; allowed: demo"),
    "wrong type": ({"seeds": "three"}, "key 'seeds' must be a whole number, not 'three'"),
    "no seed": ({"seeds": 0}, "key 'seeds' must be at least 1, not 0"),
    "no experiment": ({"experiments": []}, "key 'experiments'"),
    "twice": ({"experiments": ["demo/gumbel"] * 2}, "key 'experiments'"),
    "unsafe name": ({"name": "../up"}, "key 'name'"),
    "line break after the name": ({"name": "a\n"}, "key 'name'"),
    "long name": ({"name": "n" * 230}, "key 'name' must have at most 200 characters"),
    "long row": ({"experiments": ["demo/gumbel@" + "n" * 230]}, "at most 200 bytes"),
    "dataset with a wildcard": (
        {"dataset": "data/a{b}.yaml"},
        "key 'dataset' must be a dataset or",
    ),
    "dataset like an option": ({"dataset": "-x.yaml"}, "key 'dataset' must be a dataset or"),
    "long title": (
        {"figures": {"f" * 230: {"M": {"S": "demo/gumbel"}}}},
        "and at most 200 bytes",
    ),
    "table without experiments": ({"tables": {"A": []}}, "key 'tables.A'"),
    "unknown experiment in a figure": (
        {"figures": {"F": {"R-50": {"Gumbel": "demo/gumble"}}}},
        "unknown experiment 'demo/gumble'",
    ),
    "figure without series": ({"figures": {"F": {"R-50": []}}}, "key 'figures.F.R-50'"),
    "figure without a file name": (
        {"figures": {"?!": {"M": {"S": "demo/gumbel"}}}},
        "figure '?!': a title needs",
    ),
    "figures of one file": (
        {"figures": {"A b": {"M": {"S": "demo/gumbel"}}, "a-B": {"M": {"S": "demo/gumbel"}}}},
        "figure 'a-B': its file a_b.png is that of figure 'A b'",
    ),
    "figure of every report": (
        {"figures": {"AP by group": {"M": {"S": "demo/gumbel"}}}},
        "its file ap_by_group.png is that of a figure of reports",
    ),
    "title of a table and a figure": (
        {"tables": {"A": ["demo/gumbel"]}, "figures": {"A": {"M": {"S": "demo/gumbel"}}}},
        "figure 'A': a table has this title",
    ),
    "title of the rest": (
        {"tables": {"Further experiments": ["demo/gumbel"]}},
        "title 'Further experiments' is that of the table",
    ),
    "title that is no text": ({"tables": {1: ["demo/gumbel"]}}, "key 1 in tables must be a text"),
    "variant that is no row": (
        {"experiments": ["demo/gumbel"], "variants": {"a b": {"optimizer.lr": 1}}},
        r"key 'a b' in variants must match ^[\w.=+-]+$",
    ),
    "no config key": ({"set": {1: 5}}, "key 1 in set must be a text"),
    "axis in set": ({"set": {"backbone": "r50"}}, "key 'set.backbone': an axis belongs"),
    "seed in set": ({"set": {"seed": 3}}, "key 'set.seed': seeds 0, 1 … are counted by the key"),
    "threads": ({"threads": 10**6}, "key 'threads' must be at most 1024, not 1000000"),
    "row without a name": (
        {"experiments": [{"demo/gumbel": SLOW}]},
        "key 'experiments.0' must be NAME@ROW (letters, digits and . = + - _), not 'demo/gumbel'",
    ),
    "row of a path": ({"experiments": [{"demo/gumbel@a/b": SLOW}]}, "must be NAME@ROW"),
    "row without changes": (
        {"experiments": ["demo/gumbel@slow"]},
        "row demo/gumbel@slow has no changes: write 'demo/gumbel@slow: {set: {KEY: VALUE}}'",
    ),
    "row with nothing": (
        {"experiments": [{"demo/gumbel@slow": {"label": "a"}}]},
        "key 'experiments.0.demo/gumbel@slow.set' is missing",
    ),
    "row with another key": (
        {"experiments": [{"demo/gumbel@slow": {"sett": {}}}]},
        "unknown key 'sett' in experiments.0.demo/gumbel@slow; did you mean 'set'? allowed: set, l",
    ),
    "row of an unknown experiment": (
        {"experiments": [{"demo/gumble@slow": SLOW}]},
        "unknown experiment 'demo/gumble'; did you mean 'demo/gumbel'?",
    ),
    "two rows in one": (
        {"experiments": [{"demo/gumbel@a": SLOW, "demo/gumbel@b": SLOW}]},
        "key 'experiments.0' must be a name, or one NAME@ROW with its changes",
    ),
    "row defined twice": (
        {"tables": {"A": [{"demo/gumbel@a": SLOW}], "B": [{"demo/gumbel@a": {"set": {"x": 1}}}]}},
        "row demo/gumbel@a is defined twice: name it alone the second time",
    ),
    "axis in a row": (
        {"experiments": [{"demo/gumbel@a": {"set": {"backbone": "r50"}}}]},
        "key 'set.backbone': an axis belongs",
    ),
    "wrong value in a row": (
        {"experiments": [{"demo/gumbel@a": {"set": {"runner.max_epochs": 0}}}]},
        "key 'runner.max_epochs' must be at least 1, not 0",
    ),
    "number for a name": ({"experiments": [5]}, "key 'experiments.0' must be a name, or NAME@ROW"),
    "text for a list": ({"experiments": "demo/gumbel"}, "key 'experiments' must be a list, not 'd"),
    "unknown config key": ({"set": {"optimizer.lrr": 1}}, "unknown key 'lrr' in optimizer"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case):
    values, words = BAD[case]
    with pytest.raises(UserError) as raised:
        read_pipeline({**GOOD, **values})
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["name", "experiments"])
def test_a_missing_key_is_named(key):
    with pytest.raises(UserError, match=f"'{key}' is missing"):
        read_pipeline({name: value for name, value in GOOD.items() if name != key})


def test_planning_imports_no_torch():
    code = (
        "import sys; from gol.config.pipeline import read_pipeline; "
        "read_pipeline({'name': 'a', 'experiments': ['demo/gol']}).definition('demo/gol'); "
        "sys.exit(bool({'torch', 'mmcv', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_variants_are_rows_of_every_experiment():
    content = {"name": "x", "experiments": ["demo/softmax", "demo/gumbel"]}
    variants = {"slow": {"optimizer.lr": 0.01}, "fast": {"optimizer.lr": 0.1}}
    pipeline = read_pipeline(content | {"variants": variants})
    assert pipeline.experiments == (
        "demo/softmax@slow",
        "demo/softmax@fast",
        "demo/gumbel@slow",
        "demo/gumbel@fast",
    )
    assert pipeline.overrides("demo/gumbel@fast")["optimizer.lr"] == 0.1
    assert read_layout(json.dumps(content | {"variants": variants})) == pipeline.layout


def test_a_baseline_needs_three_seeds():
    content = {"name": "x", "experiments": ["demo/softmax", "demo/gumbel"]}
    content["baseline"] = "demo/softmax"
    baselines = [read_pipeline(content | {"seeds": seeds}).baseline for seeds in (1, 2, 3)]
    assert baselines == [None, None, "demo/softmax"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "demo/sofmax"}, "unknown baseline 'demo/sofmax'; did you mean"),
        ({"variants": {"a": {"optimizer.lrr": 1}}}, "unknown key 'lrr' in optimizer"),
        ({"variants": {"a": {}}}, "key 'variants.a' must have at least 1"),
        (
            {"variants": {"a": {"optimizer.lr": 1.0}}, "experiments": ["demo/gumbel@b"]},
            "demo/gumbel@b is a row already: with 'variants' name experiments alone",
        ),
        (
            {
                "variants": {"a": {"optimizer.lr": 1.0}},
                "figures": {"Figure": {"R-18": {"Softmax": "demo/softmax"}}},
            },
            "'figures' and 'variants'",
        ),
        (
            {"experiments": ["demo/softmax", "longtail/iif"], "baseline": "demo/softmax"},
            "baseline demo/softmax: what is shown was scored on different data, demo and lvis_v1",
        ),
        (
            {
                "experiments": ["activations/gumbel/gumbel_fr50_4x4_1x_lvis05"],
                "protocols": ["fixed", "boundary"],
            },
            "gumbel_fr50_4x4_1x_lvis05, whose detector faster_rcnn has no masks; allowed:",
        ),
    ],
)
def test_variants_baselines_and_protocols_that_are_refused(changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_pipeline({"name": "x", "experiments": ["demo/softmax"]} | changes)


def test_a_misspelt_key_of_a_layout_is_refused():
    with pytest.raises(UserError, match="did you mean 'protocols'"):
        read_layout('{"experiments": ["demo/gumbel"], "protocls": ["fixed"]}')
