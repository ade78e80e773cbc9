"""Where links into the documentation lead: into the repository, or to where an administrator publishes it."""

from collections.abc import Iterator
from typing import Final

import pytest

from mailsettings.__main__ import _config
from mailsettings.__main__ import main as operator
from mailsettings.api.conditions import Reason, explained
from mailsettings.api.status import FailureStatus
from mailsettings.config import Config
from mailsettings.core.causes.catalog import link
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.reasons import docs_of
from mailsettings.core.documentation import DEFAULT_URL, DOCUMENTATION, documentation_url
from mailsettings.core.oauth2.consent import ConsentResult
from mailsettings.edges.consent_server.pages import result_page
from tests.plugin.test_command_line import plugin

URL: Final = "https://docs.example.com/mail"


@pytest.fixture
def published() -> Iterator[None]:
    DOCUMENTATION.url = URL
    yield
    DOCUMENTATION.url = DEFAULT_URL


def test_links_lead_into_the_repository_by_default() -> None:
    assert Config().docs_url == "docs"
    assert link(Cause.BAD_CREDENTIALS) == "docs/troubleshooting.md#badcredentials"
    assert docs_of(Reason.EGRESS_DENIED) == "docs/security.md#egress-policy"


@pytest.mark.usefixtures("published")
def test_every_link_begins_with_the_address() -> None:
    assert link(Cause.BAD_CREDENTIALS) == f"{URL}/troubleshooting.md#badcredentials"
    assert docs_of(Reason.CONSENT_DENIED) == f"{URL}/troubleshooting.md#consentrequired"
    assert docs_of(Reason.EGRESS_DENIED) == f"{URL}/security.md#egress-policy"


def test_conditions_name_the_command_that_needs_no_network() -> None:
    failure = FailureStatus(cause="PortBlocked", message="No.", remedy="Do.", docs="docs/a.md#b")
    assert failure.explained == "No. Do. See docs/a.md#b or `kubectl mailsettings explain PortBlocked`."
    assert explained("No.", None, None, "ProbeBroken") == "No."


@pytest.mark.parametrize("text", ["docs", "docs/", "https://h", f"{URL}/", "http://wiki.example:8080/a/b"])
def test_addresses_are_taken_without_their_last_slash(text: str) -> None:
    assert documentation_url(text) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "ftp://h", "https://", "https://h?x", "https://h/#x", "https://u:p@h", "https://h/ a"),
        *("https://h/ä", "https://h/`a`", "https://h/<a>", f"https://h/{'a' * 200}"),
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an http or https URL"):
        documentation_url(text)


def test_links_of_others_are_resolved() -> None:
    assert DOCUMENTATION.resolved("docs/a.md#b") == "docs/a.md#b"


@pytest.mark.usefixtures("published")
def test_links_of_others_are_resolved_where_it_is_published() -> None:
    assert DOCUMENTATION.resolved("docs/a.md#b") == f"{URL}/a.md#b"
    assert DOCUMENTATION.resolved("https://other.example/a.md#b") == "https://other.example/a.md#b"


def test_operator_begins_links_as_it_is_configured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DOCUMENTATION, "url", DEFAULT_URL)
    monkeypatch.setenv("MAILSETTINGS_DOCS_URL", f"{URL}/")
    assert operator(["diagnose", "--stage", "auth", "535 5.7.8 no"]) == 0
    assert f"{URL}/troubleshooting.md#badcredentials" in capsys.readouterr().out
    monkeypatch.setenv("MAILSETTINGS_DOCS_URL", "nowhere")
    assert operator(["diagnose", "x"]) == 2
    assert operator(["run"]) == 2
    assert capsys.readouterr().err.count("MAILSETTINGS_DOCS_URL: ") == 2


def test_configuration_is_in_force_once_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DOCUMENTATION, "url", DEFAULT_URL)
    monkeypatch.setenv("MAILSETTINGS_DOCS_URL", URL)
    assert _config() is not None
    assert DOCUMENTATION.url == URL


def test_plugin_begins_links_as_its_environment_says() -> None:
    assert f"{URL}/troubleshooting.md#portblocked" in plugin("explain", "PortBlocked", MAILSETTINGS_DOCS_URL=URL).stdout
    refused = plugin("explain", "PortBlocked", MAILSETTINGS_DOCS_URL="nowhere")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("MAILSETTINGS_DOCS_URL: must be ")


@pytest.mark.usefixtures("published")
def test_consent_pages_link_where_it_is_published_and_nowhere_else() -> None:
    page = f"{URL}/troubleshooting.md#wrongaccounttype"
    said = f"No. See {page} or ask. https://evil.example/troubleshooting.md#x a{page}"
    shown = result_page(ConsentResult(False, "WrongAccount", said))
    assert f'See <a href="{page}">{page}</a> or ask.' in shown
    assert shown.count("<a ") == 1


def test_consent_pages_link_nothing_by_default() -> None:
    shown = result_page(ConsentResult(False, "WrongAccount", "No. See docs/troubleshooting.md#wrongaccounttype."))
    assert "<a " not in shown
