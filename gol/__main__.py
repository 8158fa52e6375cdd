# PYTHON_ARGCOMPLETE_OK
"""``python -m gol`` is the command ``gol``."""

import sys

from gol.cli import main

sys.exit(main())
