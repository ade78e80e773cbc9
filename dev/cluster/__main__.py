"""`python -m dev.cluster`: a local control plane from the command line."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dev.cluster import background
from dev.cluster.binaries import find_binaries
from dev.cluster.controlplane import Cluster, existing_kubeconfig
from dev.cluster.errors import ClusterError
from dev.cluster.manifests import apply

DEFAULT_DIRECTORY = Path(".run/cluster")
NOT_RUNNING = 3
"""The exit status of `status` when nothing runs, as service managers use it."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The command line without the program; by default the process's.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _start(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    existing = existing_kubeconfig()
    if existing is not None:
        print("MAILSETTINGS_KUBECONFIG names an existing cluster: nothing to start.")
        return _say_kubeconfig(Cluster(existing))
    if background.is_running(directory):
        print(f"The control plane in {directory} runs already.")
        return _say_kubeconfig(background.start(directory))
    find_binaries()
    began = time.monotonic()
    cluster = background.start(directory)
    print(f"The control plane is ready after {time.monotonic() - began:.1f} s.")
    return _say_kubeconfig(cluster)


def _say_kubeconfig(cluster: Cluster) -> int:
    version = cluster.api().request("GET", "/version")["gitVersion"]
    print(f"Kubernetes {version}, kubeconfig {_shown(cluster.kubeconfig)}")
    print(f"  export KUBECONFIG={cluster.kubeconfig}")
    return 0


def _stop(options: argparse.Namespace) -> int:
    stopped = background.stop(options.directory)
    print(f"The control plane in {options.directory} {'has stopped' if stopped else 'was not running'}.")
    return 0


def _status(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    if not background.is_running(directory):
        print(f"No control plane runs in {directory}; start it with: make cluster")
        return NOT_RUNNING
    print(f"The control plane in {directory} runs (process {background.pid(directory)}).")
    return _say_kubeconfig(Cluster(directory.resolve() / "kubeconfig"))


def _build(_: argparse.Namespace) -> int:
    folder = find_binaries().apiserver.parent
    print(f"The control plane's programs are in {folder}")
    return 0


def _apply(options: argparse.Namespace) -> int:
    kubeconfig: Path = options.kubeconfig
    for title in apply(kubeconfig, *options.paths):
        print(f"applied {title}")
    return 0


def _shown(path: Path) -> Path:
    """A path as short as it can be said from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _default_kubeconfig() -> Path:
    given = existing_kubeconfig() or os.environ.get("KUBECONFIG")
    return Path(given) if given else DEFAULT_DIRECTORY / "kubeconfig"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dev.cluster",
        description="A real Kubernetes control plane on this machine, without containers.",
        epilog="Set KUBEBUILDER_ASSETS to use programs of your own, or\n"
        "MAILSETTINGS_KUBECONFIG to use an existing cluster.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_command(commands, "start", _start, "start one in the background", ["", "--directory .run/second"])
    _add_command(commands, "stop", _stop, "stop it and forget its objects", ["", "--directory .run/second"])
    _add_command(commands, "status", _status, f"say whether it runs (exit status {NOT_RUNNING} if not)", [""])
    _add_command(commands, "build", _build, "build its programs, once for each user", [""], directory=False)
    examples = ["manifests", "--kubeconfig .run/second/kubeconfig crds"]
    command = _add_command(commands, "apply", _apply, "apply manifests, without kubectl", examples, directory=False)
    command.add_argument(
        "--kubeconfig",
        type=Path,
        default=_default_kubeconfig(),
        help=f"the cluster (default: $KUBECONFIG, else {DEFAULT_DIRECTORY}/kubeconfig)",
    )
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a file, a folder or a kustomization")
    return parser


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    examples: list[str],
    *,
    directory: bool = True,
) -> argparse.ArgumentParser:
    lines = [f"  python -m dev.cluster {name} {example}".rstrip() for example in examples]
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n".join(["examples:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    if directory:
        command.add_argument(
            "--directory",
            type=Path,
            default=DEFAULT_DIRECTORY,
            help="where its files are, and what tells it from others (default: %(default)s)",
        )
    return command


if __name__ == "__main__":
    sys.exit(main())
