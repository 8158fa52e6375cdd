"""Finding the image files of an annotation file and checking that training can read them.

Training reads images with OpenCV, which mmcv hands their bytes. What it makes of a JPEG or a PNG
follows from the header, which Pillow reads in a fraction of the time; anything else it is asked.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gol.errors import UserError

#: What image files end in.
IMAGE_SUFFIXES = {
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    *(".avif", ".jp2", ".tga"),
}
#: Pillow's names of the formats that a stranger's photo may have. Others are decoded to learn the
#: size (ICO), or run a program (EPS).
PHOTOS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
#: mmdet leaves images with a shorter side out of training.
MIN_SIDE = 32

_ORIENTATION = 0x0112  # Exif tag; 1: upright
_TURNED = ("JPEG", "MPO", "PNG", "TIFF")  # formats that OpenCV turns as Exif says
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}
_TAIL = 1024  # bytes at the end of a file among which its end marker must be
MOST_PIXELS = 1 << 30  # pixels that OpenCV reads
_MANY, _LARGE = 1 << 26, Lock()  # pixels from which images are decoded one at a time

Found = tuple[str, str]


def file_names(image: dict[str, Any]) -> list[str]:
    """Where an image's file may be, relative to the image folder, most likely place first.

    Its ``file_name``, with the separators of Windows too; then the folder and file of its
    ``coco_url`` (LVIS names no file, and its val split has images of COCO's train2017); then the
    file alone.
    """
    name, url = image.get("file_name"), image.get("coco_url")
    names = [name, name.replace("\\", "/")] if name and isinstance(name, str) else []
    if url and isinstance(url, str):  # pandas writes NaN for what is missing
        parts = url.split("/")
        names += ["/".join(parts[-2:]), parts[-1]]
    return names


def find_image(image: dict[str, Any], folder: Path) -> str | None:
    """The first of :func:`file_names` that exists in ``folder``, or None."""
    return next((name for name in file_names(image) if os.path.isfile(folder / name)), None)


def image_problem(path: Path, size: tuple[int, int], decode: bool) -> Found | None:
    """What is wrong with an image file, as (kind, detail), or None.

    Args:
        path: the file.
        size: width and height in pixels that it must have when training reads it, which is after
            it was turned as its Exif data says.
        decode: decodes the image; otherwise only its header and its end are read, and the rest
            only if the end marker is not in its place.
    """
    unreadable = "unreadable image file"
    form, orientation, read, pixels = "file", 1, None, MOST_PIXELS
    try:
        with Image.open(path) as image:
            form, orientation = image.format, _orientation(image)
            pixels = image.width * image.height
            if form in _ENDS and orientation == 1 and pixels <= MOST_PIXELS:
                read = image.size
            if read in (None, size) and (decode or not _has_end(path, form)):
                with _one_if_large(pixels):
                    # JPEG: reads all blocks, but computes 1/8 of the size
                    image.draft("L", (1, 1))
                    image.load()
    except UnidentifiedImageError:
        pass  # OpenCV reads formats that Pillow does not
    except Exception as error:  # Pillow's readers raise all kinds of them
        return unreadable, f"{path}: {error or type(error).__name__}"
    if read is None:
        with _one_if_large(pixels):
            read = trained_size(path)
    if read is None:
        problem = f"OpenCV, with which training reads images, cannot read this {form}"
        return unreadable, f"{path}: {problem}: save it as JPEG or PNG"
    if orientation != 1 and form not in _TURNED:
        problem = f"training does not turn a {form} as its Exif orientation {orientation} says"
        return unreadable, f"{path}: {problem}: save it upright"
    if read != size:
        return "image of another size", "{} is {} x {}, not {} x {}".format(path, *read, *size)
    return None


def trained_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the image that mmcv makes of a file; None if it cannot."""
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):  # an empty file, more pixels than OpenCV allows
        return None
    return None if pixels is None else (pixels.shape[1], pixels.shape[0])


def read_photo(path: Path) -> np.ndarray:
    """Any photo as an array (height, width, 3) uint8 in OpenCV's order, BGR, upright.

    It is what training would read; what that cannot, or would leave turned, Pillow reads.

    Raises:
        UserError: neither can.
    """
    try:
        return decode_photo(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror or error}") from error


def decode_photo(
    content: bytes, name: object, formats: tuple[str, ...] | None = None
) -> np.ndarray:
    """A photo file's content as :func:`read_photo` returns it.

    Args:
        content: of the file.
        name: stands in the message.
        formats: those that Pillow may take it for; None: any.

    Raises:
        UserError: it cannot be read.
    """
    level = cv2.setLogLevel(0)  # OpenCV would tell the terminal what the message says
    try:
        return _decoded(content, name, formats)
    finally:
        cv2.setLogLevel(level)


def _decoded(content: bytes, name: object, formats: tuple[str, ...] | None) -> np.ndarray:
    try:
        with any_size(), Image.open(BytesIO(content), formats=formats) as image:
            if image.format not in _TURNED and _orientation(image) != 1:
                return upright_pixels(image)
    except Exception:  # OpenCV may know the format
        pass
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            return pixels
        with any_size(), Image.open(BytesIO(content), formats=formats) as image:
            return upright_pixels(image)
    except Exception as error:  # each reader raises all kinds of them
        reason = "neither OpenCV nor Pillow can read it"
        raise UserError(f"cannot read the image {name}: {reason}") from error


def stated_size(content: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a photo file's content; None if it is none of PHOTOS."""
    try:
        with any_size(), Image.open(BytesIO(content), formats=PHOTOS) as image:
            return image.size
    except Exception:  # Pillow's readers raise all kinds of them
        return None


def upright_pixels(image: Image.Image) -> np.ndarray:
    """A PIL image as an array (height, width, 3) uint8, BGR, turned as its Exif data says."""
    upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.ascontiguousarray(np.asarray(upright)[:, :, ::-1])


@contextmanager
def any_size() -> Iterator[None]:
    """Lifts Pillow's limit of 179 megapixels, which OpenCV does not share."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _one_if_large(pixels: int) -> AbstractContextManager[Any]:
    """Large images are decoded one after the other, for memory."""
    return _LARGE if pixels > _MANY else nullcontext()


def _orientation(image: Image.Image) -> int:
    """The Exif orientation; without Exif data Pillow would look for one elsewhere."""
    return image.getexif().get(_ORIENTATION, 1) if "exif" in image.info else 1


def _has_end(path: Path, image_format: str | None) -> bool:
    """Whether the end marker is there; some cameras append data after it."""
    end = _ENDS.get(image_format or "")
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL))
        return end is not None and end in file.read()
