"""Constants follow the class counts, with LVIS's own as the special case."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from seeds import fresh_seed

import gol
from gol.cli import main
from gol.config.axes import axis_values
from gol.config.resolve import read_config
from gol.data.constants import Constants, frequency_cuts
from gol.data.prepared import Prepared
from gol.errors import UserError
from gol.groups import frequency_group
from gol.losses.class_statistics import ClassStatistics


def counted(counts, images):
    names, numbers = tuple(map(str, range(len(counts)))), tuple(range(len(counts)))
    return ClassStatistics(numbers, names, ("f",) * len(counts), counts, counts, images, images)


def test_lvis_v1_has_its_published_constants_and_repeats_the_same_images():
    statistics = ClassStatistics.published("v1")
    found = Constants.of(statistics)
    assert found == Constants((10, 100), 0.001, 0.0011, 12 * 99388)


def test_cuts_and_classes_of_lvis_v0_5_are_its_own_but_for_two():
    statistics = ClassStatistics.published("v0_5")
    found = Constants.of(statistics)
    assert found.thresholds == (10, 100) and found.rare_frequency == 0.0018  # published: 0.00177
    assert sum(share < found.rare_frequency for share in statistics.image_frequency()) == 917
    assert sum(share < 0.00177 for share in statistics.image_frequency()) == 915


@pytest.mark.parametrize(
    ("counts", "images", "cuts"),
    [
        ((120, 80, 60, 40, 30, 22, 16, 12, 9, 7, 5, 4, 3, 2, 1), 200, (10, 59)),
        ((500, 600, 700), 1800, (500, 600)),
        ((0, 0, 3, 4, 5), 12, (3, 4)),
        ((5, 5, 5), 15, (10, 100)),  # nothing to divide
        ((5, 60), 65, (4, 5)),
        # 3 and 4 would leave one class common, where a fifth is five
        ((1, 1, 1, 2, 2, *[3] * 8, 4, *[5] * 7, 6, 6, 6, 41), 72, (2, 4)),
        ((398, 311, 1, 2), 1000, (10, 311)),  # 10 and 100 would leave nothing common
        ((2, 4, 11, 15, 175), 207, (10, 100)),
        ((37, 321, 411, 576, 671, 823, 1153, 1661, 1756, 1785, 1842), 1842, (411, 823)),
    ],
)
def test_cuts_of_small_data(counts, images, cuts):
    found = Constants.of(counted(counts, images))
    assert found.thresholds == cuts
    assert 0 < found.repeat_threshold < found.rare_frequency <= 1


@pytest.mark.parametrize("seed", [fresh_seed()])
def test_no_group_is_empty_that_need_not_be_and_the_cut_lies_between_the_two_shares(seed):
    rng = np.random.default_rng(seed)
    for _ in range(300):
        images = int(rng.integers(3, 5000))
        counts = tuple(np.minimum(rng.zipf(1.3, rng.integers(1, 60)), images).tolist())
        rare, common = frequency_cuts(counts)
        assert 0 <= rare < common
        groups = {frequency_group(count, (rare, common)) for count in counts}
        assert len(groups) >= min(len(set(counts)), 3), (counts, rare, common)
        found = Constants.of(counted(counts, images))
        if common / images < 0.99:
            assert found.repeat_threshold * 0.999 <= common / images < found.rare_frequency
        assert found.seen <= 100 * images


@pytest.mark.parametrize("seed", [fresh_seed()])
def test_cuts_are_fair_where_any_are_and_lvis_s_own_where_these_are(seed):
    rng = np.random.default_rng(seed)
    for case in range(200):
        size, most = int(rng.integers(3, 30)), int(rng.integers(9, 2000))
        drawn = rng.zipf(1.3, size) if case % 2 else most ** rng.uniform(0, 1, size)
        counts = np.minimum(drawn, most).astype(int)

        def is_fair(rare, common, counts=counts):
            sizes = np.bincount(np.digitize(counts, [rare, common], right=True), minlength=3)
            return min(sizes) >= 0.2 * len(counts) - 1e-9

        found = frequency_cuts(counts.tolist())
        if is_fair(10, 100):
            assert found == (10, 100), counts
        pairs = combinations(sorted(set(counts.tolist())), 2)
        assert is_fair(*found) or not any(is_fair(*pair) for pair in pairs), counts


@pytest.fixture
def automatic(tmp_path):
    """A dataset file that leaves its constants to the data, and its counted classes."""
    values = axis_values("dataset")["own"]
    assert [values[key] for key in ("thresholds", "repeat_threshold", "rare_frequency")] == [
        "auto",
        "auto",
        "auto",
    ]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_auto_becomes_numbers_of_the_data_in_the_resolved_config(automatic, tmp_path, capsys):
    with pytest.raises(UserError, match=r"classes\.json is missing: `gol preprocess --dataset"):
        gol.load_experiment("demo/gol", {"dataset": str(automatic)}, tmp_path)
    counted((120, 80, 60, 40, 30, 22, 16, 12, 9, 7, 5, 4, 3, 2, 1), 200).save(
        Prepared(tmp_path).classes
    )
    config = gol.load_experiment("demo/gol", {"dataset": str(automatic)}, tmp_path)
    assert config.data.train.oversample_thr == 0.29
    assert config.model.roi_head.bbox_head.loss_cls.lambda_ == 0.3
    told = ["--set", "data.train.oversample_thr=0.05", "--run", str(tmp_path / "run")]
    told += ["--set", "optimizer.lr=0.003"]  # a second time adds to the first
    arguments = ["--dataset", str(automatic), "--data", str(tmp_path), *told]
    assert main(["config", "demo/gol", *arguments]) == 0
    assert "rare up to 10, common up to 59 images; repeat factors below 0.29" in (
        capsys.readouterr().out
    )
    written = read_config(tmp_path / "run")
    assert written["data"]["train"]["oversample_thr"] == 0.05
    assert written["optimizer"]["lr"] == 0.003


def test_own_trains_for_as_many_images_as_the_data_ask_for(automatic, tmp_path, capsys):
    told = ["--dataset", str(automatic), "--data", str(tmp_path), "--init", "none"]
    assert main(["config", "own/gumbel", *told]) == 2
    assert "classes.json is missing: `gol preprocess" in capsys.readouterr().err
    counted((120, 80, 60, 40, 30), 300).save(Prepared(tmp_path).classes)
    run = str(tmp_path / "run")
    assert main(["config", "own/gumbel", *told, "--run", run]) == 0
    assert "max_iters: auto sees 20,000 images in 5,000 iterations" in capsys.readouterr().out
    assert read_config(run)["runner"] == {"type": "IterBasedRunner", "max_iters": 5000}
    assert main(["config", "own/gumbel", *told, "--run", run, "--set", "runner.max_iters=7"]) == 0
    assert "auto" not in capsys.readouterr().out
    assert read_config(run)["runner"]["max_iters"] == 7


def test_preprocess_finds_the_cuts_and_says_them(tmp_path, full_demo, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = axis_values("dataset")["own"]
    for split in ("train", "val"):
        data = json.loads((full_demo[0] / f"{split}.json").read_text())
        data["categories"] = [{"id": c["id"], "name": c["name"]} for c in data["categories"]]
        Path(f"{split}.json").write_text(json.dumps(data))
        values[split] = {"annotations": f"{split}.json", "images": str(full_demo[0] / split)}
    Path("mine.yaml").write_text(yaml.safe_dump(values))
    assert main(["preprocess", "--dataset", "mine.yaml", "--out", "out"]) == 0
    assert "from the class counts: rare up to 10, common up to 100" in capsys.readouterr().out
    found = json.loads(Path("out/summary.json").read_text())
    assert found["constants"]["rare_frequency"] == 0.15 and all(found["classes"].values())
