"""`python -m dev.demo`: the main job, live on this machine. `make run` runs it."""

import argparse
import os
import signal
import sys
from types import FrameType
from typing import Final

from dev.cluster import ClusterError
from dev.demo.session import DemoError, run

DEFAULT_LIMIT_S: Final = 180.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(KeyboardInterrupt):
    """A signal asks to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo.

    Args:
        arguments: The command line without the program; by default the process's.

    Returns:
        The exit status: 0, 1 with the reason on standard error, or 128 and the number of the signal that ended it.
    """
    options = _parser().parse_args(arguments)
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        run(once=options.once, limit_s=options.limit)
    except (ClusterError, DemoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except _Interrupted as error:
        return 128 + error.number
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
        return 1
    return 0


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for each in _SIGNALS:  # a second one would break the stopping off
        signal.signal(each, signal.SIG_IGN)
    raise _Interrupted(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dev.demo",
        description="Starts a control plane, a mail server, an identity provider and the operator on\n"
        "this machine, applies dev/examples, and shows what comes of them. Ctrl-C ends\n"
        "everything.",
        epilog="examples:\n"
        "  python -m dev.demo\n"
        "  python -m dev.demo --once --limit 90\n"
        "  MAILSETTINGS_KUBECONFIG=~/.kube/config python -m dev.demo   # on a given cluster",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="consent without a person, and end as soon as every example has reached its state",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=DEFAULT_LIMIT_S,
        metavar="SECONDS",
        help="with --once: how long that may take (default: %(default).0f)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
