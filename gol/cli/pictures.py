"""The verbs that find objects in photos and show them."""

import glob
import os
import sys
from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from gol.cli.verbs import JSON, OUT, Result, dataset_names, experiment_names, option, verb, whole
from gol.errors import UserError, visible

_DETECTIONS, _ANNOTATIONS = "detections.json", "annotations.json"
_CROPS = "crops"


def _share(text: str) -> float:
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to 1")
    return value


def _port(text: str) -> int:
    import argparse

    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to 65535")
    return int(text)


#: What finds: the arguments of :func:`gol.engine.predict.load_detector`.
_RUN = option("run", type=Path, help="folder of a trained run, or a checkpoint")
_DETECTOR = (
    option("--scoring", help="activation for the scores (default: the config's first)"),
    option("--checkpoint", type=Path, help="weights instead of the run's own"),
    option("--device", help="cpu, cuda, cuda:1 … (default: the GPU if there is one)"),
    option(
        "--experiment",
        complete=experiment_names,
        help="what a checkpoint is: own/softmax for the Mask R-CNN of mmdet's zoo, for example",
    ),
    option("--config", type=Path, help="the same as a run's config.json"),
    option(
        "--dataset",
        complete=dataset_names,
        help="for --experiment: at whose image size to detect (default: the experiment's)",
    ),
    option("--classes", help="the checkpoint's, in order, if it does not say: dog,cat,… or coco"),
)


@verb(
    _RUN,
    option(
        "images",
        nargs="+",
        help="photos, folders (with all below them), patterns, or a .txt file that lists them",
    ),
    OUT,
    option("--score", type=_share, default=0.3, help="least score, from 0 to 1 (default 0.3)"),
    *_DETECTOR,
    option("--batch", type=whole(1), default=1, help="photos of equal size at once (default 1)"),
    option("--crop", action="store_true", help="write each object as a picture of its own, too"),
    JSON,
)
def predict(
    images: list[str], out: Path, score: float, batch: int, crop: bool, **chosen: Any
) -> Result:
    """Find objects in photos: pictures with masks and names, and JSON."""
    from gol.engine.predict import load_detector
    from gol.files import write_json
    from gol.progress import progress
    from gol.results.photos import Record

    files = _files(images, out)
    stems = _stems(files)
    _refuse_overwriting(files, stems, out, crop)
    detector = load_detector(**chosen)
    record, unread = Record(detector.classes), 0
    named = progress(zip(files, stems, strict=True), "photos", len(files))
    while some := list(islice(named, batch)):
        photos = _read(some)
        unread += len(some) - len(photos)
        found = detector.predict_all([photo.pixels for photo in photos], score)
        for photo, detections in zip(photos, found, strict=True):
            _write(photo, detections, out, crop, record)
    if not record.images:
        raise UserError("no photo can be read")
    write_json(out / _DETECTIONS, record.results())
    write_json(out / _ANNOTATIONS, record.dataset())
    return _said(record, unread, out, score)


@verb(
    _RUN,
    option(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    ),
    option("--port", type=_port, default=8000, help="default 8000; 0 for any free one"),
    option("--score", type=_share, default=0.3, help="where the threshold begins (default 0.3)"),
    *_DETECTOR,
    extra="all",
)
def serve(host: str, port: int, score: float, **chosen: Any) -> None:
    """Open a page on this machine that finds objects in the photo dropped on it, until Ctrl-C."""
    import ipaddress

    from gol.engine.predict import load_detector
    from gol.results.serve import address, build_app, build_server, listen

    with listen(host, port) as place:
        detector = load_detector(**chosen)
        own = detector.config.gol
        app = build_app(detector, f"{own.label} ({own.experiment})", score, host)
        bound, number = place.getsockname()[:2]
        if not ipaddress.ip_address(bound).is_loopback:
            text = f"gol serve: whoever can reach {address(bound, number)} can use this page"
            print(text, file=sys.stderr, flush=True)
        url = f"http://{address(host, number)}/"
        with suppress(KeyboardInterrupt):  # as it is meant to end
            build_server(app, lambda: print(url, flush=True)).run([place])


class _Photo(NamedTuple):
    """A photo that could be read.

    Attributes:
        file: it.
        stem: what its pictures are called.
        pixels: (h, w, 3) uint8, BGR.
    """

    file: Path
    stem: str
    pixels: Any


def _files(images: list[str], out: Path) -> list[Path]:
    """The photos that are named, each once; pictures of an earlier time are none."""
    from gol.data.images import IMAGE_SUFFIXES

    found: dict[Path, None] = {}
    for name in images:
        for each in _listed(Path(name)) if _is_list(Path(name)) else [name]:
            within = _within(each, out)
            if not within:
                place = f"{each}, which {name} lists" if each != name else name
                raise UserError(
                    f"no photo in {place}; allowed: files, folders with files that end in "
                    f"{', '.join(sorted(IMAGE_SUFFIXES))}, patterns such as 'photos/*.jpg', and "
                    "text files (.txt) that list these, one a line"
                )
            found.update(dict.fromkeys(within))
    return list(found)


def _within(name: str, out: Path) -> list[Path]:
    """The photos of a file, a folder or a pattern."""
    from gol.data.images import IMAGE_SUFFIXES

    # os.path, unlike Path, takes a name that is too long for one that is not there.
    if os.path.isdir(name):
        inside = sorted(p for p in Path(name).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        own = out.resolve()
        return [p for p in inside if p.is_file() and not p.resolve().is_relative_to(own)]
    if os.path.isfile(name):
        return [Path(name)]
    return [Path(p) for p in sorted(glob.glob(name, recursive=True)) if os.path.isfile(p)]


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and os.path.isfile(path)


def _listed(path: Path) -> list[str]:
    """What a text file names, beside itself if it is there, else in the current folder."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path}: {error}") from error
    if not any(lines):
        raise UserError(f"{path} lists no photo")
    return [_beside(path.parent, line) for line in lines if line]


def _beside(folder: Path, line: str) -> str:
    """A line of a list as a file, folder or pattern in the list's folder, if it is there."""
    if os.path.exists(folder / line):
        return str(folder / line)
    pattern = os.path.join(glob.escape(str(folder)), line)
    return pattern if glob.glob(pattern, recursive=True) else line


def _refuse_overwriting(files: list[Path], stems: list[str], out: Path, crop: bool) -> None:
    """Refuses to write over photos, and over what is there and not of an earlier time."""
    from gol.data.imports.door import REPORT

    photos = {file.resolve(): file for file in files}
    for stem in stems:
        if file := photos.get((out / f"{stem}.jpg").resolve()):
            raise UserError(f"{file} would be overwritten by a picture: name another --out")
    others = [out / REPORT]  # beside which `gol import` has an annotations.json, too
    if not os.path.exists(out / _DETECTIONS):
        others += [out / _ANNOTATIONS, *(out / f"{stem}.jpg" for stem in stems)]
        others += [out / _CROPS] * crop
    for path in filter(os.path.exists, others):
        raise UserError(
            f"{path} is there, but not from a finished `gol predict`: give another --out"
        )


def _stems(files: list[Path]) -> list[str]:
    """A name for each photo's pictures; a number is added where two photos have the same name."""
    taken: set[str] = set()
    stems = []
    for file in files:
        stem, number = file.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{file.stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _read(named: list[tuple[Path, str]]) -> list[_Photo]:
    """Those photos that can be read; it says which cannot, and the others go on."""
    from gol.engine.predict import photo_pixels

    photos = []
    for file, stem in named:
        try:
            photos.append(_Photo(file, stem, photo_pixels(file)))
        except UserError as error:
            print(visible(f"gol predict: {error}"), file=sys.stderr, flush=True)
    return photos


def _write(photo: _Photo, found: Any, out: Path, crop: bool, record: Any) -> None:
    """Writes the pictures of a photo and notes what was found."""
    from gol.results.photos import cut_outs, draw, write_photo

    picture = out / f"{photo.stem}.jpg"
    write_photo(picture, draw(photo.pixels, found))
    if crop:
        for number, part in enumerate(cut_outs(photo.pixels, found), 1):
            write_photo(out / _CROPS / f"{photo.stem}-{number}.jpg", part)
    record.add(photo.file, picture, photo.pixels.shape[:2], found)


def _number(count: int, name: str, plural: str = "s") -> str:
    return f"{count} {name}{'' if count == 1 else plural}"


def _said(record: Any, unread: int, out: Path, score: float) -> Result:
    names = {category["id"]: category["name"] for category in record.categories}
    counts = Counter(names[entry["category_id"]] for entry in record.annotations)
    photos, objects = len(record.images), len(record.annotations)
    found = f"{_number(objects, 'object')} in {_number(photos, 'photo')}"
    lines = [f"{found}: pictures, {_DETECTIONS} and {_ANNOTATIONS} in {out}"]
    lines += [f"  {count:5}  {name}" for name, count in counts.most_common(10)]
    if len(counts) > 10:
        lines.append(f"         and {_number(len(counts) - 10, 'more class', 'es')}")
    if not objects:
        lines.append(f"nothing scores {score:g} or more; a lower --score shows what comes nearest")
    if unread:
        lines.append(f"{_number(unread, 'photo')} left out: cannot be read")
    value = {
        "out": str(out),
        "photos": photos,
        "unread": unread,
        "detections": objects,
        "classes": dict(counts),
    }
    return Result(value, "\n".join(lines), 1 if unread else 0)
