"""The one exception that the command line turns into a line of text and exit code 2."""


class UserError(Exception):
    """Bad input or a full disk: one line that names what is wrong and what is allowed."""


def choices(names: object) -> str:
    """The allowed names as one readable phrase, for an error message."""
    return ", ".join(str(name) for name in names)  # type: ignore[attr-defined]
