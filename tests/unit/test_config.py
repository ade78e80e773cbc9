"""The operator's own configuration."""

import ipaddress

import pytest
from pydantic import ValidationError

from mailsettings.__main__ import main
from mailsettings.api.identity import Cloud
from mailsettings.config import Config
from mailsettings.core.server import Source


def test_unset_and_empty_variables_leave_the_defaults() -> None:
    config = Config.from_environment({"MAILSETTINGS_WORKERS": "", "OTHER": "x"})
    assert config == Config()
    assert config.namespace == "mailsettings-system"


def test_variables_are_read() -> None:
    config = Config.from_environment(
        {
            "MAILSETTINGS_NAMESPACE": "mail",
            "MAILSETTINGS_REQUIRE_SECRET_LABEL": "true",
            "MAILSETTINGS_PROBE_DEADLINE_SECONDS": "30",
            "MAILSETTINGS_LOG_LEVEL": "debug",
            "MAILSETTINGS_EGRESS_ALLOW": "10.0.0.0/8",
            "MAILSETTINGS_EGRESS_PROXIES": "proxy.acme.example:3128",
        }
    )
    assert (config.namespace, config.require_secret_label, config.log_level) == ("mail", True, "DEBUG")
    assert config.probe_deadline.total_seconds() == 30
    assert config.egress.check(ipaddress.ip_address("10.1.2.3"), 587, Source.TENANT) is None
    assert config.egress.check_proxy_name("proxy.acme.example", 3128, Source.TENANT) is None


def test_cloud_of_the_administrator_s_own() -> None:
    authority = {"MAILSETTINGS_OAUTH2_CLOUD_AUTHORITY": "https://login.cloud.example/adfs/"}
    assert Config().oauth2_cloud is None
    assert Config.from_environment(authority).oauth2_cloud == Cloud("https://login.cloud.example/adfs")
    scopes = {
        "MAILSETTINGS_OAUTH2_CLOUD_DELEGATED_SCOPES": " a  b ",
        "MAILSETTINGS_OAUTH2_CLOUD_APPLICATION_SCOPES": "https://mail.cloud.example/.default",
    }
    cloud = Config.from_environment(authority | scopes).oauth2_cloud
    expected = ("a", "b"), ("https://mail.cloud.example/.default",)
    assert cloud == Cloud("https://login.cloud.example/adfs", *expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("OAUTH2_CLOUD_AUTHORITY", url) for url in ("http://h", "https://h?x", "https://h#x", "https://u:p@h", "h")),
        ("OAUTH2_CLOUD_DELEGATED_SCOPES", 'a "b"'),
        ("OAUTH2_CLOUD_APPLICATION_SCOPES", "ä"),
        ("WORKERS", "0"),
        ("WORKERS", "many"),
        ("LOG_LEVEL", "LOUD"),
        ("REQUIRE_SECRET_LABEL", "perhaps"),
    ],
)
def test_values_that_cannot_be_used_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name.lower()):
        Config.from_environment({f"MAILSETTINGS_{name}": value})


@pytest.mark.parametrize(
    ("name", "value"), [("MAILSETTINGS_WORKERS", "0"), ("MAILSETTINGS_EGRESS_ALLOW", "10.0.0.0/99")]
)
def test_the_command_names_the_variable_and_ends_with_2(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["run"]) == 2
    assert name.removesuffix("_ALLOW") in capsys.readouterr().err


@pytest.mark.parametrize(("of_namespace", "to_recipient"), [("20", "39"), ("31", ""), ("", "39"), ("1000", "1000")])
def test_one_namespace_cannot_use_a_recipients_bound_up(
    of_namespace: str, to_recipient: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAILSETTINGS_TEST_MAILS_PER_HOUR", of_namespace)
    monkeypatch.setenv("MAILSETTINGS_RECIPIENT_MAILS_PER_HOUR", to_recipient)
    assert main(["run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("MAILSETTINGS_RECIPIENT_MAILS_PER_HOUR: ")
    assert "must be at least twice MAILSETTINGS_TEST_MAILS_PER_HOUR" in said


def test_bounds_on_mails_may_be_as_far_apart_as_need_be() -> None:
    bounds = {"MAILSETTINGS_TEST_MAILS_PER_HOUR": "1000", "MAILSETTINGS_RECIPIENT_MAILS_PER_HOUR": "2000"}
    assert Config.from_environment(bounds).recipient_mails_per_hour == 2000


def test_help_lists_every_variable_and_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    assert all(f"MAILSETTINGS_{field.upper()}" in text for field in Config.model_fields)
    assert "examples:" in text
