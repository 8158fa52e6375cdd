"""Reading and writing files so that a reader never sees half of one."""

import gc
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gol.errors import UserError, validated
from gol.files.digests import check_seal, seal, seal_path
from gol.progress import format_bytes, progress

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

json_text = json.JSONEncoder(allow_nan=False).encode
Encode = Callable[[Iterable[Any]], Iterable[str]]
_MOST_VALUES, _DEEPEST = 10**6, 500  # of a YAML file


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; it replaces ``path`` when the block succeeds.

    The temporary file is flushed to disk before the rename and removed when the block fails,
    so ``path`` holds either its old content or all of the new one.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def sealed_path(path: str | Path, writer: str | None) -> Iterator[Path]:
    """As :func:`atomic_path`, with a digest beside the file that :func:`read_json` checks.

    Args:
        path: the file.
        writer: the command that writes it, which is what mends a damaged one; None: no digest.

    Raises:
        UserError: as :func:`atomic_path`.
    """
    path, text, ours = Path(path), "", None
    with atomic_path(path) as temporary:
        yield temporary
        if writer:
            text, ours = seal(path, temporary, writer), temporary.stat()
        # Before the file is replaced: between the two, a crash leaves one that is not checked.
        seal_path(path).unlink(missing_ok=True)
    if ours:
        write_text(seal_path(path), text)
        # Another process may have replaced the file meanwhile: better no digest than this one.
        with suppress(OSError):
            if os.path.samestat(ours, path.stat()):
                return
        seal_path(path).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Removes a file, if it is there, and the digest beside it."""
    path.unlink(missing_ok=True)
    seal_path(path).unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` (UTF-8) atomically; what UTF-8 has no code for becomes an escape sequence."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(
    path: str | Path,
    value: Any,
    indent: int | None = None,
    writer: str | None = None,
    encode: Encode | None = None,
) -> None:
    """Writes ``value`` as JSON atomically; NaN is refused, since JSON has none.

    Args:
        path: the file.
        value: plain data.
        indent: as for ``json.dump``.
        writer: as for :func:`sealed_path`; every file that a later step reads has one.
        encode: what makes JSON of each entry of the lists in an object, if there is no ``indent``.
    """
    with sealed_path(path, writer) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(_json_pieces(value, indent, encode))
        file.write("\n")


def _json_pieces(value: Any, indent: int | None, encode: Encode | None) -> Iterator[str]:
    """The text in pieces, so that a gigabyte of annotations is not held as text too."""
    if indent is not None or not isinstance(value, dict):
        yield json.dumps(value, indent=indent, allow_nan=False)
        return
    yield "{"
    for index, (key, item) in enumerate(value.items()):
        yield f"{', ' if index else ''}{json_text(str(key))}: "
        if isinstance(item, list):
            yield "["
            yield from json_items(progress(item, f"writing {key}", len(item)), encode)
            yield "]"
        else:
            yield json_text(item)
    yield "}"


def json_items(items: Iterable[Any], encode: Encode | None = None) -> Iterator[str]:
    """The text of a JSON list without its brackets, in pieces; NaN is refused."""
    separator = ""
    for text in encode(items) if encode else map(json_text, items):
        yield separator
        yield text
        separator = ", "


@contextmanager
def uncollected() -> Iterator[None]:
    """Pauses the garbage collector: annotations are millions of objects, and none is garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: the file is missing, unreadable, damaged, truncated or not JSON.
    """
    return _read_json(path, hashed=False)[0]


def read_hashed_json(path: str | Path) -> tuple[Any, str]:
    """As :func:`read_json`, with the SHA-256 of the very file that was read."""
    return _read_json(path, hashed=True)


def _read_json(path: str | Path, hashed: bool) -> tuple[Any, str]:
    digest = ""
    try:
        with uncollected(), open(path, "rb") as file:
            check_seal(path, file)
            if hashed:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
            # Windows editors add a BOM.
            return json.load(TextIOWrapper(file, "utf-8-sig")), digest
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: its lists and objects are nested too deeply") from error
    except ValueError as error:
        if (coding := _coding(path)) != "UTF-8":
            remedy = f"`iconv -f {coding} -t UTF-8` makes one of it"
            raise UserError(f"{path} is {coding}, not a UTF-8 text: {remedy}") from error
        # Python refuses whole numbers of more than 4,300 digits.
        hint = " (truncated?)" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path} is not valid JSON{hint}: {error}") from error


def _coding(path: str | Path) -> str:
    """The encoding of a JSON file by its first bytes: UTF-8, -16 or -32."""
    with open(path, "rb") as file:
        return json.detect_encoding(file.read(4)).upper()[:6].rstrip("-")


def read_model(path: str | Path, model: "type[Model]") -> "Model":
    """Reads a JSON file as a pydantic model.

    Raises:
        UserError: as :func:`read_json`, or a key is missing or wrong; the message names both.
    """
    return validated(model, read_json(path), str(path))


@contextmanager
def exclusive(path: str | Path, message: str) -> Iterator[None]:
    """Lets one process at a time write ``path``; prints ``message`` if this one has to wait."""
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(message, file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_space(folder: Path, needed: int) -> None:
    """Refuses to start writing what the disk of ``folder`` cannot hold.

    Args:
        folder: where to write; it exists.
        needed: bytes.

    Raises:
        UserError: less is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {format_bytes(needed)} are needed, but only {format_bytes(free)} are free"
        )


def configs_folder() -> Path:
    """The folder ``configs``: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    return next(path for path in (package / "configs", package.parent / "configs") if path.is_dir())


@cache
def _yaml_loader() -> type:
    import yaml

    # libyaml's safe loader, where PyYAML was built with it, is ten times faster than Python's.
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        """Reads 1e-3 as a number, as JSON and YAML 1.2 do."""

    # Not 1e3, which may be the beginning of a hash.
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]\d+$"), list("-+0123456789")
    )
    return Loader


def parse_yaml(text: str, source: str) -> Any:
    """What a YAML text says; tags that would make it run code are refused.

    Args:
        text: the YAML.
        source: where it is from, for the message.

    Raises:
        UserError: it is not YAML, is nested too deeply, or aliases make more than a million
            values of it.
    """
    import yaml

    try:
        _refuse_depth(text, source)
        value = yaml.load(text, _yaml_loader())
        if _values(value, {}) > _MOST_VALUES:
            raise UserError(f"{source}: its aliases (*) stand for too many values")
        return value
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error


def _refuse_depth(text: str, source: str) -> None:
    """libyaml's events come without recursion; composing them would overflow C's stack."""
    import yaml

    depth = 0
    for event in yaml.parse(text, _yaml_loader()):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise UserError(f"{source}: its lists and mappings are nested too deeply")


def _values(value: Any, known: dict[int, int]) -> int:
    """How many values there are once every alias is written out; one within itself: infinite."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES + 1  # until it is known
        inside = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_values(item, known) for item in inside)
    return known[id(value)]


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file, as :func:`parse_yaml`.

    Raises:
        UserError: the file is missing or is not YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    return parse_yaml(text, str(path))
