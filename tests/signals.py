"""How tests start processes that are sent signals."""

import signal


def default_signals() -> None:
    """In a new process: Ctrl-C and a closed terminal end it, also where the tests ignore them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
