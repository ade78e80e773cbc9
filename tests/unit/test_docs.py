"""The documentation, executed: what it says of commands, files, fields and variables is so."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest
import yaml
from pydantic import BaseModel

from mailsettings.api import crd, names
from mailsettings.api.conditions import Reason
from mailsettings.api.mailservertest import MailServerTestSpec
from mailsettings.api.providers import PROVIDERS
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.config import PREFIX, Config
from tests.support.smtp_server import PASSWORD, USERNAME, certificate, mail_server

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
RENDERED: Final = ROOT / "docs" / "reference.md"
"""Made from the models, and checked where it is made."""
PAGES: Final = [README, *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page != RENDERED)]
PAGE: Final = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])

MODELS: Final[dict[str, type[BaseModel]]] = {
    names.CLUSTER_KIND: ClusterMailServerSettingsSpec,
    names.TENANT_KIND: MailServerSettingsSpec,
    names.TEST_KIND: MailServerTestSpec,
}


@dataclass(frozen=True)
class Block:
    """A fenced block, which may belong to an item of a list, or a run of indented lines, called `indented`."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fence = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    fenced = [Block(language, dedent(found)) for _, language, found in fence.findall(text)]
    indented = re.findall(r"(?:^ {4}.*\n)+", fence.sub("", text), re.MULTILINE)
    return fenced + [Block("indented", dedent(found)) for found in indented]


def documents(page: Path) -> Iterator[dict[str, Any]]:
    for block in blocks(page):
        if block.language == "yaml":
            yield from yaml.safe_load_all(block.text)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@PAGE
def test_page_is_readable(page: Path) -> None:
    lines = page.read_text().splitlines()
    prose = [line for line in lines if not line.lstrip().startswith("|") and "](" not in line]
    assert max(map(len, prose)) <= 120
    code = [line for block in blocks(page) for line in block.text.splitlines()]
    assert [line for line in code if len(line) > 80] == []


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 200


@PAGE
def test_yaml_is_what_the_models_accept(page: Path) -> None:
    for document in documents(page):
        if document.get("apiVersion") == names.API_VERSION:
            model = MODELS[document["kind"]]
            parsed = model.model_validate(document["spec"])
            assert _fields(document["spec"]) <= _fields(parsed.model_dump(by_alias=True)), "a field has no meaning"


def _fields(value: Any, path: str = "") -> set[str]:
    """The paths of an object's fields, so that one that the models ignore is noticed."""
    if not isinstance(value, dict):
        return set()
    below = [_fields(child, f"{path}.{name}") for name, child in value.items()]
    return {f"{path}.{name}" for name in value}.union(*below)


def test_operations_has_settings_as_an_example() -> None:
    """So that the test above is not empty."""
    pages = [page for page in PAGES for document in documents(page) if document.get("kind") in MODELS]
    assert {README, ROOT / "docs" / "operations.md"} <= {*pages}


@PAGE
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {*re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)}
    code = [*re.findall(r"`(make [^`]*)`", page.read_text()), *(block.text for block in blocks(page))]
    mentioned = {target for text in code for target in re.findall(r"\bmake ([a-z][a-z-]*)", text)}
    assert mentioned <= targets


@PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@PAGE
def test_files_that_are_named_exist(page: Path) -> None:
    folders = "operator|dev|docs|tests|manifests|crds"
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w)", page.read_text())
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []


@PAGE
def test_reasons_and_variables_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    variables = {f"{PREFIX}{field.upper()}" for field in Config.model_fields}
    of_tests = {
        "MAILSETTINGS_KUBECONFIG",
        "MAILSETTINGS_AGREEMENT_CASES",
        "MAILSETTINGS_CHROMIUM",
        "MAILSETTINGS_CRASH_KILLS",
        "MAILSETTINGS_MAIL_CLIENTS",
        "MAILSETTINGS_OPENID_PROVIDER",
    }
    assert {*re.findall(r"MAILSETTINGS_[A-Z0-9_]+", text)} <= variables | of_tests
    for reason in re.findall(r"the reason(?: is)? `(\w+)`", text):
        assert reason in [*Reason], reason


@PAGE
def test_reasons_in_tables_exist(page: Path) -> None:
    tables = re.findall(r"^ *\| Reason\b.*\n *\|[-|]+\n((?: *\|.*\n)+)", page.read_text(), re.MULTILINE)
    for row in "".join(tables).splitlines():
        for reason in re.findall(r"`(\w+)`", row.split("|")[1]):
            assert reason in [*Reason], reason


@PAGE
def test_what_kubectl_shows_has_its_columns_and_reasons(page: Path) -> None:
    (version,) = crd.manifest(crd.TENANT)["spec"]["versions"]
    shown = [column["name"].upper() for column in version["additionalPrinterColumns"] if not column.get("priority")]
    console = "\n".join(block.text for block in blocks(page) if block.language == "console")
    for header, row in re.findall(r"^(NAME .*AGE)\n(.*)$", console, re.MULTILINE):
        assert header.split() == ["NAME", *shown]
        assert row.split()[2] in [*Reason]


def test_provider_pages_are_complete() -> None:
    """Each provider has a page, which is linked from the overview, and every grant that works there has an example."""
    for name, provider in PROVIDERS.items():
        page = ROOT / "docs" / "providers" / f"{name.lower()}.md"
        assert f"(providers/{page.name})" in (ROOT / "docs" / "oauth2.md").read_text()
        text = page.read_text()
        assert {grant for grant in provider.grants if f"grant: {grant}" not in text} == set()
        assert "kubectl wait --for=condition=Ready" in text


def test_table_of_what_is_wrong_names_reasons() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.split("## When something is wrong")[1].split("\n## ")[0]
    for reason in re.findall(r"^\| `([A-Z]\w+)`(?: \||,| though)", section, re.MULTILINE):
        assert reason in [*Reason], reason


def test_table_of_variables_is_that_of_the_configuration() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(f"| `{PREFIX}")]
    assert rows == [_row(name) for name in Config.model_fields]


def _row(name: str) -> str:
    field = Config.model_fields[name]
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    meaning = " ".join((field.description or "").split())
    return f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default else ''} | {meaning} |"


def test_commands_of_the_example_exist() -> None:
    """What the console shows is typed after a dollar sign."""
    commands = [
        line.removeprefix("$ ")
        for block in blocks(README)
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith("$ ")
    ]
    assert len(commands) >= 3
    for command in commands:
        program, verb = command.split()[:2]
        assert program == "kubectl"
        assert verb in ("get", "apply", "wait", "describe", "label", "annotate")
        for file in re.findall(r"-f (\S+)", command):
            assert (ROOT / file).is_file()


@PAGE
def test_makers_and_places_are_not_told(page: Path) -> None:
    """No path of a machine but those that the demo makes, and no package index."""
    text = page.read_text().replace("/tmp/mailsettings-cluster-", "")
    assert re.search(r"/(home|root|work|tmp)/|pypi\.|files\.pythonhosted", text) is None


def _snippet() -> str:
    (snippet,) = (block.text for block in blocks(README) if block.language == "python")
    return snippet


def _mounted(folder: Path, values: dict[str, str]) -> Path:
    """A folder as Kubernetes mounts a Secret: links to links, and hidden folders."""
    data = folder / "..2026_11_22_16_40_00.0"
    data.mkdir()
    for key, value in values.items():
        (data / key).write_text(value)
        (folder / key).symlink_to(Path("..data", key))
    (folder / "..data").symlink_to(data.name)
    return folder


@pytest.mark.parametrize("program", ["README.md", "dev/examples/send_mail.py"])
async def test_program_sends_with_a_mounted_secret(program: str, tmp_path: Path) -> None:
    tls = certificate("127.0.0.1")
    async with mail_server(start_tls=tls.context, auth_required=True) as server:
        values = {
            "type": "smtp",
            "host": "127.0.0.1",
            "port": str(server.port),
            "protocol": "smtp",
            "tls": "StartTLS",
            "from": "Acme <no-reply@acme.example>",
            "username": USERNAME,
            "password": PASSWORD,
            "ca.crt": tls.ca_pem,
        }
        folder = _mounted(tmp_path, values)
        if program == "README.md":
            command = ["-c", _snippet().replace("/etc/smtp", str(folder))]
        else:
            command = [str(ROOT / program), str(folder), "you@acme.example"]
        await _run(command)
        assert [mail.recipients for mail in server.mails] == [["you@acme.example"]]
        assert server.mails[0].message["From"] == "Acme <no-reply@acme.example>"


async def _run(arguments: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, errors.decode()
