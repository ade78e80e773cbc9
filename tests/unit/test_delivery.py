"""What the application's Secret holds."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api import names
from mailsettings.api.output import Output
from mailsettings.api.template import BUILT_IN_KEYS, PLACEHOLDERS, Preset
from mailsettings.controller.store import secret_record
from mailsettings.core.credentials import ResolvedSettings, TokenFacts
from mailsettings.core.delivery import (
    DeliveredSecret,
    Owner,
    applied_fields,
    can_follow,
    desired_secret,
    exchanged,
    owned_fields,
    secret_data,
    withdrawn_by,
)
from mailsettings.core.digest import Digester
from mailsettings.core.presets import preset_keys
from mailsettings.core.server import BearerToken, Source
from tests.unit.builders import resolved

DIGEST = Digester(b"k" * 32)
OWNER = Owner("MailServerSettings", "mail", "uid-1")
NOW: Final = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)
NASTY = 'p@ss:w/rd?#%&"\\ ü${host}$$'


def manifest(output: dict[str, Any] | None = None, *, digest: Digester = DIGEST, **fields: Any) -> dict[str, Any]:
    model = Output.model_validate(output) if output else None
    desired = desired_secret(resolved(**fields), model, namespace="acme", name="mail-smtp", owner=OWNER)
    return desired.manifest(digest)


def content(**kwargs: Any) -> str:
    return str(manifest(**kwargs)["metadata"]["annotations"]["mailsettings.dev/content"])


def test_built_in_keys_are_the_documented_ones() -> None:
    tls = {"caBundle": {"secretKeyRef": {"name": "smtp", "key": "ca.crt"}}, "serverName": "mx.example"}
    ca = {"host": "h.example", "tls": tls}
    data = secret_data(resolved(connection=ca, ca=trustme.CA().cert_pem.bytes(), replyTo="help@acme.example"), None)
    assert set(data) == set(BUILT_IN_KEYS) - {"tls-insecure-skip-verify", "access-token", "expires-at"}


def test_without_a_login_there_is_none_in_the_secret() -> None:
    data = secret_data(resolved(auth=None), None)
    assert not {"username", "password"} & set(data)
    assert data["uri"] == "smtp://smtp.acme.example:587"


def test_uri_parses_back_to_what_was_put_in() -> None:
    data = secret_data(resolved(password=NASTY.encode()), None)
    url = urlsplit(data["uri"])
    assert (url.scheme, url.hostname, url.port) == ("smtp", "smtp.acme.example", 587)
    assert (url.username, unquote(url.password or "")) == ("mailer", NASTY)


def test_ipv6_hosts_stand_in_brackets() -> None:
    data = secret_data(resolved(connection={"host": "2001:db8::1"}), None)
    assert data["host"] == "2001:db8::1"
    assert urlsplit(data["uri"]).hostname == "2001:db8::1"


def test_every_placeholder_is_filled_and_values_are_not_expanded_again() -> None:
    text = "|".join(f"${{{name}}}" for name in PLACEHOLDERS) + "|$$"
    output = Output.model_validate({"template": {"data": {"ALL": text}}})
    filled = secret_data(resolved(password=NASTY.encode()), output.template)["ALL"]
    assert filled.count("|") == len(PLACEHOLDERS)
    assert filled.endswith("|$")
    assert NASTY in filled


@given(st.text(min_size=1, max_size=40).filter(lambda t: t.strip() and t.isprintable()))
def test_presets_carry_any_password_unharmed(password: str) -> None:
    settings = resolved(password=password.encode())
    assert preset_keys(Preset.DJANGO, settings)["EMAIL_HOST_PASSWORD"] == password
    assert preset_keys(Preset.GRAFANA, settings)["GF_SMTP_PASSWORD"] == password
    assert json.loads(preset_keys(Preset.KEYCLOAK, settings)["keycloak-smtp-server.json"])["password"] == password
    assert json.loads(preset_keys(Preset.NODEMAILER, settings)["nodemailer.json"])["auth"]["pass"] == password
    spring = json.loads(preset_keys(Preset.SPRING, settings)["SPRING_APPLICATION_JSON"])["spring"]["mail"]
    assert spring["password"] == password
    dsn = urlsplit(preset_keys(Preset.SYMFONY, settings)["MAILER_DSN"])
    assert unquote(dsn.password or "") == password
    assert json.loads(preset_keys(Preset.THINGSBOARD, settings)["thingsboard-mail.json"])["password"] == password


@pytest.mark.parametrize(
    ("tls", "django", "nodemailer", "dsn", "spring"),
    [
        ("StartTLS", ("True", "False"), (False, True), "require_tls=true", "mail.smtp.starttls.required"),
        ("Implicit", ("False", "True"), (True, False), "", "mail.smtps.auth"),
        ("Disabled", ("False", "False"), (False, False), "auto_tls=false", "mail.smtp.auth"),
    ],
)
def test_presets_say_how_the_connection_is_protected(
    tls: str, django: tuple[str, str], nodemailer: tuple[bool, bool], dsn: str, spring: str
) -> None:
    settings = resolved(connection={"host": "h.example", "tls": {"mode": tls}})
    keys = preset_keys(Preset.DJANGO, settings)
    assert (keys["EMAIL_USE_TLS"], keys["EMAIL_USE_SSL"]) == django
    node = json.loads(preset_keys(Preset.NODEMAILER, settings)["nodemailer.json"])
    assert (node["secure"], node["requireTLS"]) == nodemailer
    assert urlsplit(preset_keys(Preset.SYMFONY, settings)["MAILER_DSN"]).query == dsn
    properties = json.loads(preset_keys(Preset.SPRING, settings)["SPRING_APPLICATION_JSON"])["spring"]["mail"]
    assert properties["properties"][spring] is True


def _preset(preset: Preset, key: str, **connection: Any) -> str:
    return preset_keys(preset, resolved(connection={"host": "h.example", **connection}))[key]


def _spring_properties(**tls: Any) -> dict[str, Any]:
    properties: dict[str, Any] = json.loads(_preset(Preset.SPRING, "SPRING_APPLICATION_JSON", tls=tls))["spring"][
        "mail"
    ]["properties"]
    return properties


@pytest.mark.parametrize(
    ("tls", "port", "policy"),
    [
        ("StartTLS", 587, "MandatoryStartTLS"),
        ("Implicit", 465, "MandatoryStartTLS"),
        ("Implicit", 2465, "MandatoryStartTLS"),
        ("Disabled", 25, "NoStartTLS"),
    ],
)
def test_grafana_never_goes_on_without_tls_where_tls_is_wanted(tls: str, port: int, policy: str) -> None:
    """It knows implicit TLS on port 465 only, where the policy means nothing."""
    assert _preset(Preset.GRAFANA, "GF_SMTP_STARTTLS_POLICY", tls={"mode": tls}, port=port) == policy


@pytest.mark.parametrize(
    ("tls", "query"),
    [
        ({"insecureSkipVerify": True}, "require_tls=true&verify_peer=0"),
        ({"mode": "Implicit", "insecureSkipVerify": True}, "verify_peer=0"),
        ({"insecureSkipVerify": False}, "require_tls=true"),
    ],
)
def test_symfony_is_told_to_accept_any_certificate(tls: dict[str, Any], query: str) -> None:
    assert urlsplit(_preset(Preset.SYMFONY, "MAILER_DSN", tls=tls)).query == query


@pytest.mark.parametrize(("mode", "protocol"), [("StartTLS", "smtp"), ("Implicit", "smtps")])
@pytest.mark.parametrize(
    ("least", "versions"), [(None, "TLSv1.2 TLSv1.3"), ("TLSv1.2", "TLSv1.2 TLSv1.3"), ("TLSv1.3", "TLSv1.3")]
)
def test_spring_is_told_the_tls_versions(mode: str, protocol: str, least: str | None, versions: str) -> None:
    tls = {"mode": mode, **({"minVersion": least} if least else {})}
    assert _spring_properties(**tls)[f"mail.{protocol}.ssl.protocols"] == versions


def test_spring_is_told_no_tls_versions_where_there_is_no_tls() -> None:
    assert [name for name in _spring_properties(mode="Disabled") if ".ssl." in name] == []


@pytest.mark.parametrize("preset", list(Preset))
def test_every_preset_adds_keys_that_do_not_clash(preset: Preset) -> None:
    keys = preset_keys(preset, resolved())
    assert keys
    assert not set(keys) & set(BUILT_IN_KEYS)


def test_digest_depends_on_everything_that_is_delivered_and_on_the_key() -> None:
    digests = [
        content(),
        content(password=b"other"),
        content(mailFrom="a@acme.example"),
        content(output={"metadata": {"labels": {"a": "b"}}}),
        content(output={"metadata": {"annotations": {"a": "b"}}}),
        content(output={"template": {"data": {"A": "b"}}}),
        content(digest=Digester(b"x" * 32)),
    ]
    assert len(set(digests)) == len(digests)
    assert content() == digests[0]


def test_own_labels_win_over_wishes() -> None:
    labels = manifest({"metadata": {"labels": {"team": "a"}}})["metadata"]["labels"]
    assert labels == {
        "team": "a",
        "app.kubernetes.io/managed-by": "mailsettings",
        "mailsettings.dev/settings": "mail",
    }


def test_source_says_whose_values_they_are() -> None:
    assert manifest()["metadata"]["annotations"]["mailsettings.dev/source"] == "MailServerSettings/acme/mail"


def entry(fields: dict[str, Any], manager: str = "mailsettings-operator", operation: str = "Apply") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsV1": fields}


def applied_entry(document: dict[str, Any]) -> dict[str, Any]:
    metadata = document["metadata"]
    return entry(
        {
            "f:data": {f"f:{key}": {} for key in document["data"]},
            "f:metadata": {
                "f:labels": {f"f:{key}": {} for key in metadata["labels"]},
                "f:annotations": {f"f:{key}": {} for key in metadata["annotations"]},
            },
            "f:type": {},
        }
    )


def test_untouched_secret_is_known_by_its_managed_fields() -> None:
    document = manifest()
    others = entry({"f:data": {"f:extra": {}}}, manager="kubectl-edit", operation="Update")
    assert owned_fields([others, applied_entry(document)]) == applied_fields(document)


@pytest.mark.parametrize("group", ["f:data", "f:labels", "f:annotations"])
def test_a_field_that_somebody_took_shows(group: str) -> None:
    document = manifest()
    applied = applied_entry(document)
    fields = applied["fieldsV1"]
    owner = fields if group == "f:data" else fields["f:metadata"]
    owner[group].popitem()
    assert owned_fields([applied]) != applied_fields(document)


def test_a_secret_that_the_operator_never_applied_owns_nothing() -> None:
    assert owned_fields([entry({"f:data": {}}, operation="Update")]) == ""
    assert owned_fields([]) == ""


# --- the access token ---


def authorized(serial: str = "one", fingerprint: str = "f", **fields: Any) -> ResolvedSettings:
    bearer = BearerToken("no-reply@acme.example", f"token {serial}")
    facts = TokenFacts(serial, fingerprint, NOW)
    return replace(resolved(**fields), credentials=bearer, token=facts)


def delivered(settings: ResolvedSettings, output: dict[str, Any] | None = None) -> dict[str, Any]:
    """A Secret as the API server has it after the settings were delivered."""
    model = Output.model_validate(output) if output else None
    document = desired_secret(settings, model, namespace="acme", name="mail-smtp", owner=OWNER).manifest(DIGEST)
    return {
        **document,
        "metadata": {
            **document["metadata"],
            "uid": "uid-2",
            "resourceVersion": "7",
            "managedFields": [applied_entry(document)],
        },
    }


def test_renewed_token_is_the_only_difference() -> None:
    old, new = delivered(authorized()), delivered(authorized("two"))
    annotations = [each["metadata"]["annotations"] for each in (old, new)]
    assert annotations[0][names.ANNOTATION_CONTENT] == annotations[1][names.ANNOTATION_CONTENT]
    assert annotations[0][names.ANNOTATION_TOKEN] == "f/one"
    assert annotations[1][names.ANNOTATION_TOKEN] == "f/two"
    assert {key for key in old["data"] if old["data"][key] != new["data"][key]} == {"access-token"}
    assert names.ANNOTATION_TOKEN not in manifest()["metadata"]["annotations"]


def test_exchange_changes_the_token_only_and_takes_nothing_from_others() -> None:
    output = {"metadata": {"labels": {"team": "a"}}, "template": {"data": {"x": "y"}}}
    secret = delivered(authorized(), output)
    secret["data"]["foreign"] = "eA=="
    secret["metadata"]["labels"]["foreign"] = "x"
    secret["metadata"]["annotations"]["foreign"] = "x"
    applied = exchanged(secret, authorized("two", mailFrom="new@acme.example", connection={"host": "new.example"}))
    expected = delivered(authorized("two"), output)
    assert applied["data"] == expected["data"]
    assert applied["metadata"]["labels"] == expected["metadata"]["labels"]
    assert applied["metadata"]["annotations"] == expected["metadata"]["annotations"]
    assert applied["metadata"]["ownerReferences"] == expected["metadata"]["ownerReferences"]
    assert (applied["metadata"]["resourceVersion"], applied["type"]) == ("7", expected["type"])


def test_token_follows_only_one_of_the_same_configuration_and_level() -> None:
    secret = secret_record(delivered(authorized())["metadata"])
    assert can_follow(secret, authorized("two"))
    assert can_follow(secret, authorized("two", connection={"host": "new.example"}))
    assert not can_follow(secret, authorized("two", fingerprint="another"))
    assert not can_follow(secret, resolved()), "a password is no token"
    assert not can_follow(secret_record(delivered(resolved())["metadata"]), authorized())
    system = authorized("two")
    system = replace(system, effective=replace(system.effective, source=Source.SYSTEM))
    assert not can_follow(secret, system), "the system's token would go to the tenant's server"


@pytest.mark.parametrize(
    ("source", "cluster"),
    [
        ("ClusterMailServerSettings/default", "default"),
        ("MailServerSettings/acme/mail", None),
        ("", None),
    ],
)
def test_only_what_came_from_a_cluster_object_is_withdrawn_by_it(source: str, cluster: str | None) -> None:
    secret = DeliveredSecret("acme", "mail-smtp", "uid", "1", OWNER, source=source)
    assert withdrawn_by(secret) == cluster
