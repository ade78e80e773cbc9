"""What a command of the plugin is, and the options that commands share."""

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Final

from mailsettings.api import names
from mailsettings.api.patterns import ADDRESS_PATTERN, parse_duration
from mailsettings.plugin.terminal import columns

PROGRAM: Final = "kubectl mailsettings"

SUCCESS: Final = 0
FAILURE: Final = 1
USAGE: Final = 2


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Is told how wide the terminal is: argparse, which asks for each option, takes a module that is long to import."""

    def __init__(self, prog: str) -> None:
        """For a program's help."""
        super().__init__(prog, width=columns(os.environ) - 2)


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    summary: str
    """One line, for the list of commands."""
    description: str
    epilog: str
    """Examples, and what the exit status means."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    module: str
    """Has `run(options) -> int`, the exit status; it is imported only when the command runs."""
    complain: Callable[[argparse.Namespace], str | None] = lambda _: None
    """What is wrong with options that are each right for themselves; None: nothing."""

    def add_to(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Adds it to the plugin's parser."""
        parser = commands.add_parser(
            self.name,
            help=self.summary,
            description=self.description,
            epilog=self.epilog,
            formatter_class=HelpFormatter,
        )
        self.add_arguments(parser)
        parser.set_defaults(command=self, parser=parser)

    def run(self, options: argparse.Namespace) -> int:
        """Does it; the exit status."""
        status: int = import_module(self.module).run(options)
        return status


class CommandError(Exception):
    """A command comes to nothing.

    Attributes:
        reason: One word in CamelCase, for programs.
        message: For the person: what is wrong, and what to do.
        commands: What to type for that, each in full; the message leads to them.
    """

    def __init__(self, reason: str, message: str, *commands: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.commands = commands

    @property
    def said(self) -> str:
        """All of it in one line, for a program."""
        return " ".join((self.message, *self.commands))


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Which settings: a tenant's by name and namespace, or the system's. `name_is_missing` judges them."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="name of the settings (with --cluster it may be missing: default)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", help="of a MailServerSettings (default: the context's)")
    where.add_argument("--cluster", action="store_true", help="a ClusterMailServerSettings")


def name_is_missing(options: argparse.Namespace) -> str | None:
    """What is wrong with what `add_target_options` has read; None: nothing."""
    if options.name is None and not options.cluster:
        return "name the settings, or say --cluster"
    return None


def add_timeout_option(parser: argparse.ArgumentParser, default: timedelta, shown: str) -> None:
    """How long the command waits; `shown` is the default as a person writes it."""
    parser.add_argument(
        "--timeout",
        type=duration,
        default=default,
        metavar="DURATION",
        help=f"wait no longer than that, such as 90s (default: {shown})",
    )


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Which cluster, as kubectl has them."""
    parser.add_argument("--context", metavar="NAME", help="the kubeconfig's context (default: the current one)")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="the kubeconfig (default: those in $KUBECONFIG, or ~/.kube/config)"
    )


def add_operator_namespace_option(parser: argparse.ArgumentParser) -> None:
    """Where what belongs to a ClusterMailServerSettings is put."""
    parser.add_argument(
        "--operator-namespace",
        default=names.OPERATOR_NAMESPACE,
        metavar="NAMESPACE",
        help="where the operator runs (default: %(default)s)",
    )


def add_output_option(
    parser: argparse.ArgumentParser, *formats: str, meaning: str = "print the result as one document"
) -> None:
    """How the result is printed."""
    parser.add_argument("-o", "--output", choices=formats, help=meaning)


def no_address(text: str | None) -> str | None:
    """What is wrong with what `--to` was given; None: nothing, or it was not given."""
    if text is None:
        return None
    return None if re.fullmatch(ADDRESS_PATTERN, text) else "--to needs an address, such as ops@acme.example"


def duration(text: str) -> timedelta:
    """An option's length of time, such as 90s.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
