"""Images on a node's own disk: copied there once, for all processes that read them.

A folder ``gol-stage-UID/KEY`` holds the images that one annotation file names. An image in it is
good if its size and its time of change are the original's; any other is copied again. Who reads
the folder holds a shared lock on ``KEY.lock``, which goes with the process even if that is killed;
whoever can have the lock alone removes the folder. Nothing here makes a job fail: what cannot be
copied is read where it is, and one line says why.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gol.cluster.home import is_private
from gol.cluster.joblog import say
from gol.cluster.tasks import Task
from gol.config.resolve import read_config
from gol.data.local import read_from
from gol.data.store import AnnotationStore, file_digest
from gol.engine.distributed import after_copying, find_address, working_device
from gol.errors import UserError
from gol.files import check_space, exclusive
from gol.progress import ByteProgress

_THREADS = 16  # a network answers many small files faster than one after the other
_DONE = "complete"  # the file that says when a folder was found or made complete


@contextmanager
def staged(task: Task, place: str) -> Iterator[None]:
    """The task's images are read from this node's own disk within the block.

    Args:
        task: what reads them.
        place: a folder of that disk, in which ``$NAME`` is replaced; ``auto``: ``$SLURM_TMPDIR``,
            else ``$TMPDIR``, and nothing where the images lie on a disk of this machine already;
            empty: nothing is copied.

    Raises:
        UserError: no such run or device.
        NodeError: the GPU does not work, which is better known before than after the copying.
    """
    with ExitStack() as users:
        if place:
            local_rank = find_address().local_rank
            working_device(task.device, local_rank)
            users.enter_context(after_copying())
            for split in task.splits(read_config(task.run.path)):
                images = Path(split.get("img_prefix") or "")
                try:
                    users.enter_context(_copied(images, split["ann_file"], place))
                except (OSError, UserError) as error:
                    reason = (isinstance(error, OSError) and error.strerror) or error
                    if local_rank == 0:
                        say(f"images are read from {images}, not copied to this node: {reason}")
        yield


@contextmanager
def _copied(images: Path, annotations: str, place: str) -> Iterator[None]:
    root = _root(place, images)
    begin = time.time()
    key = f"{file_digest(annotations)} {images.resolve()}"
    folder = root / hashlib.sha256(key.encode()).hexdigest()[:16]
    _remove_unused(root, folder)
    with _used(folder):
        copy = folder / "images"
        with exclusive(copy, f"waiting for the process that copies {images} to {copy}"):
            # Where several ranks have waited, the first has done it for all.
            done = folder / _DONE
            if not done.exists() or done.stat().st_mtime < begin:
                _fill(copy, images, annotations)
                done.touch()
        with read_from(images, copy):
            yield


def _root(place: str, images: Path) -> Path:
    """This user's own folder below a place.

    Raises:
        UserError: there is none, or it would be no nearer than the images.
    """
    auto = place == "auto"
    if auto:
        place = os.environ.get("SLURM_TMPDIR") or os.environ.get("TMPDIR") or ""
        if not place:
            raise UserError("neither SLURM_TMPDIR nor TMPDIR is set here")
    base = Path(os.path.expandvars(place))
    if "$" in str(base):
        raise UserError(f"stage={place} names a variable that is not set here")
    base.mkdir(parents=True, exist_ok=True)
    if images.stat().st_dev == base.stat().st_dev:
        raise UserError(f"they lie on the same disk as {base}")
    if auto and _on_own_disk(images):
        raise UserError("they lie on a disk of this machine")
    root = base / f"gol-stage-{os.getuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    if not is_private(root):
        raise UserError(f"{root} belongs to somebody else, or others may write to it")
    return root


def _on_own_disk(folder: Path) -> bool:
    """Whether a folder lies on a disk of this machine rather than on the network."""
    import psutil

    mounted = {partition.mountpoint for partition in psutil.disk_partitions(all=False)}
    place = next(path for path in (folder.resolve() / "_").parents if os.path.ismount(path))
    return str(place) in mounted


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


@contextmanager
def _used(folder: Path) -> Iterator[None]:
    """Keeps others from removing a folder; the last one who does removes it."""
    path = _lock_of(folder)
    while True:
        with open(path, "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if not _is_at(lock, path):
                continue  # somebody removed it meanwhile
            try:
                folder.mkdir(exist_ok=True)
                yield
            finally:
                _remove_if_alone(lock, path)
            return


def _remove_unused(root: Path, wanted: Path) -> None:
    """Removes what killed processes have left, but not the folder that is wanted again."""
    for path in {*root.glob("*.lock")} - {_lock_of(wanted)}:
        with suppress(OSError), open(path, "ab") as lock:
            _remove_if_alone(lock, path)


def _remove_if_alone(lock: BinaryIO, path: Path) -> None:
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(lock, path):
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink()


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _fill(copy: Path, images: Path, annotations: str) -> None:
    """Copies all images that lack a good copy.

    Raises:
        UserError: they do not fit.
        OSError: a file cannot be read or written.
    """
    store = AnnotationStore.open(annotations)
    names = [store.image(row)["file_name"] for row in range(len(store))]
    names = [name for name in names if ".." not in Path(name).parts and not os.path.isabs(name)]
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            sizes = threads.map(lambda name: _lacking(images / name, copy / name), names)
            lacking = {name: size for name, size in zip(names, sizes, strict=True) if size}
            total = sum(lacking.values())
            check_space(copy.parent, total)
            with ByteProgress(f"copying images to {copy}", total) as progress:
                copies = threads.map(lambda name: _copy(images / name, copy / name), lacking)
                for size, _ in zip(lacking.values(), copies, strict=True):
                    progress.add(size)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _lacking(original: Path, copy: Path) -> int:
    """Bytes to copy; 0 where the copy is good, or where there is no original."""
    try:
        wanted = original.stat()
    except FileNotFoundError:
        return 0  # whoever reads it says so
    with suppress(OSError):
        found = copy.stat()
        if (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
            return 0
    return wanted.st_size


def _copy(original: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = copy.with_name(f"{copy.name}.part")
    shutil.copy2(original, part)
    os.replace(part, copy)
