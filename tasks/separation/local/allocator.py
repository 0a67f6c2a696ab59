"""Memory that stays: most of what a forward pass allocates is the size of what was just freed.

glibc gives large blocks back to the kernel at once and has it clear them page by page at the next
pass: a sixth of the time of HTDemucs on a CPU.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import platform

log = logging.getLogger(__name__)

# `malloc.h`: no allocation by mmap, and a heap that shrinks only beyond what fits the parameter.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Have this process's allocator keep what is freed; False where it isn't glibc's.

    The process's peak stays what it was: blocks are used again, not added.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        library = ctypes.CDLL(None)
        kept = library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, _NEVER)
    except (OSError, AttributeError) as error:
        log.debug("the allocator can't be set: %s", error)
        return False
    return bool(kept)
