"""What the tests of downloads share."""

import hashlib

MEGA = 1 << 20


def sha(content):
    return hashlib.sha256(content).hexdigest()


def hidden(folder):
    """All files; of a download that was given up only the lock is left."""
    return sorted(path.name for path in folder.iterdir() if "own" not in path.name)
