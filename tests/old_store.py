"""Writes an annotation store as version 0.3.0 did."""

import json
import struct
from pathlib import Path


def downgrade(path: Path) -> None:
    """Turns a store of version 2 into one of version 1: no checksums, one digest."""
    content = path.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    header = json.loads(content[20 : 20 + length])
    keys = ("digest", "categories", "lengths")
    text = json.dumps({key: header[key] for key in keys}).encode()
    start = struct.pack("<8sII", b"GOLSTORE", 1, len(text)) + text
    arrays = content[-(-(20 + length) // 64) * 64 :]
    path.write_bytes(start + bytes(-len(start) % 64) + arrays)
