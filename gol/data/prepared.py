"""The names of the files in a prepared dataset's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gol.files import read_json

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Prepared:
    """What ``gol preprocess`` writes into ``folder``."""

    folder: Path

    def annotations(self, split: str) -> Path:
        """A split's annotations in one schema, as evaluation reads them."""
        return self.folder / f"{split}.json"

    def store(self, split: str) -> Path:
        """The same for training and detection, see :mod:`gol.data.store`."""
        return self.folder / f"{split}.store"

    @property
    def raw(self) -> Path:
        """Where ``gol demo`` draws."""
        return self.folder / "raw"

    @property
    def imported(self) -> Path:
        """Where `gol import` brings the exports of a labelling tool in."""
        return self.folder / "imported"

    @property
    def classes(self) -> Path:
        """Class statistics of the train split."""
        return self.folder / "classes.json"

    @property
    def summary(self) -> Path:
        """What was found and repaired."""
        return self.folder / "summary.json"

    @property
    def problems(self) -> Path:
        """All that is wrong with the raw annotations; there only if they were refused."""
        return self.folder / "problems.json"


def raw_digests(annotations: str | Path) -> dict[str, str]:
    """Split to the SHA-256 of its raw annotation file, where the prepared folder says it.

    Args:
        annotations: a file of the folder.

    Raises:
        UserError: the folder's summary is damaged.
    """
    file = Prepared(Path(annotations).parent).summary
    summary: Any = read_json(file) if file.is_file() else {}
    parts = {split: summary.get(split) for split in SPLITS} if isinstance(summary, dict) else {}
    found = {split: part.get("sha256") for split, part in parts.items() if isinstance(part, dict)}
    return {split: digest for split, digest in found.items() if isinstance(digest, str)}


@dataclass(frozen=True)
class Drawn:
    """What ``gol demo`` draws into ``folder``."""

    folder: Path

    def annotations(self, split: str) -> Path:
        """A split's annotations."""
        return self.folder / f"{split}.json"

    def images(self, split: str) -> Path:
        """A split's image folder."""
        return self.folder / split
