"""Whose consent is asked for, and what is said where nobody's would help."""

import re
from typing import Any

import pytest

from mailsettings.api import names
from mailsettings.api.grants import Grant
from mailsettings.plugin.authorize.target import Target, target_of
from mailsettings.plugin.command import CommandError

OAUTH2: dict[str, Any] = {"username": "a@acme.example", "grant": "AuthorizationCode", "clientID": "c"}


def document(*, cluster: bool = False, metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    kind = names.CLUSTER_KIND if cluster else names.TENANT_KIND
    place = {} if cluster else {"namespace": "shop"}
    return {"kind": kind, "metadata": {"name": "mail", "uid": "u", **place, **(metadata or {})}, "spec": spec}


def google(**oauth2: Any) -> dict[str, Any]:
    return {"mailFrom": "a@acme.example", "provider": "Google", "auth": {"oauth2": {**OAUTH2, **oauth2}}}


def test_settings_that_wait_for_a_consent() -> None:
    target = target_of(document(**google()))
    assert target == Target(
        names.TENANT_KIND, "shop", "mail", "u", "Google", "a@acme.example", Grant.AUTHORIZATION_CODE
    )
    assert target.title == "MailServerSettings shop/mail"
    assert target.source == "MailServerSettings/shop/mail"


def test_a_cluster_object_that_waits_for_one() -> None:
    target = target_of(document(cluster=True, **google()))
    assert (target.namespace, target.title) == ("", "ClusterMailServerSettings mail")
    assert target.source == "ClusterMailServerSettings/mail"


def test_redirect_uri_is_the_one_that_the_provider_takes_with_any_port() -> None:
    assert target_of(document(**google())).redirect_uri(7) == "http://127.0.0.1:7"
    office = {**google(directoryID="acme.example"), "provider": "Office365"}
    assert target_of(document(**office)).redirect_uri(7) == "http://localhost:7"


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        (document(), "ConsentNotNeeded", "ClusterMailServerSettings default"),
        (
            document(systemSettingsRef={"name": "other"}),
            "ConsentNotNeeded",
            "ClusterMailServerSettings other, .* gives it:",
        ),
        (
            document(mailFrom="a@acme.example", connection={"host": "smtp.acme.example"}),
            "ConsentNotNeeded",
            "has no auth.oauth2",
        ),
        (
            document(**google(grant="RefreshToken", refreshTokenSecretRef={"name": "x", "key": "y"})),
            "ConsentNotNeeded",
            "has grant RefreshToken, .* without a person",
        ),
        (document(provider="Google"), "SpecInvalid", "needs a login"),
        (document(metadata={"deletionTimestamp": "2026-11-22T16:40:00Z"}, **google()), "NotFound", "being deleted"),
    ],
    ids=["inherits", "inherits by name", "no login", "other grant", "broken", "deleted"],
)
def test_where_nobodys_consent_would_help(content: dict[str, Any], reason: str, says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        target_of(content)
    assert caught.value.reason == reason
    inherited = re.search("uses the system's settings, ClusterMailServerSettings (\\w+)", caught.value.message)
    expected = (f"kubectl mailsettings authorize --cluster {inherited[1]}",) if inherited else ()
    assert caught.value.commands == expected
