"""New random seeds for each run of the tests, the same in all processes that share the run."""

import os
import random
import secrets

# The first process draws it, those that pytest-xdist starts inherit it: they must collect tests of
# the same names. GOL_TEST_SEED=… repeats a run.
_random = random.Random(os.environ.setdefault("GOL_TEST_SEED", str(secrets.randbelow(10**9))))


def fresh_seed(below: int = 10**9) -> int:
    """The next seed from 0 to below ``below``; it belongs into the name of the test."""
    return _random.randrange(below)
