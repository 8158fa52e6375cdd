"""Python processes that start in no time.

They are forked from one that has imported the package, mmdet and snakemake, which takes seconds.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["gol.cli", "gol.engine.trainer", "gol.engine.detect", "gol.models", "snakemake.cli"]
)


class Process:
    """``python *command`` in a process of its own; its output goes to files.

    Args:
        command: ``-m`` and a module, or ``-c`` and code, and the arguments.
        folder: where it runs; by default where this process does.
        variables: added to this process's environment.
    """

    def __init__(self, *command, folder=None, **variables):
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("out", "err")]
        for file in self._files:
            file.touch()
        variables = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        arguments = (list(map(str, command)), variables, folder or os.getcwd(), self._files)
        self._process = _FORKS.Process(target=_run, args=arguments)
        self._process.start()

    def poll(self):
        """The exit code, negative for a signal; None before the end."""
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()

    def finish(self, timeout=1200):
        """Waits for the end; returns (exit code, stdout, stderr)."""
        self._process.join(timeout)
        assert self.poll() is not None, "the process does not end"
        return self.poll(), *(file.read_text() for file in self._files)


def _run(command, variables, folder, files):
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # for the processes that this one starts
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    kind, what, *arguments = command
    sys.argv = [kind, *arguments]
    code = 0
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(what, {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code
    # As a plain process does, and multiprocessing's do not: torch's loaders end their workers so.
    atexit._run_exitfuncs()
    sys.exit(code)
