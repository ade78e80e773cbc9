"""Which kubeconfig, context and namespace a command works with, as kubectl chooses them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from mailsettings.plugin.command import CommandError

DEFAULT_NAMESPACE: Final = "default"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is there: ten times as fast."""


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """What is in force."""

    files: str
    """Those that exist and hold something, as `$KUBECONFIG` lists them."""
    context: str
    namespace: str
    """The context's."""
    cluster: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The context's, as the file has it; empty: there is none."""
    user: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The same of the user."""
    folder_of_cluster: Path = field(default=Path(), compare=False)
    """Where paths in it start."""
    folder_of_user: Path = field(default=Path(), compare=False)


def find_kubeconfig(given: str | None, context: str | None, environment: Mapping[str, str], home: Path) -> Kubeconfig:
    """The kubeconfig in force.

    Of several files the first that says something wins, also where it names the current context: that is kubectl's
    rule, but not that of the client library, which is therefore told the context.

    Args:
        given: The file that the command names.
        context: The context that the command names.
        environment: May have `KUBECONFIG`.
        home: The person's.

    Raises:
        CommandError: There is none, or it cannot be used.
    """
    files = {str(path): _content(path) for path in _paths(given, environment, home)}
    files = {path: content for path, content in files.items() if content}
    if not files:
        raise _unusable("there is no kubeconfig with anything in it; name one with --kubeconfig or in $KUBECONFIG")
    current = context or next(filter(None, (content.get("current-context") for content in files.values())), None)
    if not current:
        raise _unusable("it has no current context; choose one with --context")
    for content in files.values():
        for entry in _entries(content):
            if entry.get("name") == current:
                chosen = entry.get("context") or {}
                cluster_folder, cluster = _named(files, "clusters", "cluster", chosen.get("cluster"))
                user_folder, user = _named(files, "users", "user", chosen.get("user"))
                return Kubeconfig(
                    os.pathsep.join(files),
                    str(current),
                    chosen.get("namespace") or DEFAULT_NAMESPACE,
                    cluster,
                    user,
                    cluster_folder,
                    user_folder,
                )
    raise CommandError(
        "KubeconfigInvalid",
        f"The kubeconfig cannot be used: it has no context {str(current)!r}. Those that there are:",
        "kubectl config get-contexts",
    )


def _named(
    files: Mapping[str, Mapping[str, Any]], plural: str, kind: str, name: object
) -> tuple[Path, Mapping[str, Any]]:
    """The first entry of a name, and the folder of its file."""
    for path, content in files.items():
        for entry in _entries(content, plural):
            if entry.get("name") == name and isinstance(entry.get(kind), dict):
                return Path(path).parent, entry[kind]
    return Path(), {}


def _paths(given: str | None, environment: Mapping[str, str], home: Path) -> list[Path]:
    if given:
        if not Path(given).is_file():
            raise _unusable(f"there is no file {given}")
        return [Path(given)]
    listed = environment.get("KUBECONFIG")
    paths = [Path(path) for path in listed.split(os.pathsep) if path] if listed else [home / ".kube" / "config"]
    return [path for path in paths if path.is_file()]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a safe one
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        # The parser's own text quotes the file, in which there are credentials.
        raise _unusable(f"{path} is no YAML") from None
    if content is not None and not isinstance(content, dict):
        raise _unusable(f"{path} is no kubeconfig")
    return content or {}


def _entries(content: Mapping[str, Any], plural: str = "contexts") -> list[Mapping[str, Any]]:
    found = content.get(plural) or []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _unusable(why: str) -> CommandError:
    return CommandError("KubeconfigInvalid", f"The kubeconfig cannot be used: {why}.")
