"""An image that passes the check is read by training, with the pixels that its masks are for."""

from pathlib import Path

import mmcv
import numpy as np
import pytest
from PIL import Image
from seeds import fresh_seed

from gol.data import images
from gol.data.images import _TURNED, any_size, file_names, image_problem, trained_size

ORIENTATION = 0x0112
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.fixture
def picture():
    """A random image of 60 x 40 px, smooth enough for lossy formats."""
    rng = np.random.default_rng(fresh_seed())
    return Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((60, 40))


def trained(path: Path) -> np.ndarray | None:
    """What mmdet's LoadImageFromFile makes of a file, as RGB."""
    pixels = mmcv.imfrombytes(path.read_bytes(), flag="color", channel_order="bgr")
    return None if pixels is None else pixels[..., ::-1].astype(int)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("suffix", ["jpg", "mpo", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_masks_are_for_the_image_as_it_is_seen(picture, tmp_path, suffix, orientation, decode):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[ORIENTATION] = orientation
    picture.save(path, exif=exif)
    seen = picture if orientation == 1 else picture.transpose(TURNS[orientation])
    problem = image_problem(path, seen.size, decode)
    with Image.open(path) as image:
        turned = orientation == 1 or image.format in _TURNED
    if turned:
        assert problem is None
        assert np.abs(trained(path) - np.array(seen)).mean() < 8
        wrong = image_problem(path, seen.size[::-1], decode)
        assert wrong[0] == "image of another size" and "is {} x {}".format(*seen.size) in wrong[1]
    else:
        assert f"Exif orientation {orientation}" in problem[1] and "save it upright" in problem[1]
        assert image_problem(path, seen.size[::-1], decode)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("gif", "P"), ("avif", "RGB"), ("tga", "RGB"), ("ico", "RGB"), ("pcx", "RGB")),
        *(("tif", "F"), ("tif", "I"), ("tif", "I;16"), ("tif", "RGBA"), ("tif", "CMYK")),
        *(("png", "1"), ("png", "P"), ("png", "LA"), ("png", "RGBA"), ("png", "I;16")),
        *(("jpg", "L"), ("jpg", "CMYK"), ("bmp", "RGB"), ("ppm", "RGB"), ("jp2", "RGB")),
        ("webp", "RGBA"),
    ],
)
def test_what_training_cannot_read_is_refused_by_its_format(
    picture, tmp_path, suffix, mode, decode
):
    path = tmp_path / f"a.{suffix}"
    try:
        picture.convert("I" if mode == "I;16" else mode).convert(mode).save(path)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"this Pillow writes no {suffix}")
    with Image.open(path) as image:
        size, form = image.size, image.format
    problem, pixels = image_problem(path, size, decode), trained(path)
    if pixels is None:
        assert problem[0] == "unreadable image file" and f"cannot read this {form}" in problem[1]
    else:
        assert problem is None and pixels.shape == (40, 60, 3)
    if (suffix, mode) == ("tif", "F"):
        assert problem


def test_there_is_no_limit_of_179_megapixels(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (20_000, 10_000)).save(path)
    limit = Image.MAX_IMAGE_PIXELS
    with any_size():
        assert image_problem(path, (20_000, 10_000), decode=False) is None
        assert image_problem(path, (20_000, 9_999), decode=True)[0] == "image of another size"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_opencv_decodes_large_images_one_at_a_time_too(picture, tmp_path, monkeypatch):
    """Eight threads would need eight times 3 GB."""
    locked = []

    def watched(path):
        locked.append(images._LARGE.locked())
        return trained_size(path)

    monkeypatch.setattr(images, "_MANY", 60 * 40 - 1)
    monkeypatch.setattr(images, "trained_size", watched)
    picture.save(tmp_path / "a.tif")
    assert images.image_problem(tmp_path / "a.tif", picture.size, decode=True) is None
    assert locked == [True]


def test_separators_of_windows_are_tried():
    assert file_names({"file_name": "images\\a.jpg"})[:2] == ["images\\a.jpg", "images/a.jpg"]
