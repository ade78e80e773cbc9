"""What to do, as every command has it: in words, and as commands that can be copied. Pure.

The operator writes what to do for whoever reads the object, with placeholders such as NAME for what it leaves to the
reader; a command of the plugin knows the settings, and fills them in.
"""

import argparse
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from mailsettings.api import names
from mailsettings.api.conditions import EXPLAIN
from mailsettings.core.documentation import DOCUMENTATION
from mailsettings.plugin.command import PROGRAM, CommandError

Json = Mapping[str, Any]
Known = Mapping[str, str]
"""What stands for a placeholder, or for several words with one."""

INDENT: Final = "    "
"""Before what is for copying, and stays on one line however long it is."""

_COMMANDS: Final = re.compile(r":\s(`[^`]+`(?: or `[^`]+`)*)\.?$")
_SEE: Final = re.compile(rf" See (\S+) or `{EXPLAIN} \w+`\.$")
_SAFE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9@._+:-]*")
"""What means nothing to a shell: settings are written by others than those who copy the command."""

_OFFLINE: Final = ("completion", "diagnose", "explain", "import", "validate")
"""The commands of the plugin that know of no cluster."""


def parted(remedy: str) -> tuple[str, tuple[str, ...]]:
    """What to do in words, and the commands that it ends with."""
    found = _COMMANDS.search(remedy)
    if found is None:
        return remedy, ()
    words = remedy[: found.start()].removesuffix("Run").rstrip()
    return words if words.endswith(".") else f"{words}:", tuple(re.findall("`([^`]+)`", found[1]))


def dissected(message: str) -> tuple[str, tuple[str, ...], str]:
    """The same of a condition's message, and the link that it ends with; empty: there is none."""
    found = _SEE.search(message)
    words, commands = parted(message[: found.start()] if found else message)
    return words, commands, found[1] if found else ""


def message_lines(reason: str, message: str, known: Known) -> list[str]:
    """A condition's reason and message as lines. A line that begins with a blank is for copying."""
    words, commands, docs = dissected(message)
    found = tuple(filled(command, known) for command in commands)
    return [f"{reason}: {words}", *advice_lines("", found, docs, reason if docs else "")]


def filled(command: str, known: Known) -> str:
    """A command with what is known in place of its placeholders; the others stay."""
    if not known:
        return command
    phrases = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    return re.sub(rf"\b(?:{phrases})\b", lambda found: known[found[0]], command)


def known_of_cluster(options: argparse.Namespace) -> Known:
    """The options by which a command was told its cluster, for the commands that are to reach the same one.

    They follow the program at once: what stands further behind may be a pipe, or words for another program.
    """
    given = {"context": options.context, "kubeconfig": options.kubeconfig}
    flags = {name: f" --{name}={shlex.quote(value)}" for name, value in given.items() if value and value.isprintable()}
    if not flags:
        return {}
    return {
        "kubectl": f"kubectl{''.join(flags.values())}",
        "kubectl config": f"kubectl{flags.get('kubeconfig', '')} config",
        PROGRAM: f"{PROGRAM}{''.join(flags.values())}",
        **{f"{PROGRAM} {name}": f"{PROGRAM} {name}" for name in _OFFLINE},
    }


def in_cluster(error: CommandError, options: argparse.Namespace) -> CommandError:
    """The same with commands that reach the cluster of these options."""
    known = known_of_cluster(options)
    return CommandError(error.reason, error.message, *(filled(command, known) for command in error.commands))


def advice_lines(remedy: str, commands: tuple[str, ...], docs: str, reason: str) -> list[str]:
    """What to do and where more is told. A line that begins with a blank is for copying."""
    lines = [f"What to do: {remedy}"] if remedy else []
    lines += [f"{INDENT}{command}" for command in commands]
    if reason:
        lines.append(f"More: {EXPLAIN} {reason}")
    if docs:
        lines.append(f"      {DOCUMENTATION.resolved(docs)}")
    return lines


def known_of(document: Json) -> Known:
    """What settings, as the API server has them, know for commands about them."""
    metadata, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
    effective = status.get("effective") or {}
    is_cluster = document["kind"] == names.CLUSTER_KIND
    namespace = names.OPERATOR_NAMESPACE if is_cluster else metadata.get("namespace") or ""
    return {
        **_target(document["kind"], metadata["name"], namespace, effective),
        **_of_server(effective),
        **_of_auth(spec.get("auth") or {}, namespace),
    }


def known_of_test(test: Json) -> Known:
    """The same of a MailServerTest, which names settings, or holds some that are not saved."""
    spec, namespace = test.get("spec") or {}, test["metadata"].get("namespace") or ""
    effective = (test.get("status") or {}).get("effective") or {}
    ref, settings = spec.get("settingsRef"), spec.get("settings") or {}
    target = _target(ref.get("kind") or names.TENANT_KIND, ref["name"], namespace, effective) if ref else {}
    return {**target, **_of_server(effective), **_of_auth(settings.get("auth") or {}, namespace)}


def _target(kind: str, name: str, namespace: str, effective: Json) -> dict[str, str]:
    """The settings that a command is about: those whose server is in force."""
    if kind != names.CLUSTER_KIND and effective.get("source") == "System":
        kind, name = names.CLUSTER_KIND, str(effective.get("settingsName") or names.DEFAULT_SETTINGS)
    if kind == names.CLUSTER_KIND:
        return {"mss NAME": f"cmss {name}", "NAME": f"--cluster {name}"}
    where = f"{name} -n {namespace}" if namespace else name
    return {"mss NAME": f"mss {where}", "NAME": where}


def _of_server(effective: Json) -> dict[str, str]:
    # As the schema has it: an address, or a name and an address in angle brackets.
    sender = str(effective.get("mailFrom") or "").rpartition("<")[2].removesuffix(">")
    server = {"HOST": effective.get("host") or "", "PORT": effective.get("port") or ""}
    at_once = {"s_client -starttls smtp": "s_client"} if effective.get("tls") == "Implicit" else {}
    known = _safe({**server, "FROM": sender, "DOMAIN": sender.partition("@")[2]})
    return {**known, **_authority(known), **at_once}


def _authority(known: Known) -> dict[str, str]:
    """Host and port in one: an IPv6 address stands in brackets (RFC 3986 §3.2.2), which a shell takes for a pattern."""
    if not {"HOST", "PORT"} <= known.keys() or ":" not in known["HOST"]:
        return {}
    return {"HOST:PORT": f"'[{known['HOST']}]:{known['PORT']}'"}


def _of_auth(auth: Json, namespace: str) -> dict[str, str]:
    basic, oauth2 = auth.get("basic") or {}, auth.get("oauth2") or {}
    username = basic.get("username") or oauth2.get("username") or ""
    known = _safe({"LOGIN": username, "MAILBOX": username, "CLIENT_ID": oauth2.get("clientID") or ""})
    ref = _safe(basic.get("passwordSecretRef") or {})
    if ref.keys() == {"name", "key"}:
        where = f" -n {namespace}" if namespace else ""
        # In a JSONPath a dot ends a name.
        known |= {"secret SECRET": f"secret {ref['name']}{where}", "KEY": ref["key"].replace(".", r"\.")}
    return known


def _safe(values: Json) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if _SAFE.fullmatch(str(value))}
