"""Memory that every iteration frees and the next one needs again."""

import ctypes

# glibc's malloc.h; the threshold cannot be larger.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 64 << 20}


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed: from the kernel it would come page by page, zeroed anew.

    Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for setting, size in _SETTINGS.items() if mallopt else ():
        mallopt(setting, size)
