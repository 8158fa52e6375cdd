"""The exceptions that the command line turns into text and an exit code, and their wording."""

import difflib
import re
import typing
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_LONGEST = 80  # characters of a value that a message shows
_LINE = 4000  # characters of a message
# Up to the last @ of the host's part, or of all where a raw password has a slash.
_LOGIN = re.compile(r"(?<=://)([^\s/?#]*|[^\s/:@]*:\S*)@")
# A value of one or two characters is no secret: ?dl=1.
_ARGUMENT = re.compile(r"([?&#][\w.~%-]+=)[^\s&#'\"]{2,}[^\s&#'\",:;.)]")
_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # of the direction


def without_secrets(text: str) -> str:
    """The text with ``***`` for what logs in by a URL: user and password, values of its query."""
    return _ARGUMENT.sub(r"\1***", _LOGIN.sub("***@", text))


def visible(text: str, keep: str = "") -> str:
    """The text with escapes such as ``\\x1b`` for what would steer a terminal or end a line.

    Args:
        text: any text.
        keep: characters that stay as they are.
    """

    def shown_char(char: str) -> str:
        steers = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        steers |= unicodedata.bidirectional(char) in _TURNING
        return char.encode("unicode_escape").decode() if steers and char not in keep else char

    return text if text.isprintable() else "".join(map(shown_char, text))


class UserError(Exception):
    """Bad input or a full disk: one line that names what is wrong and what is allowed.

    What a URL logs in with is hidden, and nothing in the message steers a terminal.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(visible(without_secrets(str(part)), keep="\n\t") for part in parts))


class LostJobError(UserError):
    """A process or its machine is gone, or the others did not come: trying again may help."""


class NodeError(LostJobError):
    """A machine or its GPU does not work: trying again on another may help."""


class PeerError(UserError):
    """Another rank of the job failed; it is the one that says why on the command line."""


class JobFailed(Exception):
    """A job that failed as often as it may: why, and the last lines of its log; exit code 1."""


class Interrupted(Exception):
    """SIGUSR2 asked the work to stop; the same command continues it; exit code 75."""


def plural(number: int, noun: str) -> str:
    """A number and what it counts: "1 class", "1,203 classes", "2 entries"."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        noun = f"{noun[:-1]}ie"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def choices(names: object) -> str:
    """The allowed names as one readable phrase, for an error message."""
    return ", ".join(str(name) for name in names)  # type: ignore[attr-defined]


def one_line(error: Exception) -> str:
    """What an error says, as one line of bounded length."""
    return _cut(str(error), _LINE)


def shown(value: Any) -> str:
    """A value as a message shows it: one line of at most 80 characters."""
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # an integer of 5,000 digits, a list within itself
        return f"a {type(value).__name__} that is too large to show"


def _cut(text: str, longest: int = _LONGEST) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def first_few(names: Collection[Any]) -> str:
    """The first three names, and how many more there are."""
    more = len(names) - 3
    return choices([*names][:3]) + (f" and {more} more" if more > 0 else "")


def unknown(what: str, name: Any, allowed: Collection[str], where: str = "") -> UserError:
    """The error for a name that is not allowed: the closest one is suggested and listed first.

    Args:
        what: what kind of name it is.
        name: what was given.
        allowed: all names that may be given.
        where: where it was found, after the name.
    """
    close = difflib.get_close_matches(str(name)[:_LONGEST], [*map(str, allowed)], n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    ordered = [*close, *(other for other in allowed if other not in close)]
    given = f"'{_cut(name) if isinstance(name, str) else shown(name)}'"
    place = f" in {where}" if where else ""
    return UserError(f"unknown {what} {given}{place}; {hint}allowed: {choices(ordered)}")


def pick(kind: str, name: Any, allowed: Mapping[str, Any]) -> Any:
    """The value of ``name``; a UserError lists the allowed names if there is none."""
    if not isinstance(name, str) or name not in allowed:
        raise unknown(kind, name, allowed)
    return allowed[name]


Model = typing.TypeVar("Model")


def validated(model: type[Model], content: Any, where: str = "", part: str = "") -> Model:
    """What a file says as an object, checked once.

    Args:
        model: a pydantic model.
        content: plain data, as read from JSON or YAML.
        where: stands before the message, e.g. the file's name.
        part: dotted key of ``content`` within the file.

    Raises:
        UserError: the first thing that is wrong, in one line, with what is allowed.
    """
    try:
        return model.model_validate(content)  # type: ignore[attr-defined]
    except ValueError as error:  # pydantic's ValidationError, without importing pydantic here
        reason = invalid(model, error, part.split(".") if part else [])
    raise UserError(f"{where}: {reason}" if where else str(reason))


def invalid(model: type, error: Any, part: Collection[str] = ()) -> UserError:
    """The first problem of pydantic's ``ValidationError`` in one line, with what is allowed."""
    # A misspelt key often makes a required one missing: the first says more.
    found = sorted(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")[0]
    kind, place, value = found["type"], found["loc"], found["input"]
    key = ".".join(map(str, [*part, *place]))
    if kind == "extra_forbidden":
        return unknown(
            "key", place[-1], keys_of(model, place), ".".join(map(str, [*part, *place[:-1]]))
        )
    if kind == "missing":
        return UserError(f"key '{key}' is missing")
    if place and (kind == "invalid_key" or place[-1] == "[key]"):
        *folders, name = [*part, *(name for name in place if name != "[key]")]
        where = f" in {'.'.join(map(str, folders))}" if folders else ""
        phrase = _PHRASES.get(kind, "must be a text").format(**found.get("ctx", {}))
        return UserError(f"key {shown(name)}{where} {phrase}")
    if kind == "literal_error":
        expected = found["ctx"]["expected"]
        return unknown(key, value, re.findall("'([^']*)'", expected) or [expected])
    phrase = _PHRASES.get(kind, "").format(**found.get("ctx", {}))
    if kind == "value_error":
        return UserError(f"key '{key}' {found['ctx']['error']}" if key else found["ctx"]["error"])
    if kind in ("model_type", "dict_type"):
        known = keys_of(model, (*place, ""))
        phrase += f" with the keys {choices(known)}" if known else ""
    phrase = phrase or found["msg"].replace("Input should be", "must be")
    subject = f"key '{key}' " if key else ""
    return UserError(f"{subject}{phrase}, not {shown(value)}")


#: pydantic's kinds of error in the words of our messages.
_PHRASES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
}


def keys_of(model: Any, place: tuple) -> list[str]:
    """The keys of the model in which the last part of ``place`` stands; none if it is no model."""
    for part in place[:-1]:
        fields = getattr(model, "model_fields", {})
        inside = fields[part].annotation if part in fields else model
        model = next((kind for kind in _kinds(inside) if hasattr(kind, "model_fields")), None)
    return list(getattr(model, "model_fields", ()))


def field_types(model: Any, place: tuple) -> list[Any]:
    """The types of a field that is ``place`` deep in a model: str and others, or models."""
    for part in place:
        fields = getattr(model, "model_fields", {})
        inside = list(_kinds(fields[part].annotation if part in fields else model))
        model = next((kind for kind in inside if hasattr(kind, "model_fields")), None)
    return inside


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types within one such as ``dict[str, X] | None``."""
    arguments = typing.get_args(annotation)
    if arguments:
        for argument in arguments:
            yield from _kinds(argument)
    else:
        yield annotation
