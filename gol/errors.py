"""The exceptions that the command line turns into a line of text and exit code 2."""


class UserError(Exception):
    """Bad input or a full disk: one line that names what is wrong and what is allowed."""


class PeerError(UserError):
    """Another rank of the job failed; it is the one that says why on the command line."""


def choices(names: object) -> str:
    """The allowed names as one readable phrase, for an error message."""
    return ", ".join(str(name) for name in names)  # type: ignore[attr-defined]
