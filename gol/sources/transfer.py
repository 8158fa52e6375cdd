"""One file from one address: what has come, what may follow, and where it has to stop.

Beside a file ``F`` that is being fetched lie ``F.part`` (what has come) and ``.F.part.json`` (which
response it is of).
"""

import itertools
import math
import os
import re
import stat
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from gol.errors import UserError
from gol.files import check_space, read_json, write_json
from gol.progress import ByteProgress, format_bytes
from gol.sources.source import Source

_TIMEOUT = (10, 60)  # seconds to connect, and without any data
_BLOCK = 1 << 18
_LATER = (408, 425, 429)  # HTTP statuses that are worth another try, as all from 500 on
_RATIO, _SMALL = 200, 16 << 20  # to which an answer may grow that is compressed on its way
_DECODED = {"gzip", "x-gzip", "deflate"}  # Content-Encodings that requests undoes


class Broken(Exception):
    """This try failed; another one may not."""


class Unusable(Exception):
    """This address does not have the file."""


@dataclass(frozen=True)
class Begun:
    """The response that a part is the beginning of.

    Attributes:
        url: who sent it.
        validator: the file's version, as an If-Range may name it.
        total: the whole file's bytes.
    """

    url: str
    validator: str | None
    total: int | None


class Part:
    """The beginning of ``path``, in a file of its own that no link leads away from."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.path = path.with_name(f"{path.name}.part")
        self.about = path.with_name(f".{path.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have come."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return 0
        ours = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        return found.st_size if ours else 0

    def begun(self) -> Begun | None:
        """What is known of its response, if anything is."""
        try:
            begun = Begun(**read_json(self.about))
        except (TypeError, UserError):
            return None
        fine = isinstance(begun.url, str) and isinstance(begun.validator, str | None)
        return begun if fine and type(begun.total) in (int, type(None)) else None

    def create(self, begun: Begun | None = None) -> BinaryIO:
        """Begins anew, instead of whatever is there."""
        self.remove()
        if begun:
            write_json(self.about, asdict(begun))
        return open(self.path, "xb")

    def extend(self) -> BinaryIO:
        """Continues."""
        return open(self.path, "ab", opener=lambda path, how: os.open(path, how | os.O_NOFOLLOW))

    def remove(self) -> None:
        """Forgets what has come."""
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Becomes the file."""
        self.about.unlink(missing_ok=True)
        os.replace(self.path, path)


@dataclass(frozen=True)
class _Answer:
    """What the headers of an answer say.

    Attributes:
        start: the first byte that is sent.
        total: the whole file's bytes, if the server says so.
        framed: whether a break would be noticed without ``total``.
        encoded: whether the bytes are compressed on their way.
        most: bytes to which these may grow, where that follows from what is sent.
    """

    start: int
    total: int | None
    framed: bool
    encoded: bool
    most: float = math.inf


def receive(url: str, source: Source, part: Part) -> bool:
    """One HTTP request, for what ``part`` lacks.

    Returns:
        Whether its answer was all of the file.

    Raises:
        Broken, Unusable: it did not come, or will not.
    """
    import requests

    # A compressed answer would have other bytes and another size.
    headers, begun = {"Accept-Encoding": "identity"}, _continued(url, source, part)
    have = part.size if begun else 0
    if begun and have == begun.total:
        return False
    if begun:
        headers["Range"] = f"bytes={have}-"
        if begun.validator:
            headers["If-Range"] = begun.validator
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            answer = _check(response, have, begun, source, part)
            _store(response, url, answer, source, part)
    except requests.RequestException as error:
        raise _failure(error) from error
    except ValueError as error:  # urllib3's for an address that it cannot read
        raise Unusable("not the address of a file") from error
    size = answer.total or source.bytes
    if size and part.size != size:
        raise Broken(f"the connection ended after {part.size} of {size} bytes")
    return answer.start == 0 and (size is not None or answer.framed)


def _store(response: Any, url: str, answer: _Answer, source: Source, part: Part) -> None:
    """Writes the body; stops where it becomes larger than the file can be."""
    most = answer.total or source.bytes or min(source.most(part.name), answer.most)
    check_space(part.path.parent, (answer.total or source.bytes or 0) - answer.start)
    # What was compressed on its way cannot be continued: ranges would count other bytes.
    begun = None if answer.encoded else Begun(url, _validator(response), answer.total)
    done, size = answer.start, answer.total or source.bytes
    with (
        part.extend() if done else part.create(begun) as file,
        ByteProgress(part.name, size, done) as progress,
    ):
        for block in response.iter_content(_BLOCK):
            done += len(block)
            if done > most:
                part.remove()
                raise Unusable(f"it sends more than {format_bytes(most)}")
            if not size:
                _check_growth(part, len(block))
            file.write(block)
            progress.add(len(block))
        os.fsync(file.fileno())


def _check_growth(part: Part, block: int) -> None:
    """A file of unknown size that fills the disk is not left there."""
    try:
        check_space(part.path.parent, block)
    except UserError:
        part.remove()
        raise


def _continued(url: str, source: Source, part: Part) -> Begun | None:
    """What ``part`` is the beginning of, if it may be continued.

    A server that names the file's version (ETag, Last-Modified) sends the rest of that version
    only; otherwise a hash has to show whether the pieces fit.
    """
    begun = part.begun() if part.size else None
    if begun and begun.url != url:
        begun = Begun(url, None, begun.total)  # another server's version
    if begun is None or source.sha256:
        return begun
    return begun if begun.validator and begun.total != part.size else None


def _check(response: Any, have: int, begun: Begun | None, source: Source, part: Part) -> _Answer:
    """Refuses an answer that cannot be the file, by its headers."""
    status = response.status_code
    if not source.sha256 and _unprotected(response):
        raise Unusable("https leads to http, where anybody may change a file of unknown sha256")
    if status == 416:  # there is nothing at that offset: another file than the one begun
        part.remove()
        raise Broken("the file is shorter than what was received before")
    if status not in (200, 206):
        kind = Broken if status >= 500 or status in _LATER else Unusable
        raise kind(f"HTTP {status} {_phrase(status)}".strip())
    # A captive portal or a vanished share answers with a page and status 200.
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Unusable("a web page, not the file")
    answer = _answer(response)
    if source.bytes and answer.total and answer.total != source.bytes:
        raise Unusable(f"the file has {answer.total} bytes, not {source.bytes}")
    if answer.total and answer.total > source.most(part.name):
        raise Unusable(f"it announces {format_bytes(answer.total)}")
    fits = begun and answer.start == have and _same(response, begun, answer.total)
    if status == 206 and not (fits and not answer.encoded):
        part.remove()
        raise Broken("not the range that was asked for, or that of another file")
    if not (answer.framed or source.bytes or source.sha256):
        # Only the end of the connection would mark the end of the file: any break would.
        raise Unusable("the server does not say how large the file is")
    return answer


def _unprotected(response: Any) -> bool:
    """Whether the answer came over http although https was asked for."""
    schemes = [hop.url.partition(":")[0].lower() for hop in (*response.history, response)]
    return ("https", "http") in itertools.pairwise(schemes)


def _answer(response: Any) -> _Answer:
    headers = response.headers
    length = re.fullmatch(r"[0-9]{1,18}", headers.get("Content-Length", ""))
    start, total = 0, int(length[0]) if length else None
    coding = {c.strip().lower() for c in headers.get("Content-Encoding", "").split(",")}
    coding -= {"", "identity"}
    if not coding <= _DECODED:
        raise Unusable("it arrives in an unknown Content-Encoding")
    if response.status_code == 206:
        span = re.match(
            r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18})", headers.get("Content-Range", "")
        )
        start, total = (int(span[1]), int(span[2])) if span else (-1, None)
    framed = bool(length) or "chunked" in headers.get("Transfer-Encoding", "").lower()
    if not coding:
        return _Answer(start, total, framed, False)
    most = max(_RATIO * total, _SMALL) if length and total is not None else math.inf
    return _Answer(start, None, framed, True, most)


def _same(response: Any, begun: Begun, total: int | None) -> bool:
    """Whether the answer continues the earlier response, as far as the server says."""
    versions = (begun.validator, _validator(response))
    return begun.total in (None, total) and (None in versions or versions[0] == versions[1])


def _validator(response: Any) -> str | None:
    """What an If-Range may name: a strong ETag, or the time of the last change."""
    tag = response.headers.get("ETag", "")
    named = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return named if re.fullmatch(r"[ -~]{1,200}", named) else None


def _phrase(status: int) -> str:
    """The standard's words for a status, not the server's."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _failure(error: Any) -> Broken | Unusable:
    """A requests error as one short reason."""
    import requests

    kinds = requests.exceptions
    if isinstance(error, (kinds.InvalidURL, kinds.InvalidSchema, kinds.MissingSchema)):
        return Unusable("not the address of a file")
    if isinstance(error, kinds.InvalidHeader | kinds.ContentDecodingError):
        return Unusable("its answer contradicts itself")
    if isinstance(error, requests.Timeout):
        return Broken("no answer in time")
    inner = _innermost(error)
    text = getattr(inner, "strerror", None) or str(inner)
    return Broken(f"no connection: {text.rsplit(': ', 1)[-1]}")


def _innermost(error: BaseException) -> BaseException:
    """The error that the libraries wrapped: as their reason, or as an argument."""
    inside = [getattr(error, "reason", None), *reversed(error.args)]
    found = next((each for each in inside if isinstance(each, BaseException)), None)
    return error if found is None else _innermost(found)


def copy(origin: Path, part: Part) -> None:
    """The same from a file of this machine.

    Raises:
        Unusable: it cannot be read, or is no plain file.
    """
    try:
        size = origin.stat().st_size
        if not origin.is_file():
            raise Unusable("not a file")
        file = open(origin, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        raise Unusable(getattr(error, "strerror", None) or str(error)) from error
    with file, part.create() as copied, ByteProgress(origin.name, size) as progress:
        check_space(part.path.parent, size)
        while block := file.read(_BLOCK):
            copied.write(block)
            progress.add(len(block))
