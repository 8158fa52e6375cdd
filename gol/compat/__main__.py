"""``python -m gol.compat train.py CONFIG …`` runs a script of mmdet's tools, patched first.

mmdet's scripts import mmcv's compiled operators before the config can bring in this package.
"""

import argparse
import importlib.util
import runpy
import sys
from pathlib import Path

from gol import compat


def main() -> None:
    """Runs a script; the arguments after its name are its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gol.compat",
        description="Run a script of mmdet's tools with the patches that it needs.",
    )
    parser.add_argument("script", help="a path, or a file in mmdet's tools, e.g. train.py, test.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own")
    options = parser.parse_args()
    tools = Path(importlib.util.find_spec("mmdet").origin).parent / ".mim" / "tools"
    candidates = (Path(options.script), tools / options.script.removeprefix("tools/"))
    script = next((path for path in candidates if path.is_file()), None)
    if script is None:
        names = ", ".join(sorted(path.name for path in tools.glob("*.py")))
        parser.error(f"no script {options.script}, and in mmdet's tools there are {names}")
    compat.apply()
    sys.argv = [str(script), *options.arguments]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
