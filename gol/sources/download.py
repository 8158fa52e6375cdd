"""Files from the web: resumed where they broke off, verified, fetched once.

A lock ``.F.lock`` beside a file ``F`` lets one process fetch it. What is there is believed only
if its size and hash are the published ones, as far as they are published.
"""

import hashlib
import time
from pathlib import Path
from urllib.parse import unquote

from gol.errors import UserError
from gol.files import exclusive
from gol.progress import ByteProgress
from gol.sources.source import Source, split
from gol.sources.transfer import Broken, Part, Unusable, copy, receive

_TRIES = 4  # in a row that bring nothing new
_PAUSE = 1.0  # seconds before the second try, doubled with each further one


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
    part, problems = Part(path), []
    for url in source.urls:
        try:
            _from(url, source, part)
        except Unusable as problem:
            if part.begun() is None:
                part.remove()  # nobody could continue it
            problems.append(f"{url}: {problem}")
            continue
        part.finish(path)
        return
    raise UserError(f"cannot download {path.name}: {'; '.join(problems)}")


def _from(url: str, source: Source, part: Part) -> None:
    """Completes ``part`` from one address, or raises Unusable."""
    for again in (False, True):
        certain = _transfer(url, source, part)
        problem = _problem(source, part.path)
        if problem is None:
            return
        part.remove()
        # What an earlier try or another mirror left may be at fault: once more, all from here.
        if again or certain:
            raise Unusable(f"the file {problem}")


def _transfer(url: str, source: Source, part: Part) -> bool:
    """Asks until everything has come; returns whether all of it is certainly one file's."""
    parts = split(url)
    if parts and parts.scheme in ("", "file") and parts.netloc in ("", "localhost"):
        if not source.sha256:
            raise Unusable("a file of this machine is taken only if its sha256 is published")
        copy(Path(unquote(parts.path) if parts.scheme else url), part)
        return True
    if not parts or parts.scheme not in ("http", "https"):
        raise Unusable("not the address of a file")
    failures, best = 0, part.size
    while True:
        try:
            return receive(url, source, part)
        except Broken as problem:
            if part.size > best:
                failures, best = 0, part.size
            failures += 1
            if failures == _TRIES:
                raise Unusable(str(problem)) from problem
        time.sleep(_PAUSE * 2 ** (failures - 1))


def _problem(source: Source, path: Path) -> str | None:
    """What is wrong with a file, as the end of a sentence."""
    size = path.stat().st_size
    if source.bytes not in (None, size):
        return f"has {size} bytes, not {source.bytes}"
    if source.sha256:
        found = _sha256(path)
        if not found.startswith(source.sha256.lower()):
            return f"has the sha256 {found[: len(source.sha256)]}, not {source.sha256}"
    return None


def _sha256(path: Path) -> str:
    digest, size = hashlib.sha256(), path.stat().st_size
    with open(path, "rb") as file, ByteProgress(f"checking {path.name}", size) as progress:
        while block := file.read(1 << 20):
            digest.update(block)
            progress.add(len(block))
    return digest.hexdigest()
