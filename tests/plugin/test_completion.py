"""Completion: what can be typed next, in shells as in kubectl."""

import argparse
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from mailsettings.plugin.__main__ import COMMANDS, complete_main
from mailsettings.plugin.completion.words import Completion, Directive, complete
from tests.plugin.test_command_line import ROOT, plugin
from tests.support.plugin import install

LIVE: Final = {
    "names": ["mail", "notifications"],
    "namespaces": ["blog", "shop"],
    "contexts": ["home"],
    "words": ["SecretNotFound", "Stalled"],
}


def typed(*words: str) -> Completion:
    return complete(COMMANDS, words, lambda what, _: LIVE[what])


def offered(*words: str) -> list[str]:
    return [word for word, _ in typed(*words).words]


def test_commands_come_first() -> None:
    assert offered("") == [*(command.name for command in COMMANDS), "--help"]
    assert offered("st") == ["status"]
    assert typed("st").words[0][1] == "show whether mail settings work, and where they fail"
    assert offered() == offered("")
    assert offered("nothing", "") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["status", ""], ["mail", "notifications"]),
        (["status", "n"], ["notifications"]),
        (["status", "mail", ""], []),
        (["status", "-n", ""], ["blog", "shop"]),
        (["status", "-n", "shop", "m"], ["mail"]),
        (["status", "--namespace=b"], ["--namespace=blog"]),
        (["status", "--context", ""], ["home"]),
        (["status", "-o", ""], ["wide", "json", "yaml"]),
        (["status", "--all"], ["--all-namespaces"]),
        (["status", "--cluster", "--cl"], []),
        (["validate", "-f", "a.yaml", "--f"], ["--filename"]),
        (["completion", "f"], ["fish"]),
        (["explain", "Sec"], ["SecretNotFound"]),
        (["import", "--from", ""], ["thingsboard"]),
        (["import", "--name", ""], []),
        (["authorize", "--timeout", ""], []),
    ],
)
def test_words(words: list[str], expected: list[str]) -> None:
    found = typed(*words)
    assert [word for word, _ in found.words] == expected
    assert found.directive is Directive.NO_FILES


@pytest.mark.parametrize("words", [["validate", "-f", ""], ["status", "--kubeconfig", "x"], ["import", ""]])
def test_files_are_left_to_the_shell(words: list[str]) -> None:
    assert typed(*words) == Completion([], Directive.FILES)


def test_where_names_are_looked_for_is_what_was_typed() -> None:
    seen: list[argparse.Namespace] = []

    def live(_: str, options: argparse.Namespace) -> list[str]:
        seen.append(options)
        return []

    complete(COMMANDS, ["rotate", "--cluster", "--context=c", "--kubeconfig", "k", ""], live)
    assert (seen[0].cluster, seen[0].context, seen[0].kubeconfig, seen[0].namespace) == (True, "c", "k", None)


def test_kubectl_is_answered_in_its_own_way() -> None:
    ended = plugin("__complete", "sta")
    assert (ended.returncode, ended.stdout) == (
        0,
        "status\tshow whether mail settings work, and where they fail\n:4\n",
    )
    assert plugin("__complete", "validate", "-f", "").stdout == ":0\n"
    assert plugin("__complete", "status", "").stdout == ":4\n", "without a cluster there is just nothing to offer"
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl_complete-mailsettings"] == f"{complete_main.__module__}:{complete_main.__name__}"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_completes_the_plugin(tmp_path: Path) -> None:
    install(tmp_path)
    script = tmp_path / "kubectl_complete-mailsettings"
    script.write_text(plugin("completion", "kubectl").stdout)
    script.chmod(0o755)
    line = ["kubectl", "__complete", "mailsettings", "completion", ""]
    ended = subprocess.run(line, env=_environment(tmp_path), capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "bash\nzsh\nfish\nkubectl\n:4\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path) -> None:
    install(tmp_path)
    code = (
        "source <(kubectl-mailsettings completion bash); COMP_WORDS=(kubectl-mailsettings status -o ''); COMP_CWORD=3; "
        '_kubectl_mailsettings; printf "%s " "${COMPREPLY[@]}"; complete -p kubectl-mailsettings'
    )
    line = ["bash", "--norc", "-c", code]
    ended = subprocess.run(line, env=_environment(tmp_path), capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "wide json yaml complete -F _kubectl_mailsettings kubectl-mailsettings\n"
    assert ended.stderr == ""


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "-n")])
def test_scripts_are_of_their_shell(shell: str, check: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(plugin("completion", shell).stdout)
    assert "__complete" in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    subprocess.run([shell, check, str(script)], check=True, timeout=30)


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
