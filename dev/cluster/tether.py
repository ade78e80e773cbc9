"""Runs a program that cannot outlive the process that started it.

    python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT...]

Linux kills the program when its parent ends, even by SIGKILL. This is a program of its own, and not a `preexec_fn`,
because code between fork and exec can hang in a parent that has threads. Elsewhere than on Linux the program simply
runs, and its parent has to stop it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Ties this process to its parent, then becomes the program."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the tie was made
            sys.exit("tether: the parent has ended")
    os.execv(command[0], command)  # noqa: S606 - the caller, this project's own code, names the program


main()
