"""The plugin's command line: help, usage, what is printed and where."""

import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Final

import pytest

from mailsettings.api import names
from mailsettings.plugin.__main__ import COMMANDS, _parser, main
from mailsettings.plugin.authorize.browser import has_browser
from mailsettings.plugin.terminal import Style, Terminal

ROOT: Final = Path(__file__).parents[2]


def plugin(*arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), "HOME": "/nonexistent", **environment}
    command = [sys.executable, "-m", "mailsettings.plugin", *arguments]
    return subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=30, check=False)


def test_installing_gives_the_program_that_kubectl_looks_for() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl-mailsettings"] == f"{main.__module__}:{main.__name__}"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_has_examples_that_parse_and_is_readable(
    command: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "82")  # argparse leaves two empty
    name = getattr(command, "name", "")
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    shown = [line.partition("kubectl mailsettings ")[2] for line in text.splitlines() if line.startswith("  ")]
    examples = [shlex.split(line.partition(" > ")[0]) for line in shown if line]
    assert len(examples) >= 2
    for example in examples:
        options = _parser().parse_args(example)
        assert options.command.complain(options) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["authorize"],
        ["authorize", "a", "b"],
        ["authorize", "a", "-n", "b", "--cluster"],
        ["authorize", "a", "--port", "0"],
        ["authorize", "a", "--port", "65536"],
        ["authorize", "a", "--port", "x"],
        ["authorize", "a", "--port", "8400", "--redirect-uri", "http://localhost:8400"],
        ["authorize", "a", "--redirect-uri", "https://localhost:8400"],
        ["authorize", "a", "--redirect-uri", "http://acme.example:8400"],
        ["authorize", "a", "--timeout", "5"],
        ["authorize", "a", "-o", "name"],
        ["validate"],
        ["validate", "mail.yaml"],
        ["status", "a", "-A"],
        ["status", "-n", "a", "--cluster"],
        ["status", "-o", "name"],
        ["completion"],
        ["completion", "csh"],
        ["import", "mail.json"],
        ["import", "--from", "other", "mail.json"],
        ["rotate"],
        ["rotate", "a", "--timeout", "5"],
    ],
    ids=" ".join,
)
def test_usage_errors_end_with_2(arguments: list[str]) -> None:
    ended = plugin(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "usage: kubectl mailsettings" in ended.stderr
    assert "error: " in ended.stderr


def loaded(code: str, *heavy: str) -> str:
    """Which of these modules a program has imported."""
    line = f"import sys, mailsettings.plugin.__main__ as m; {code}; print([n for n in {heavy} if n in sys.modules])"
    env = {"PYTHONPATH": str(ROOT / "operator")}
    said = subprocess.run([sys.executable, "-c", line], env=env, capture_output=True, text=True, timeout=30, check=True)
    return said.stdout.strip()


USAGE: Final = """\
o = m._parser().parse_args(['test', 'mail', '--to', 'ops@acme.example', '--timeout', '90s'])
assert o.command.complain(o) is None"""


def test_help_and_usage_load_nothing_heavy() -> None:
    code = f"exec({USAGE!r})"
    assert loaded(code, "aiohttp", "asyncio", "pydantic", "yaml", "kubernetes", "shutil") == "[]"


def test_a_test_loads_nothing_that_takes_longer_than_itself() -> None:
    assert loaded("import mailsettings.plugin.test.run", "aiohttp", "asyncio", "pydantic", "kubernetes") == "[]"


def test_the_default_namespace_is_that_of_the_manifests() -> None:
    assert _parser().parse_args(["authorize", "mail"]).operator_namespace == names.OPERATOR_NAMESPACE


def test_an_api_server_that_is_away_is_told(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        '{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": '
        '[{"name": "u", "user": {"token": "the-token"}}], "clusters": [{"name": "c", "cluster": {"server": '
        '"https://127.0.0.1:1"}}]}'
    )
    ended = plugin("authorize", "mail", "--kubeconfig", str(kubeconfig), "-o", "json")
    assert ended.returncode == 1
    assert '"reason": "ApiServerUnreachable"' in ended.stdout
    assert ended.stderr.startswith("ApiServerUnreachable: The API server does not answer: ")
    assert "Traceback" not in ended.stderr
    assert "the-token" not in ended.stdout + ended.stderr


def test_no_kubeconfig_is_told() -> None:
    ended = plugin("authorize", "mail")
    assert ended.returncode == 1
    assert ended.stderr.startswith("KubeconfigInvalid: ")


# --- the terminal ---


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


def written(stream: StringIO, environment: dict[str, str], write: Callable[[Terminal], None]) -> str:
    write(Terminal(stream, stream, environment))
    return stream.getvalue()


def test_colours_are_for_terminals_that_want_them() -> None:
    def write(terminal: Terminal) -> None:
        terminal.say("x", Style.BAD)

    assert written(Screen(), {}, write) == "\x1b[31mx\x1b[0m\n"
    assert written(Screen(), {"NO_COLOR": ""}, write) == "\x1b[31mx\x1b[0m\n"
    assert written(Screen(), {"NO_COLOR": "1"}, write) == "x\n"
    assert written(Screen(), {"TERM": "dumb"}, write) == "x\n"
    assert written(StringIO(), {}, write) == "x\n"


def test_what_servers_say_does_not_steer_the_terminal() -> None:
    said = written(Screen(), {}, lambda terminal: terminal.say("a\x1b]0;title\x07b\r\x9b2Jc"))
    assert said == "a ]0;title b  2Jc\n"
    assert written(Screen(), {}, lambda terminal: terminal.show("\x1b[2Jx")) == "\n\x1b[1m [2Jx\x1b[0m\n\n"


def test_a_line_of_progress_goes_when_something_is_said() -> None:
    def write(terminal: Terminal) -> None:
        terminal.tick("waiting")
        terminal.say("done")

    assert written(Screen(), {}, write) == "\r\x1b[Kwaiting\r\x1b[Kdone\n"
    assert written(StringIO(), {}, write) == "done\n"


def test_what_is_for_copying_is_not_wrapped() -> None:
    command = f"    kubectl get secret {'x' * 60} -o yaml"
    assert written(StringIO(), {}, lambda terminal: terminal.tell(command)) == f"{command}\n"
    assert written(StringIO(), {}, lambda terminal: terminal.say(command)) == f"{command}\n"
    assert written(StringIO(), {}, lambda terminal: terminal.tell(command.strip())).count("\n") > 1
    said = written(
        StringIO(), {}, lambda terminal: terminal.complain("NotFound", "It is not there. " * 9, ["a b " * 30])
    )
    assert said.splitlines()[-1] == f"    {'a b ' * 30}"
    assert max(map(len, said.splitlines()[:-1])) <= 80


# --- the browser ---


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({"DISPLAY": ""}, "linux", False),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_a_browser_is_opened_where_it_can_be_seen(
    environment: dict[str, str], platform: str, *, expected: bool
) -> None:
    assert has_browser(environment, platform) is expected


@pytest.mark.parametrize(("given", "columns"), [("40", 40), ("200", 80), ("0", 80), ("wide", 80), ("", 80)])
def test_width_is_that_of_the_environment_and_never_too_wide(
    given: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no terminal to be asked."""
    monkeypatch.setenv("COLUMNS", given)
    monkeypatch.setattr(sys, "__stdout__", None)
    assert Terminal.standard().columns == columns


# --- which command ---


def test_options_may_stand_before_the_command_as_kubectl_takes_its_own() -> None:
    before = plugin("-n", "shop", "--context=test", "status", "--kubeconfig", "/nonexistent/x")
    assert "there is no file /nonexistent/x" in " ".join(before.stderr.split())
    assert plugin("-n", "test", "status", "--kubeconfig", "/nonexistent/x").stderr == before.stderr
    assert (
        plugin("-o", "json", "explain", "PortBlocked").stdout == plugin("explain", "PortBlocked", "-o", "json").stdout
    )


@pytest.mark.parametrize(("typed", "hint"), [("stauts", "; did you mean status?"), ("xyzzy", "")])
def test_a_command_that_there_is_not_is_said_shortly(typed: str, hint: str) -> None:
    ended = plugin(typed, "--help")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[1] == f"kubectl mailsettings: error: there is no command {typed!r}{hint}"
    assert ended.stderr.endswith("\n    kubectl mailsettings --help\n")


def test_without_a_command_there_is_help() -> None:
    ended = plugin(COLUMNS="80")
    assert (ended.returncode, ended.stdout) == (2, "")
    for command in COMMANDS:
        assert f"    {command.name}" in ended.stderr
        assert command.summary in " ".join(ended.stderr.split())
    assert max(map(len, ended.stderr.splitlines())) <= 80
    assert plugin("--help", COLUMNS="80").stdout == ended.stderr


@pytest.mark.parametrize("command", ["test", "validate"])
def test_recipient_that_is_no_address_is_said_before_anything_is_asked(command: str) -> None:
    arguments = {"test": ["mail"], "validate": ["--probe", "-f", "-"]}[command]
    ended = plugin(command, *arguments, "--to", "nonsense")
    assert ended.returncode == 2
    assert ended.stderr.endswith("error: --to needs an address, such as ops@acme.example\n")
