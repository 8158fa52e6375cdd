"""Files from the web: resumed where they broke off, verified, fetched once.

Beside a file ``F`` that is being fetched lie ``F.part`` (what has come), ``.F.part.json`` (which
response it is of) and ``.F.lock``; afterwards ``.F.sha256.json`` remembers its hash, so that
gigabytes need not be read again to see that they are unchanged.
"""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gol.errors import UserError
from gol.files import check_space, exclusive, read_json, write_json
from gol.progress import ByteProgress

_TRIES = 4  # in a row that bring nothing new
_PAUSE = 1.0  # seconds before the second try, doubled with each further one
_TIMEOUT = (10, 60)  # seconds to connect, and without any data
_BLOCK = 1 << 18
_LATER = (408, 425, 429)  # HTTP statuses that are worth another try, as all from 500 on


class _Broken(Exception):
    """This try failed; another one may not."""


class _Unusable(Exception):
    """This address does not have the file."""


@dataclass(frozen=True)
class Source:
    """Where a file comes from and what it must be.

    Attributes:
        urls: addresses, tried in turn: http, https, file, or a path.
        bytes: size; None if it is not published.
        sha256: hexadecimal digest, or the part of its beginning that is published; or None.
    """

    urls: tuple[str, ...]
    bytes: int | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Source":
        """The source that an entry of a configuration file describes (``urls`` or ``url``)."""
        urls = entry.get("urls") or [entry["url"]]
        return cls(tuple(urls), entry.get("bytes"), entry.get("sha256"))

    @property
    def name(self) -> str:
        """The file's name, as its first address ends."""
        return unquote(urlsplit(self.urls[0]).path).rsplit("/", 1)[-1]


def fetch(source: Source, path: str | Path) -> Path:
    """Fetches a file unless it is there, with progress on stderr.

    An interrupted download continues where it stopped, even in another process; of several
    processes that want the same file, one fetches it and the others wait.

    Args:
        source: what to fetch.
        path: the file to write.

    Returns:
        ``path``.

    Raises:
        UserError: no address has the file, ``path`` holds another one, or the disk is full.
    """
    path = Path(path)
    try:
        if not is_complete(source, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(path, f"{path.name}: waiting for the process that downloads it"):
                if not is_complete(source, path):
                    _fetch(source, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def is_complete(source: Source, path: Path) -> bool:
    """Whether ``path`` is there, of the right size and hash.

    Raises:
        UserError: another file is there; it is left alone.
    """
    if not path.is_file():
        return False
    problem = _problem(source, path)
    if problem:
        raise UserError(f"{path} {problem}: move it away, and it will be downloaded")
    return True


def _fetch(source: Source, path: Path) -> None:
    part, problems = path.with_name(f"{path.name}.part"), []
    for url in source.urls:
        try:
            _from(url, source, part)
        except _Unusable as problem:
            problems.append(f"{url}: {problem}")
            continue
        _sidecar(part).unlink(missing_ok=True)
        digest = _remembered(part)
        os.replace(part, path)
        _hash_file(part).unlink(missing_ok=True)
        if digest:
            _remember(path, digest)
        return
    raise UserError(f"cannot download {path.name}: {'; '.join(problems)}")


def _from(url: str, source: Source, part: Path) -> None:
    """Completes ``part`` from one address, or raises _Unusable."""
    for again in (False, True):
        certain = _transfer(url, source, part)
        problem = _problem(source, part)
        if problem is None:
            return
        for file in (part, _sidecar(part), _hash_file(part)):
            file.unlink(missing_ok=True)
        # What an earlier try or another mirror left may be at fault: once more, all from here.
        if again or certain:
            raise _Unusable(f"the file {problem}")


def _transfer(url: str, source: Source, part: Path) -> bool:
    """Asks until everything has come; returns whether all of it is certainly one file's."""
    if "://" not in url or url.startswith("file://"):
        _copy(url, source, part)
        return True
    failures, best = 0, _size(part)
    while True:
        try:
            return _receive(url, source, part)
        except _Broken as problem:
            if _size(part) > best:
                failures, best = 0, _size(part)
            failures += 1
            if failures == _TRIES:
                raise _Unusable(str(problem)) from problem
        time.sleep(_PAUSE * 2 ** (failures - 1))


def _receive(url: str, source: Source, part: Path) -> bool:
    """One request; returns whether its answer was all of the file, or raises _Broken, _Unusable."""
    import requests

    # A compressed answer would have other bytes and another size.
    headers, begun = {"Accept-Encoding": "identity"}, _begun(url, source, part)
    have = _size(part) if begun else 0
    if have and have == begun["total"]:
        return False
    if have:
        headers["Range"] = f"bytes={have}-"
        if begun["validator"]:
            headers["If-Range"] = begun["validator"]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            start, total = _check_answer(response, have, begun, source, part)
            check_space(part.parent, (total or source.bytes or 0) - start)
            if not start:
                part.write_bytes(b"")
                about = {"url": url, "validator": _validator(response), "total": total}
                write_json(_sidecar(part), about)
            title = part.name.removesuffix(".part")
            with open(part, "ab") as file, ByteProgress(title, total, start) as progress:
                for block in response.iter_content(_BLOCK):
                    file.write(block)
                    progress.add(len(block))
                os.fsync(file.fileno())
    except requests.RequestException as error:
        raise _failure(error) from error
    except ValueError as error:  # urllib3's for an address that it cannot read
        raise _Unusable("not the address of a file") from error
    wanted = total or source.bytes
    if wanted and _size(part) != wanted:
        raise _Broken(f"the connection ended after {_size(part)} of {wanted} bytes")
    return start == 0 and wanted is not None


def _begun(url: str, source: Source, part: Path) -> dict[str, Any] | None:
    """What is known of the response that ``part`` is the start of, if it may be continued.

    A server that names the file's version (ETag, Last-Modified) sends the rest of that version
    only; otherwise a hash has to show whether the pieces fit.
    """
    try:
        begun = read_json(_sidecar(part)) if _size(part) else None
    except UserError:
        return None
    if begun and begun["url"] != url:
        begun["validator"] = None  # another server's
    return begun if begun and (begun["validator"] or source.sha256) else None


def _check_answer(
    response: Any, have: int, begun: dict[str, Any] | None, source: Source, part: Path
) -> tuple[int, int | None]:
    """First byte that is sent and size of the whole file; refuses what cannot be the file."""
    status = response.status_code
    if status == 416:  # there is nothing at that offset: another file than the one begun
        part.unlink(missing_ok=True)
        raise _Broken("the file is shorter than what was received before")
    if status not in (200, 206):
        kind = _Broken if status >= 500 or status in _LATER else _Unusable
        raise kind(f"HTTP {status} {response.reason}")
    # A captive portal or a vanished share answers with a page and status 200.
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _Unusable("a web page, not the file")
    length = response.headers.get("Content-Length")
    start, total = 0, int(length) if length and length.isdecimal() else None
    if status == 206:
        span = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        start, total = (int(span[1]), int(span[2])) if span else (-1, None)
    if source.bytes and total and total != source.bytes:
        raise _Unusable(f"the file has {total} bytes, not {source.bytes}")
    if status == 206 and not (begun and start == have and _same(response, begun, total)):
        part.unlink(missing_ok=True)
        raise _Broken("not the range that was asked for, or that of another file")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
    if total is None and not (chunked or source.bytes or source.sha256):
        # Only the end of the connection would mark the end of the file: any break would.
        raise _Unusable("the server does not say how large the file is")
    return start, total


def _same(response: Any, begun: dict[str, Any], total: int | None) -> bool:
    """Whether the answer continues the earlier response, as far as the server says."""
    versions = (begun["validator"], _validator(response))
    return begun["total"] in (None, total) and (None in versions or versions[0] == versions[1])


def _validator(response: Any) -> str | None:
    """What an If-Range may name: a strong ETag, or the time of the last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _failure(error: Any) -> _Broken | _Unusable:
    """A requests error as one short reason."""
    import requests

    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return _Unusable("not the address of a file")
    if isinstance(error, requests.Timeout):
        return _Broken("no answer in time")
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner))
    return _Broken(f"no connection ({text.rsplit(': ', 1)[-1].strip(')')})")


def _copy(url: str, source: Source, part: Path) -> None:
    origin = Path(unquote(urlsplit(url).path) if "://" in url else url)
    try:
        size = origin.stat().st_size
        file = open(origin, "rb")  # noqa: SIM115
    except OSError as error:
        raise _Unusable(error.strerror) from error
    with file, open(part, "wb") as copy, ByteProgress(origin.name, size) as progress:
        check_space(part.parent, size)
        while block := file.read(_BLOCK):
            copy.write(block)
            progress.add(len(block))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sidecar(part: Path) -> Path:
    return part.with_name(f".{part.name}.json")


def _problem(source: Source, path: Path) -> str | None:
    """What is wrong with a file, as the end of a sentence."""
    size = path.stat().st_size
    if source.bytes not in (None, size):
        return f"has {size} bytes, not {source.bytes}"
    if source.sha256:
        found = _remembered(path) or _remember(path, _sha256(path))
        if not found.startswith(source.sha256.lower()):
            return f"has the sha256 {found[: max(8, len(source.sha256))]}, not {source.sha256}"
    return None


def _hash_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256.json")


def _remembered(path: Path) -> str | None:
    """The file's hash, if it was computed since the file last changed."""
    with suppress(UserError, KeyError, TypeError):
        known, found = read_json(_hash_file(path)), path.stat()
        if (known["bytes"], known["mtime_ns"]) == (found.st_size, found.st_mtime_ns):
            return known["sha256"]
    return None


def _remember(path: Path, digest: str) -> str:
    found = path.stat()
    about = {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": digest}
    with suppress(UserError):  # a cache that others fill may be read-only
        write_json(_hash_file(path), about)
    return digest


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file, ByteProgress(f"checking {path.name}", _size(path)) as progress:
        while block := file.read(1 << 20):
            digest.update(block)
            progress.add(len(block))
    return digest.hexdigest()
