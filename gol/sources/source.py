"""Where a file comes from, and what is known of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from gol.errors import UserError, shown, visible

#: Bytes of a file whose size nobody published, by its suffix: archives, and weights.
_MOST, _MOST_OTHER = {".zip": 100 << 30}, 10 << 30


def split(url: str) -> SplitResult | None:
    """An address taken apart; None if it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


@dataclass(frozen=True)
class Source:
    """Where a file comes from and what it must be.

    Attributes:
        urls: addresses, tried in turn: http or https; with a hash also file, or a path.
        bytes: size; None if it is not published.
        sha256: hexadecimal digest, or the part of its beginning that is published, at least 8
            digits; or None.

    Raises:
        UserError: ``sha256`` is no digest, or an address ends without a file's name.
    """

    urls: tuple[str, ...]
    bytes: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        digest = self.sha256
        text = isinstance(digest, str)  # YAML takes some unquoted digests for numbers
        if digest is not None and not (text and re.fullmatch(r"[0-9a-fA-F]{8,64}", digest)):
            raise UserError(f"sha256 must be 8 to 64 hexadecimal digits, not {shown(digest)}")

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Source":
        """The source that an entry of a configuration file describes (``urls`` or ``url``)."""
        urls = entry.get("urls") or [entry["url"]]
        return cls(tuple(urls), entry.get("bytes"), entry.get("sha256"))

    @property
    def name(self) -> str:
        """The file's name, as its first address ends.

        Raises:
            UserError: it ends in none.
        """
        parts = split(self.urls[0])
        name = unquote(parts.path).rsplit("/", 1)[-1] if parts else ""
        if name in ("", ".", "..") or name != visible(name):
            raise UserError("an address of a download must end in a file's name")
        return name

    def most(self, name: str) -> int:
        """Bytes at which an answer is cut off, for a file of this name."""
        return self.bytes or _MOST.get(PurePath(name).suffix.lower(), _MOST_OTHER)
