"""One JSON list written by several ranks, whole or not at all, the same however many they are."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from itertools import cycle
from pathlib import Path

from gol.engine.distributed import Ranks
from gol.errors import UserError
from gol.files import exclusive, json_items, sealed_path

_PENDING = 2  # most chunks that wait for the thread


def write_sharded(
    out: str | Path,
    chunks: Iterable[Iterable],
    ranks: Ranks,
    waiting: AbstractContextManager | None = None,
) -> int:
    """Writes the chunks of all ranks as one list: the first of each rank in turn, then the second …

    A rank holds few chunks in memory at a time: a thread appends them to a file of its own beside
    ``out``, one per line, and rank 0 puts those files together when all are done.

    Args:
        out: the JSON file.
        chunks: this rank's parts of the list, in order; rank r of W gives chunks r, r + W, ….
            No chunk is requested while another job writes the list. The thread iterates over a
            chunk's items while the next chunk is made.
        ranks: this process among the others.
        waiting: context to wait for that job in.

    Returns:
        The length of the list.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    out = Path(out)
    parts = [out.with_name(f".{out.name}.part{rank}") for rank in range(ranks.world)]
    try:
        with _alone(out, ranks, waiting or nullcontext()):
            try:
                count = _write_part(parts[ranks.rank], chunks)
                total = int(ranks.sum([count])[0])
                if ranks.is_main:
                    _merge(out, parts)
                    _remove_parts(out)
                ranks.barrier()
            finally:
                with suppress(OSError):
                    parts[ranks.rank].unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    return total


@contextmanager
def _alone(out: Path, ranks: Ranks, waiting: AbstractContextManager) -> Iterator[None]:
    """Rank 0 holds the list's lock, since two jobs of one list would mix their parts."""
    with ExitStack() as stack:
        if ranks.is_main:
            out.parent.mkdir(parents=True, exist_ok=True)
            text = f"{out}: waiting for the process that writes it"
            with waiting:
                stack.enter_context(exclusive(out, text))
        ranks.barrier()
        yield


def _write_part(path: Path, chunks: Iterable[Iterable]) -> int:
    """Writes chunks in a thread, while the next ones are made in this one; returns their items."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    pending: deque[Future[int]] = deque()
    with open(path, "w", encoding="utf-8") as file, ThreadPoolExecutor(1) as thread:

        def write(chunk: Iterable) -> int:
            items = list(chunk)
            file.writelines(json_items(items))
            file.write("\n")
            return len(items)

        try:
            for chunk in chunks:
                pending.append(thread.submit(write, chunk))
                if len(pending) > _PENDING:
                    count += pending.popleft().result()
            return count + sum(future.result() for future in pending)
        except BaseException:  # an interrupt does not wait for what will be thrown away
            thread.shutdown(wait=False, cancel_futures=True)
            raise


def _merge(out: Path, parts: list[Path]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, encoding="utf-8")) for path in parts]
        temporary = stack.enter_context(sealed_path(out, "gol detect"))
        with open(temporary, "w", encoding="utf-8") as merged:
            merged.write("[")
            empty = True
            for file in cycle(files):
                line = file.readline()
                if not line:  # it was this file's turn, so all chunks have had theirs
                    break
                if chunk := line.rstrip("\n"):
                    merged.write(chunk if empty else f", {chunk}")
                    empty = False
            merged.write("]\n")


def _remove_parts(out: Path) -> None:
    """Removes this job's files, and those of one that was killed and had more ranks."""
    prefix = f".{out.name}.part"
    for path in list(out.parent.iterdir()):
        if path.name.startswith(prefix):
            path.unlink(missing_ok=True)
