"""`diagnose` of the operator's image and of the plugin."""

import argparse
import io
import json
import sys
from collections.abc import Callable
from typing import Final

import pytest

from mailsettings import __main__ as operator
from mailsettings import diagnose
from mailsettings.core.causes import records
from mailsettings.core.causes.records import MAX_LINE
from mailsettings.plugin import __main__ as plugin

Program = Callable[[list[str]], int]
PROGRAMS: Final = [pytest.param(operator.main, id="operator"), pytest.param(plugin.main, id="plugin")]
PROGRAM: Final = pytest.mark.parametrize("program", PROGRAMS)
RECORD: Final = '{"id": "f1", "stage": "auth", "provider": "Google", "auth": "basic", "raw": "535 5.7.8 no hunter2"}'


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    def say(text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return say


@PROGRAM
def test_a_text_gets_cause_remedy_and_link(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    reply = "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant hunter2"
    assert program(["diagnose", "--stage", "auth", "--provider", "Office365", reply]) == 0
    said = capsys.readouterr().out
    assert said.startswith("SmtpAuthDisabledTenant: ")
    assert "Set-TransportConfig -SmtpClientAuthenticationDisabled $false" in said
    assert "docs/troubleshooting.md#smtpauthdisabledtenant" in said
    assert "hunter2" not in said
    assert max(map(len, said.splitlines())) <= 80


@PROGRAM
def test_a_fallback_is_told(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["diagnose", "--stage", "rcpt", "550 qqq"]) == 0
    assert "No rule knows these words" in capsys.readouterr().out


@PROGRAM
def test_json_lines_are_answered_one_by_one(
    program: Program, say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    say(f'{RECORD}\n\n{{"id": 7, "raw": "421 Too many connections"}}\n{{"raw": "552 mailbox full", "stage": null}}')
    assert program(["diagnose", "--output", "json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(answer.get("id"), answer["cause"]) for answer in answers] == [
        ("f1", "BadCredentials"),
        (7, "TooManyConnections"),
        (None, "MailboxFull"),
    ]
    assert {"title", "remedy", "commands", "retry", "mover", "docs", "basis", "fallback", "source"} <= set(answers[0])


@PROGRAM
def test_bad_lines_are_told_and_do_not_end_the_run(
    program: Program, say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["hunter2", "[]", '{"stage": "auth"}', '{"raw": null}', '{"raw": "x", "auth": {}}', "[" * 100_000]
    say("\n".join([*bad, RECORD]))
    assert program(["diagnose", "-o", "json"]) == 1
    said = capsys.readouterr()
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["f1"]
    complaints = said.err.splitlines()
    assert [line.split(":")[0] for line in complaints[:-2]] == [f"line {number}" for number in range(1, 7)]
    assert complaints[-2].startswith("Every other failure was diagnosed.")
    assert "there is no field raw" in complaints[2]
    assert "the field raw is no string" in complaints[3]
    assert "hunter2" not in said.err


def test_json_lines_can_be_forced(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say("nonsense\n")
    assert operator.main(["diagnose", "--json-lines"]) == 1
    assert capsys.readouterr().err.startswith("line 1: ")


def test_a_token_endpoints_answer_is_one(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say('{\n  "error": "invalid_client",\n  "error_description": "AADSTS7000222: expired"\n}\n')
    assert operator.main(["diagnose", "--stage", "token", "-o", "json"]) == 0
    (answer,) = capsys.readouterr().out.splitlines()
    assert json.loads(answer)["cause"] == "ClientSecretExpired"


def test_text_of_many_is_a_line_each(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say(f'{RECORD}\n{{"id": "\\u001b[31m", "raw": "x", "stage": "dns"}}\n')
    assert operator.main(["diagnose"]) == 0
    assert capsys.readouterr().out == "f1: BadCredentials\n [31m: DnsNotFound\n"


def test_ids_come_back_cut(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say(json.dumps({"id": "x" * 5000, "raw": "535"}))
    assert operator.main(["diagnose", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "x" * 200


def test_bytes_that_are_no_text_do_no_harm(say: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    say(b"\xff\xfe\x00 535 authentication failed \x80")
    assert operator.main(["diagnose", "--stage", "auth", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["cause"] == "BadCredentials"


def test_nothing_is_no_failure(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say(" \n")
    assert operator.main(["diagnose"]) == 2
    assert "There is no failure" in capsys.readouterr().err


@PROGRAM
@pytest.mark.parametrize(
    "arguments",
    [["--stage", "x"], ["--provider", "x"], ["--auth", "x"], ["text", "--json-lines"], ["-o", "yaml"]],
    ids=" ".join,
)
def test_usage_errors_end_with_2(program: Program, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = program(["diagnose", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert "usage: " in capsys.readouterr().err


# --- JSON that is not a line each ---

A: Final = '{"id": "a", "raw": "535 5.7.8 no hunter2", "stage": "auth"}'
B: Final = '{"id": "b", "raw": "421 Too many connections"}'
PRETTY: Final = json.dumps(json.loads(A), indent=2)


def answers(text: str) -> list[str]:
    return [json.loads(line).get("id", "") for line in text.splitlines()]


@PROGRAM
@pytest.mark.parametrize(
    "text",
    [
        f"[{A},{B}]",
        f"\n\n[{A}, {B}]\n",
        f"[\n{A},\n{B}\n]",
        f"[\n  {PRETTY},\n{B}\n]\n",
        f"{PRETTY}\n{json.dumps(json.loads(B), indent=4)}\n",
        f"{PRETTY}\n{B}",
        f"[{A}]\n[{B}]",
        f"{A},\n{B}",
        f"{A} {B}",
    ],
    ids=[
        "array",
        "blank lines",
        "a line each",
        "pretty array",
        "jq",
        "jq, then a line",
        "two arrays",
        "comma",
        "blank",
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json-lines"]], ids=["found out", "said"])
def test_other_forms_of_json_lose_nothing(
    program: Program, text: str, flags: list[str], say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    say(text)
    assert program(["diagnose", "-o", "json", *flags]) == 0
    said = capsys.readouterr()
    assert answers(said.out) == ["a", "b"]
    assert said.err == ""


def test_long_array_in_one_line_is_read(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    count = MAX_LINE // len(B) + 100
    say(f"[{','.join([B] * count)}]")
    assert operator.main(["diagnose", "-o", "json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == count


def test_what_is_wrong_in_an_array_is_told_with_its_line_and_the_rest_goes_on(
    say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    say(f'[\n  {PRETTY},\n  5,\n  {{"stage": "auth"}},\n  {B}\n]\n')
    assert operator.main(["diagnose", "-o", "json"]) == 1
    said = capsys.readouterr()
    assert answers(said.out) == ["a", "b"]
    assert said.err.splitlines()[:2] == [
        "line 7: it is no JSON object",
        "line 8: there is no field raw, which holds the failure's text",
    ]
    assert "`jq -c .`" in said.err.splitlines()[3]


@pytest.mark.parametrize("broken", [f"[\n{A},\n{B},\n", f"[\n{A},\nhunter2\n{B}\n]", f'{{"raw": "x"\n{A}\n{B}\n'])
def test_lines_of_broken_json_are_read_one_by_one(
    broken: str, say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    say(broken)
    assert operator.main(["diagnose", "-o", "json"]) == 1
    said = capsys.readouterr()
    assert answers(said.out) == ["a", "b"]
    assert said.err.startswith("line 1: it is no JSON")
    assert said.err.count("`jq -c .`") == 1
    assert "hunter2" not in said.err


@pytest.mark.parametrize("text", [A, f"{A}\n{B}", f"[\n{A},\n{B},\n"])
def test_only_line_breaks_end_lines(text: str, say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say(text.replace("no hunter2", "no\u2028\u0085hunter2"))
    operator.main(["diagnose", "-o", "json"])
    assert answers(capsys.readouterr().out)[0] == "a"


def test_array_without_a_failure_is_refused(say: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    say('[{"message": "535 no"}]')
    assert operator.main(["diagnose"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "needs a field raw" in said.err


@PROGRAM
@pytest.mark.parametrize("flags", [[], ["-o", "json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    "broken",
    [f"[{A},{B}] hunter2", f"[{A},{B}", f" [ {A} {B}]", f"[\n{PRETTY},\n", f"{PRETTY}\n{PRETTY[:-1]}", f"{A[:-1]}"],
    ids=["trailing", "no end", "no comma", "pretty array", "jq", "one"],
)
def test_broken_json_is_not_taken_for_one_failure(
    program: Program,
    broken: str,
    flags: list[str],
    say: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(broken)
    assert program(["diagnose", *flags]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("No failure was diagnosed: this JSON is broken.")
    assert "hunter2" not in said.err


@pytest.mark.parametrize("text", ["[{0},{0},{0}]", "[{1},{1}]", "{1}\n{1}\n"], ids=["array", "pretty array", "jq"])
def test_json_that_is_too_big_is_not_taken_for_less(
    text: str,
    say: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnose, "_MAX_DOCUMENTS", len(PRETTY) + 2)
    monkeypatch.setattr(records, "MAX_LINE", 40)
    say(text.replace("{0}", A).replace("{1}", PRETTY))
    assert operator.main(["diagnose", "-o", "json"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "is not read as a whole" in said.err


@PROGRAM
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_no_failure(program: Program, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["diagnose", text]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "There is no failure" in said.err


@pytest.mark.parametrize("text", ["[Errno 111] Connection refused", "[SSL: X] a\nb", "[" * 100_000, '{\n"a"', "{ no"])
def test_texts_that_only_look_like_json_are_one_failure(
    text: str, say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    say(text)
    assert operator.main(["diagnose", "-o", "json", "--stage", "connect"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


# --- streams ---


class Endless(io.StringIO):
    """Lines without an end, which counts the characters that were taken."""

    def __init__(self, line: str, limit: int) -> None:
        super().__init__()
        self.line, self.left, self.taken = line, limit, 0

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # noqa: ARG002
        if self.left <= 0:
            return ""
        self.left -= 1
        self.taken += 1
        return self.line


def options(**given: object) -> argparse.Namespace:
    defaults = {"text": None, "stage": "", "provider": "", "auth": "", "json_lines": False, "output": "json"}
    return argparse.Namespace(**{**defaults, **given})


class Reader(io.StringIO):
    """Notes how many lines had been read when the first answer came."""

    def __init__(self, source: Endless) -> None:
        super().__init__()
        self.source = source
        self.read_before: int | None = None
        self.flushed = 0

    def write(self, text: str, /) -> int:
        if self.read_before is None:
            self.read_before = self.source.taken
        return len(text)

    def flush(self) -> None:
        self.flushed += 1


def test_streams_are_not_gathered() -> None:
    source = Endless(f"{RECORD}\n", 500)
    result = Reader(source)
    assert diagnose.diagnose(options(), diagnose.Streams(source, result, io.StringIO())) == 0
    assert source.taken == 500
    assert result.read_before == 1
    assert result.flushed >= 500


def test_one_failure_is_read_only_so_far() -> None:
    source = Endless("x" * 1000 + "\n", 10_000)
    assert diagnose.diagnose(options(), diagnose.Streams(source, io.StringIO(), io.StringIO())) == 0
    assert source.taken < 200


@pytest.mark.parametrize("number", [1, 2])
def test_a_line_that_is_too_long_is_passed_over(number: int) -> None:
    lines = [RECORD, RECORD]
    lines.insert(number - 1, f'{{"raw": "{"x" * (3 * MAX_LINE)}"}}')
    source, result, complaints = io.StringIO("\n".join(lines)), io.StringIO(), io.StringIO()
    assert diagnose.diagnose(options(), diagnose.Streams(source, result, complaints)) == 1
    told, *rest = complaints.getvalue().splitlines()
    assert told == f"line {number}: it is longer than {MAX_LINE} characters"
    assert not [line for line in rest if line.startswith("line")]
    assert len(result.getvalue().splitlines()) == 2
