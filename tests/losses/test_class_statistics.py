"""Class statistics: counting, files, and the published LVIS numbers."""

import json
import random
from dataclasses import replace

import pytest

from gol.errors import UserError
from gol.losses.class_statistics import PUBLISHED, ClassStatistics


def annotations(images, categories, pairs):
    """A dictionary in the LVIS schema; pairs are (image id, category id)."""
    return {
        "images": [{"id": i} for i in images],
        "categories": [{"id": c, "name": f"class {c}"} for c in categories],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category}
            for n, (image, category) in enumerate(pairs)
        ],
    }


def test_counts_equal_a_plain_count_of_random_annotations():
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    rng = random.Random(seed)
    images, categories = list(range(100, 350)), rng.sample(range(1, 99), 9)
    pairs = [
        (rng.choice(images[: rng.choice([5, 60, 240])]), rng.choice(categories[:-1]))
        for _ in range(1500)
    ]
    statistics = ClassStatistics.from_annotations(annotations(images, categories, pairs))

    assert statistics.ids == tuple(sorted(categories))
    assert statistics.images == 250
    assert statistics.annotated_images == len({image for image, _ in pairs})
    for k, category in enumerate(statistics.ids):
        with_class = {image for image, c in pairs if c == category}
        assert statistics.names[k] == f"class {category}"
        assert statistics.image_counts[k] == len(with_class)
        assert statistics.instance_counts[k] == sum(c == category for _, c in pairs)
        frequency = statistics.image_frequency()[k]
        assert frequency == len(with_class) / statistics.annotated_images


@pytest.mark.parametrize(
    ("count", "thresholds", "group"),
    [
        (0, (10, 100), "r"),
        (10, (10, 100), "r"),
        (11, (10, 100), "c"),
        (100, (10, 100), "c"),
        (101, (10, 100), "f"),
        (3, (2, 5), "c"),
        (6, (2, 5), "f"),
    ],
)
def test_groups_at_the_thresholds(count, thresholds, group):
    data = annotations(range(200), [1], [(i, 1) for i in range(count)])
    assert ClassStatistics.from_annotations(data, thresholds).frequencies == (group,)


def test_the_file_s_own_groups_win_if_all_categories_have_one():
    data = annotations(range(3), [1, 2], [(0, 1)])
    data["categories"][0]["frequency"] = "f"
    assert ClassStatistics.from_annotations(data).frequencies == ("r", "r")
    data["categories"][1]["frequency"] = "c"
    assert ClassStatistics.from_annotations(data).frequencies == ("f", "c")


def test_an_empty_training_set_has_frequency_zero():
    statistics = ClassStatistics.from_annotations(annotations([], [1, 2], []))
    assert statistics.image_frequency() == (0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "LVIS or COCO schema: 'images'"),
        (lambda d: d["annotations"][0].pop("category_id"), "schema: 'category_id'"),
        (lambda d: d.update(categories=None), "schema"),
        (lambda d: d["categories"].clear(), "no category"),
        (lambda d: d["categories"].append({"id": 1, "name": "again"}), "category id 1 occurs"),
        (lambda d: d["images"].append({"id": 0}), "image id 0 occurs"),
        (lambda d: d["annotations"][0].update(category_id=77), "category_id 77"),
        (lambda d: d["annotations"][0].update(image_id=77), "image_id 77"),
        (lambda d: d["categories"][0].update(id="1"), "schema|whole number"),
    ],
)
def test_bad_annotations_are_named(change, message):
    data = annotations([0, 1], [1, 2], [(0, 1)])
    change(data)
    with pytest.raises(UserError, match=message):
        ClassStatistics.from_annotations(data)


def test_a_list_is_no_annotation_file():
    with pytest.raises(UserError, match="schema"):
        ClassStatistics.from_annotations([{"id": 1}])


@pytest.mark.parametrize(
    ("version", "classes", "groups", "threshold", "selected", "annotated"),
    [
        ("v1", 1203, (337, 461, 405), 0.0011, 815, 99388),
        ("v0_5", 1230, (454, 461, 315), 0.00177, 915, 56740),
    ],
)
def test_published_statistics(version, classes, groups, threshold, selected, annotated):
    statistics = ClassStatistics.published(version)
    assert statistics.ids == tuple(range(1, classes + 1))
    assert tuple(statistics.frequencies.count(g) for g in "rcf") == groups
    assert sum(f < threshold for f in statistics.image_frequency()) == selected
    assert statistics.annotated_images == annotated <= statistics.images


def test_real_annotations(shared_data):
    data = json.loads((shared_data / "minicoco_lt" / "minicoco_lt_train.json").read_text())
    for category in data["categories"]:
        category.pop("frequency")
    statistics = ClassStatistics.from_annotations(data, thresholds=(2, 5))
    assert tuple(statistics.frequencies.count(g) for g in "rcf") == (37, 31, 12)
    assert sum(statistics.instance_counts) == 740


def test_unknown_version_names_the_allowed_ones():
    with pytest.raises(UserError, match=r"'v2'; allowed: v1, v0_5"):
        ClassStatistics.published("v2")


@pytest.mark.parametrize("version", PUBLISHED)
def test_a_saved_file_loads_equal(tmp_path, version):
    statistics = replace(ClassStatistics.published(version), images=7)
    statistics.save(tmp_path / "new" / "classes.json")
    assert ClassStatistics.load(tmp_path / "new" / "classes.json") == statistics
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["classes.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("schema"), "'schema'"),
        (lambda d: d.update(schema="gol.class_statistics/0"), "'schema'"),
        (lambda d: d.pop("names"), "names"),
        (lambda d: d.update(colour=1), "colour"),
        (lambda d: d["names"].pop(), "'names' has"),
        (lambda d: d.update({k: [] for k, v in d.items() if isinstance(v, list)}), "0 entries"),
        (lambda d: d["frequencies"].__setitem__(0, "x"), "'frequencies'"),
        (lambda d: d["frequencies"].__setitem__(0, ["r"]), "'frequencies'"),
        (lambda d: d["image_counts"].__setitem__(0, -1), "'image_counts'"),
        (lambda d: d["instance_counts"].__setitem__(0, True), "'instance_counts'"),
        (lambda d: d["ids"].reverse(), "ascending"),
        (lambda d: d.update(ids="123"), "'ids'"),
        (lambda d: d.update(annotated_images=1.5), "'annotated_images' is 1.5"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, change, message):
    path = tmp_path / "classes.json"
    ClassStatistics.published("v1").save(path)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=message) as error:
        ClassStatistics.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", '{"schema": ', "[1, 2]", "null"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"classes\.json"):
        ClassStatistics.load(path)
    with pytest.raises(UserError, match=r"none\.json"):
        ClassStatistics.load(tmp_path / "none.json")
