"""What is no store, or damaged, is refused; what 0.3.0 wrote is read."""

import json

import numpy as np
import pytest
from old_store import downgrade
from store_files import random_file, same, write

from gol.data.store import AnnotationStore, file_digest
from gol.errors import UserError


def cut(rng, path):
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(16, len(content))])


def damage_header(rng, path):
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[12:16], "little")
    content[16 + rng.integers(2)] = 0xFF
    assert length > 2
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (cut, "is truncated or damaged"),
        (damage_header, "is truncated or damaged"),
        (lambda _, p: p.write_bytes(p.read_bytes() + b"x"), "is truncated or damaged"),
        (lambda _, p: p.write_bytes(p.read_bytes()[:9]), "is not an annotation store"),
        (lambda _, p: p.write_bytes(b""), "is not an annotation store"),
        (lambda _, p: p.write_text(json.dumps({"images": []})), "is not an annotation store"),
        (lambda _, p: p.write_bytes(b"GOLSTORE\7" + p.read_bytes()[9:]), "version 7, not 2"),
        (lambda _, p: p.unlink(), "No such file"),
        (lambda _, p: (p.unlink(), p.mkdir()), "Is a directory"),
    ],
)
def test_what_is_no_store(rng, tmp_path, spoil, named):
    store = write(tmp_path, random_file(rng))[1]
    spoil(rng, store)
    for read in (AnnotationStore.open, file_digest):
        with pytest.raises(UserError, match=named) as error:
            read(store)
        assert str(store) in str(error.value) and "\n" not in str(error.value)


def test_a_store_of_0_3_0_is_read_checked_and_has_the_same_digest(rng, tmp_path):
    """Fingerprints, and with them finished runs, rest on the digest."""
    path = write(tmp_path, random_file(rng))[1]
    digest, wanted = file_digest(path), AnnotationStore.open(path).dataset()
    downgrade(path)
    assert file_digest(path) == digest
    assert same(AnnotationStore.open(path).dataset(), wanted)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # in the array bytes
    path.write_bytes(content)
    with pytest.raises(UserError, match="is truncated or damaged"):
        AnnotationStore.open(path)


def test_a_damaged_mask_is_noticed_when_its_image_is_read(rng, tmp_path, monkeypatch):
    """And not before: opening a store must not read all of it."""
    monkeypatch.setattr("gol.data.blocks.BLOCK", 512)
    path = write(tmp_path, random_file(rng, images=300))[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the last image with annotations
    path.write_bytes(content)
    store = AnnotationStore.open(path)
    last = int(np.flatnonzero(np.diff(store.first))[-1])
    assert store.annotations(0) is not None and store.image(last)
    with pytest.raises(UserError, match=r"train\.store is truncated or damaged: write it again"):
        store.annotations(last)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("categories"),
        lambda data: data["images"][0].pop("width"),
        lambda data: data["images"][0].pop("file_name"),
        lambda data: data["annotations"][0].update(bbox=[1, 2, 3]),
        lambda data: data["annotations"][0].update(bbox="abcd"),
        lambda data: data["annotations"].append(3),
    ],
)
def test_json_of_another_schema(rng, tmp_path, spoil):
    data = random_file(rng)
    spoil(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"a\.json: not of the COCO schema"):
        AnnotationStore.open(tmp_path / "a.json")
