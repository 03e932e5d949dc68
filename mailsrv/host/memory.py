"""How the C library keeps the memory that is freed: enough of it for the pieces of messages that come and go.

By default glibc hands a freed piece back to the kernel, and asks for it again for the next one: every page is then
zeroed and mapped anew. For messages of 1 MB that was three quarters of the time in the kernel (docs/PERFORMANCE.md).
"""

import ctypes
from typing import Final

LARGEST_KEPT: Final = 2 * 1024 * 1024  # octets; what is larger goes back at once, the memory of argon2 say
MOST_KEPT: Final = 4 * 1024 * 1024  # octets at the end of the heap

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> None:
    """From now on; where the C library is not glibc, nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, MOST_KEPT)
