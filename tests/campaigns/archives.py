"""Zip archives with a few damaged or forged bytes: unpacked as they were, or refused in one line.

``python -m tests.campaigns.archives --count 3000 --seed 1`` prints how many did what, and fails if
one raised anything else, left something behind, or was unpacked with other content.
"""

import argparse
import io
import random
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from gol.errors import UserError
from gol.sources.archive import unpack

_DIRECTORY = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def contents(draw: random.Random) -> dict[str, bytes]:
    """Files that compress in part, one of them empty, one with a name beyond ASCII."""
    names = ("a/0.jpg", "a/1.JPG", "a/ü.jpg", "a/below/2.jpg")
    return {"a/empty.json": b""} | {name: draw.randbytes(300) + b"x" * 200 for name in names}


def pack(files: dict[str, bytes], method: int) -> bytes:
    """An archive of a folder, with what macOS adds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("a/", b"")
        file.writestr("__MACOSX/a/._0.jpg", b"clutter")
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def mutate(archive: bytes, draw: random.Random) -> bytes:
    """One to four mutations, half of them in the archive's directory."""
    data = bytearray(archive)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        begin = max(data.find(_DIRECTORY), 0) if draw.random() < 0.5 else 0
        place = draw.randrange(begin, len(data))
        kind = draw.choice(["bit", "bit", "byte", "cut", "insert", "word"])
        if kind == "bit":
            data[place] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            data[place] = draw.randrange(256)
        elif kind == "cut":
            del data[place : place + draw.randrange(1, 40)]
        elif kind == "insert":
            data[place:place] = draw.randbytes(draw.randrange(1, 20))
        else:
            data[place : place + 4] = draw.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0\0\0"])
    return bytes(data)


def outcome(archive: bytes, files: dict[str, bytes], folder: Path) -> str:
    """What unpacking does: "unpacked", "refused", or what is wrong with it."""
    path, target = folder / "z.zip", folder / "a"
    path.write_bytes(archive)
    try:
        unpack(path, target)
    except UserError as error:
        left = sorted(p.name for p in folder.iterdir() if p.name not in ("z.zip", ".a.lock"))
        return f"left behind: {left}" if left or "\n" in str(error) else "refused"
    except Exception as error:
        return f"traceback: {error!r}"
    paths = [path for path in target.rglob("*") if path.is_file()]
    found = {f"a/{path.relative_to(target)}": path.read_bytes() for path in paths}
    return "unpacked" if found == files else f"wrong: {sorted(found)}"


def run(count: int, seed: int) -> Counter:
    """How often each outcome came of ``count`` mutated archives."""
    draw, outcomes = random.Random(seed), Counter()
    files = contents(draw)
    originals = [pack(files, method) for method in _METHODS]
    for number in range(count):
        archive = mutate(originals[number % len(originals)], draw)
        with tempfile.TemporaryDirectory() as folder:
            outcomes[outcome(archive, files, Path(folder))] += 1
    return outcomes


def main() -> int:
    """Runs the campaign; 1 if anything but "unpacked" and "refused" came."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    arguments = parser.parse_args()
    outcomes = run(arguments.count, arguments.seed)
    print(f"seed {arguments.seed}:", *(f"{n} {what}" for what, n in outcomes.most_common()))
    return int(not outcomes.keys() <= {"unpacked", "refused"})


if __name__ == "__main__":
    sys.exit(main())
