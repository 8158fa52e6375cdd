"""Makes of a valid document one that a tool, a person or a bad disk might have left."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

DEEP, DIGITS = "@deep@", "@digits@"  # what json.dumps and Python's parser cannot hold
_NESTED: Any = []
for _ in range(300):
    _NESTED = [_NESTED]
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 1.0, 1.5, -0.5, 1e-320, 1e308, -1e308, 2**31, 2**53 + 1),
    *(2**63 - 1, 2**63, -(2**63) - 1, 10**308, 10**400, -(10**400)),
    *(float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "text",
        "1",
        "NaN",
        "ü\u202e\u0000",
        "\ud800",
        "a\nb\x1b[31m",
        "../../x",
        "/",
        "x" * 999,
    ),
    *("{", "${HOME}", "!!python/object:os.system", "&a [*a]", "=1+1", "$x^$", "\\", "|", "'\""),
    *([], {}, [[]], [{}], {"": {}}, [None], [1, "a"], {"a": [{}]}, [0] * 3000, _NESTED),
    *(DEEP, DIGITS),
]


def mutated(document: Any, rng: random.Random, times: int = 1) -> tuple[Any, str]:
    """A copy with so many structural changes, and what they are."""
    holder = [copy.deepcopy(document)]
    return holder, "; ".join(_change(holder, rng) for _ in range(times))


def _change(holder: list, rng: random.Random) -> str:
    parent, key, path = _place(holder, rng)
    operation = rng.choice(_OPERATIONS)
    operation(holder, parent, key, rng)
    return f"{operation.__name__.strip('_')} {path}"


def _place(holder: list, rng: random.Random) -> tuple[Any, Any, str]:
    """A container and one of its keys, as often near the root as far from it."""
    parent: Any = holder
    key: Any = 0
    path = ""
    while isinstance(parent[key], dict | list) and parent[key] and rng.random() > 0.2:
        parent = parent[key]
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        path += f"/{key}"
        if len(path) > 200:
            break
    return parent, key, path


def _replace(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = copy.deepcopy(rng.choice(VALUES))


def _drop(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    if parent is not holder:
        del parent[key]


def _rename(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent, dict):
        parent[rng.choice([key.upper(), f"{key}s", key[:-1], f" {key}", ""])] = parent.pop(key)


def _duplicate(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent, list) and parent is not holder:
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))


def _swap(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    other, place, _ = _place(holder, rng)
    parent[key] = copy.deepcopy(other[place])


def _nudge(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    value = parent[key]
    if isinstance(value, int | float) and abs(value) < 1e300:
        ways: list[Callable] = [lambda v: v + 1, lambda v: v - 1, lambda v: -v, lambda v: v * 1000]
        ways += [lambda v: v + 0.5, lambda v: v / 3, lambda v: 0, float, str]
        parent[key] = rng.choice(ways)(value)


def _wrap(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = rng.choice([lambda v: [v], lambda v: {"a": v}, str])(parent[key])


def _everywhere(holder: list, parent: Any, key: Any, rng: random.Random) -> None:
    """A tool makes the same mistake in all entries of a list."""
    entries = parent[key] if isinstance(parent[key], list) else parent
    entries = [entry for entry in entries if isinstance(entry, dict) and entry]
    if not entries or isinstance(entries, dict):
        return
    name, value = rng.choice(list(entries[0])), rng.choice([*VALUES, ...])
    for entry in entries:
        if value is ...:
            entry.pop(name, None)
        else:
            entry[name] = copy.deepcopy(value)


_OPERATIONS = [_replace, _replace, _replace, _drop, _rename, _duplicate, _swap, _nudge, _nudge]
_OPERATIONS += [_wrap, _everywhere, _everywhere]


def as_json(document: Any, levels: int = 1500) -> bytes:
    """The document as a file's content, nested to so many levels where it is deep."""
    text = json.dumps(document)
    text = text.replace(f'"{DEEP}"', "[" * levels + "]" * levels)
    return text.replace(f'"{DIGITS}"', "9" * 5000).encode()


def spoiled(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Damages a text: cut, doubled, overwritten, or in another encoding."""
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice([1, 2, 10, 100]))
    junk = rng.choice(
        [b"\0", b"\xff", b"NaN", b"}", b"]", b",", b'"', b"[[[[", b"1e999", b"\\u", b"-"]
    )
    ways = {
        "cut": content[:start],
        "hole": content[:start] + content[end:],
        "doubled": content[:end] + content[start:],
        "junk": content[:start] + junk + content[end:],
        "BOM": b"\xef\xbb\xbf" + content,
        "UTF-16": content.decode().encode("utf-16"),
        "twice": content * 2,
        "empty": b"",
    }
    way = rng.choice([*ways, "junk", "junk", "hole", "doubled"])
    return ways[way], f"{way} at {start}"
