"""What is left of the listings at the start."""

import ctypes
import gc
import sys


def give_back() -> None:
    """Returns freed memory to the system, which glibc otherwise keeps for what may never come."""
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
