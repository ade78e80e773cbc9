"""Whether settings are accepted, and what is said."""

from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.identity import Cloud
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.core.acceptance import MAX_ERRORS, accept_cluster, accept_tenant, parse_spec
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding
from mailsettings.core.system import SystemSettings
from mailsettings.core.tenancy import Namespace
from tests.unit.builders import SYSTEM_SPEC, system_spec, tenant_spec

LOGIN = {"basic": {"username": "u@acme.example", "passwordSecretRef": {"name": "s", "key": "k"}}}


def system(*, accepted: bool = True, **fields: Any) -> SystemSettings:
    spec = system_spec(**fields)
    _, effective = accept_cluster(spec, name="default", generation=7)
    return SystemSettings(
        name="default",
        uid="uid",
        suspend=False,
        tenants=spec.tenants,
        output=None,
        effective=effective if accepted else None,
        resolved=None,
        renewing=None,
        authorized=None,
        probe=None,
    )


def tenant(
    settings: SystemSettings | None, *, namespace: str = "shop", **fields: Any
) -> tuple[Finding, EffectiveSettings | None]:
    return accept_tenant(
        tenant_spec(**fields),
        settings,
        name="mail",
        generation=3,
        namespace=Namespace(namespace, {}),
        operator_namespace="mailsettings-system",
    )


def test_inheriting_tenant_is_accepted_with_the_systems_settings() -> None:
    finding, effective = tenant(system())
    assert finding.holds
    assert effective is not None
    assert (effective.settings_name, effective.settings_generation) == ("default", 7)


@pytest.mark.parametrize(
    ("settings", "fields", "reason"),
    [
        (None, {}, Reason.SYSTEM_SETTINGS_NOT_FOUND),
        (system(tenants=None), {}, Reason.NOT_ALLOWED),
        (system(tenants={"delivery": "Credentials", "namespaces": ["mall"]}), {}, Reason.NOT_ALLOWED),
        (system(accepted=False), {}, Reason.SYSTEM_SETTINGS_NOT_ACCEPTED),
        (system(), {"mailFrom": "a@evil.example"}, Reason.SENDER_NOT_ALLOWED),
    ],
)
def test_refusals_say_why_and_need_a_person(
    settings: SystemSettings | None, fields: dict[str, Any], reason: Reason
) -> None:
    finding, effective = tenant(settings, **fields)
    assert (finding.status, finding.reason, effective) == (False, reason, None)
    assert reason.needs_person


def test_own_server_needs_no_system() -> None:
    fields = {key: value for key, value in SYSTEM_SPEC.items() if key != "tenants"}
    finding, effective = tenant(None, **fields)
    assert finding.holds
    assert effective is not None
    assert effective.settings_name == "mail"


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ({"provider": "Office365", "connection": None, "auth": LOGIN}, "December 2026"),
        ({"connection": {"host": "h.example", "tls": {"mode": "Disabled"}}}, "in the clear"),
        ({"connection": {"host": "h.example", "tls": {"insecureSkipVerify": True}}}, "insecureSkipVerify"),
        ({"tenants": {"delivery": "Credentials", "namespaces": ["shop"]}}, "copy of this login"),
    ],
)
def test_what_is_accepted_with_a_warning_says_so(fields: dict[str, Any], warning: str) -> None:
    finding, _ = accept_cluster(system_spec(**fields), name="default", generation=1)
    assert finding.holds
    assert warning in finding.message


def test_nothing_to_warn_of_is_not_warned_of() -> None:
    finding, _ = accept_cluster(system_spec(tenants=None), name="default", generation=1)
    assert "Warning" not in finding.message


def test_stored_spec_that_does_not_fit_is_described_by_its_fields_not_its_values() -> None:
    finding = parse_spec(MailServerSettingsSpec, {"mailFrom": "hunter2", "connection": {"port": "hunter2"}})
    assert isinstance(finding, Finding)
    assert finding.reason is Reason.SPEC_INVALID
    assert "mailFrom" in finding.message
    assert "connection.port" in finding.message
    assert "hunter2" not in finding.message


def test_many_errors_are_cut_short() -> None:
    spec = {**SYSTEM_SPEC, "tenants": {"delivery": "Credentials", "namespaces": ["_"] * 20}}
    finding = parse_spec(ClusterMailServerSettingsSpec, spec)
    assert isinstance(finding, Finding)
    assert finding.message.count("tenants.namespaces") <= MAX_ERRORS
    assert "more" in finding.message


OFFICE: dict[str, Any] = {
    "mailFrom": "a@acme.example",
    "provider": "Office365",
    "connection": {"host": "smtp.cloud.example"},
    "auth": {
        "oauth2": {
            "username": "a@acme.example",
            "grant": "ClientCredentials",
            "clientID": "x",
            "clientAuth": {"secretRef": {"name": "a", "key": "b"}},
            "directoryID": "acme.example",
            "cloud": "Custom",
        }
    },
}


@pytest.mark.parametrize(
    ("cloud", "missing"),
    [
        (None, "MAILSETTINGS_OAUTH2_CLOUD_AUTHORITY"),
        (Cloud("https://h", ("send",)), "MAILSETTINGS_OAUTH2_CLOUD_APPLICATION_SCOPES"),
        (Cloud("https://h", (), ("default",)), None),
    ],
)
def test_cloud_that_the_administrator_has_not_defined_is_named(cloud: Cloud | None, missing: str | None) -> None:
    found = parse_spec(MailServerSettingsSpec, OFFICE, custom_cloud=cloud)
    if missing is None:
        assert not isinstance(found, Finding)
        return
    assert isinstance(found, Finding)
    assert (found.status, found.reason) == (False, Reason.SPEC_INVALID)
    assert missing in found.message


def test_scopes_of_the_delegated_kind_are_needed_for_a_person_s_mailbox_unless_the_spec_has_them() -> None:
    seed = {"refreshTokenSecretRef": {"name": "a", "key": "b"}}
    oauth2 = {**OFFICE["auth"]["oauth2"], "grant": "RefreshToken", **seed}
    cloud = Cloud("https://h", (), ("default",))
    found = parse_spec(MailServerSettingsSpec, {**OFFICE, "auth": {"oauth2": oauth2}}, custom_cloud=cloud)
    assert isinstance(found, Finding)
    assert "MAILSETTINGS_OAUTH2_CLOUD_DELEGATED_SCOPES" in found.message
    own = {**OFFICE, "auth": {"oauth2": {**oauth2, "scopes": ["send"]}}}
    assert not isinstance(parse_spec(MailServerSettingsSpec, own, custom_cloud=cloud), Finding)


def test_other_clouds_need_no_definition() -> None:
    public = {**OFFICE, "auth": {"oauth2": {**OFFICE["auth"]["oauth2"], "cloud": "Public"}}}
    assert not isinstance(parse_spec(MailServerSettingsSpec, public), Finding)


def test_what_the_defined_cloud_s_token_permits_beyond_sending_is_told() -> None:
    spec = ClusterMailServerSettingsSpec.model_validate(
        {**OFFICE, "tenants": {"delivery": "Credentials", "namespaces": ["a"]}}
    )
    cloud = Cloud("https://h", (), ("https://mail.google.com/",))
    finding, _ = accept_cluster(spec, name="x", generation=1, custom_cloud=cloud)
    assert "also reads and deletes" in finding.message
