"""docs/kubectl.md shows what the plugin does."""

import json
from pathlib import Path
from typing import Final

import yaml

from mailsettings.plugin.__main__ import COMMANDS
from tests.plugin.test_command_line import ROOT, plugin
from tests.plugin.test_status import FAILING, GOOD, PROBE, lines, own
from tests.unit.test_docs import blocks

PAGE: Final = ROOT / "docs" / "kubectl.md"
TEXTS: Final = [block.text for block in blocks(PAGE) if block.language == "text"]


(SAID,) = [block.text for block in blocks(PAGE) if block.language == "console"]


def test_every_command_is_there() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| [")]
    assert [row.split("`")[1] for row in rows] == [command.name for command in COMMANDS]


def test_status() -> None:
    chain = own(*GOOD[:2], FAILING[0], GOOD[3], FAILING[1], probe={**PROBE, "consecutiveFailures": 1})
    assert TEXTS[0].splitlines() == lines(chain)


def test_dialogue() -> None:
    said = [line.removeprefix("│      ") for line in SAID.splitlines()[1:]]
    chain = own(*GOOD[:2], FAILING[0], GOOD[3], FAILING[1], probe={**PROBE, "dialogue": said})
    assert SAID in "".join(f"{line}\n" for line in lines(chain))


def test_validate(tmp_path: Path) -> None:
    file = tmp_path / "mail.yaml"
    file.write_text(TEXTS[1])
    ended = plugin("validate", "-f", str(file))
    assert ended.returncode == 1
    assert ended.stdout.replace(f"{tmp_path}/", "") == TEXTS[2]


def test_explain() -> None:
    assert plugin("explain", "SecretNotFund").stderr == TEXTS[3]


def test_import() -> None:
    (source,) = [block.text for block in blocks(PAGE) if block.language == "json"]
    (made,) = [block.text for block in blocks(PAGE) if block.language == "yaml"]
    ended = plugin("import", "--from", "thingsboard", "-", stdin=source)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, made, "")
    assert json.loads(source)["password"] == next(yaml.safe_load_all(made))["stringData"]["password"]
