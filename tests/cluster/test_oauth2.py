"""OAuth2 end to end: tokens are got, kept, renewed and delivered; an application keeps sending and never knows."""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from dev.cluster import ApiError, Cluster
from dev.operator_process import NAMESPACE, SERVICE_ACCOUNT, OperatorProcess
from mailsettings.api import names
from mailsettings.api.template import Preset
from tests.cluster.conftest import CLOUD_SCOPE, FEDERATION_AUDIENCE
from tests.support.client import Client
from tests.support.history import events_about
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    DIRECTORY,
    SCOPE,
    Behaviour,
    IdentityProvider,
    RegisteredClient,
    key_pair,
    saying,
    service_account_key,
)
from tests.support.kube import MERGE_PATCH, Json, Kube, condition, path, reason_of
from tests.support.policies import secrets_policy
from tests.support.smtp_server import MailServer

KIND: Final = "MailServerSettings"
SYSTEM_KIND: Final = "ClusterMailServerSettings"
SHORT: Final = timedelta(seconds=6)
"""Such tokens are renewed about every two seconds."""
CLAIM_S: Final = 18.0
"""How long a claim lasts for others in the tests: the deadline that they set, the margin, and the clocks' skew."""
STOPPED: Final = "stopping"
"""What the operator logs before it lets its parts come to their end."""


def oauth2_spec(provider: IdentityProvider, server: MailServer, grant: str, **oauth2: Any) -> Json:
    """The spec of settings whose secrets are in the Secret `oauth2`."""
    by_grant: dict[str, Json] = {
        "ClientCredentials": {"clientID": CLIENT_ID, "clientAuth": {"secretRef": _ref("secret")}},
        "RefreshToken": {
            "clientID": CLIENT_ID,
            "clientAuth": {"secretRef": _ref("secret")},
            "refreshTokenSecretRef": _ref("refresh-token"),
        },
        "ServiceAccount": {"serviceAccountKeyRef": _ref("key.json")},
    }
    return {
        "mailFrom": "Acme <no-reply@acme.example>",
        "provider": "Google" if grant == "ServiceAccount" else "Custom",
        "connection": {"host": "127.0.0.1", "port": server.port, "timeout": "3s", "tls": {"mode": "Disabled"}},
        "auth": {
            "oauth2": {
                "username": ACCOUNT,
                "grant": grant,
                "tokenURI": provider.token_uri,
                **by_grant[grant],
                **oauth2,
            }
        },
    }


def _ref(key: str) -> Json:
    return {"name": "oauth2", "key": key}


def give_secret(kube: Kube, namespace: str, provider: IdentityProvider, **changes: str) -> None:
    values = {"secret": CLIENT_SECRET, "refresh-token": provider.consent(), "key.json": service_account_key()}
    kube.secret("oauth2", namespace, **{**values, **changes})


def stored(kube: Kube, uid: str) -> Json | None:
    """The token of an object as the operator keeps it."""
    values = kube.secret_data(names.token_secret_name(uid), NAMESPACE)
    return json.loads(values["token.json"]) if values and "token.json" in values else None


def uid_of(kube: Kube, name: str, namespace: str | None = None) -> str:
    settings = kube.settings(name, namespace)
    assert settings is not None
    return str(settings["metadata"]["uid"])


def wait_requests(kube: Kube, provider: IdentityProvider, count: int, *, timeout: float = 30) -> None:
    kube.wait(lambda: len(provider.token_requests) >= count, f"{count} requests for tokens", timeout=timeout)


Create = Callable[..., Json]


@pytest.fixture
def create(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    mail_server_of: Callable[[IdentityProvider], MailServer],
) -> Create:
    """Creates the settings `mail`, whose tokens a provider gives."""

    def create_settings(provider: IdentityProvider, grant: str = "RefreshToken", **oauth2: Any) -> Json:
        if kube.get("Secret", "oauth2", namespace) is None:
            give_secret(kube, namespace, provider)
        spec = oauth2_spec(provider, mail_server_of(provider), grant, **oauth2)
        return kube.create(KIND, "mail", namespace, spec=spec)

    return create_settings


@pytest.fixture
def system(
    operator: OperatorProcess, kube: Kube, mail_server_of: Callable[[IdentityProvider], MailServer]
) -> Iterator[Callable[..., str]]:
    """Creates system settings whose secrets are in a Secret of their name; gives that name."""
    created: list[str] = []

    def create_system(provider: IdentityProvider, name: str | None = None, **tenants: Any) -> str:
        name = name or f"system-{secrets.token_hex(4)}"
        created.append(name)
        kube.secret(name, NAMESPACE, **{"secret": CLIENT_SECRET, "refresh-token": provider.consent()})
        spec = oauth2_spec(provider, mail_server_of(provider), "RefreshToken")
        spec["auth"]["oauth2"]["clientAuth"]["secretRef"]["name"] = name
        spec["auth"]["oauth2"]["refreshTokenSecretRef"]["name"] = name
        spec["tenants"] = {"delivery": "Credentials", **tenants}
        kube.create(SYSTEM_KIND, name, spec=spec)
        return name

    yield create_system
    for name in created:
        remove_system(kube, name)
        kube.delete("Secret", name, NAMESPACE)


def remove_system(kube: Kube, name: str) -> None:
    if kube.settings(name) is not None:
        kube.patch(SYSTEM_KIND, name, metadata={"annotations": {names.ANNOTATION_ALLOW_DELETION: "true"}})
        kube.delete(SYSTEM_KIND, name)


# --- grants ---


@pytest.mark.parametrize("grant", ["ClientCredentials", "RefreshToken", "ServiceAccount"])
def test_grant_leads_to_ready_and_a_token_that_works(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider, grant: str
) -> None:
    create(provider, grant)

    settings = kube.wait_ready("mail", namespace)

    assert [each["type"] for each in settings["status"]["conditions"]] == [
        "Accepted",
        "CredentialsResolved",
        "Authorized",
        "ProbeSucceeded",
        "Delivered",
        "Ready",
    ]
    assert reason_of(settings, "Authorized") == ("True", "Authorized")
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert provider.is_live(values["access-token"])
    assert (values["username"], values["uri"].split("@")[0]) == (ACCOUNT, "smtp://no-reply%40acme.example")
    assert "password" not in values
    left = datetime.fromisoformat(values["expires-at"]) - datetime.now(UTC)
    assert timedelta(minutes=10) < left <= timedelta(hours=1)
    status = settings["status"]["oauth2"]
    assert status["tokenState"] == "Generated"
    assert status["accessTokenExpiresAt"] == values["expires-at"]
    assert status["lastRefreshTime"] < status["nextRefreshTime"] < status["accessTokenExpiresAt"]
    assert len(provider.token_requests) == 1


def test_token_is_kept_where_the_tenant_cannot_read_it(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    settings = kube.wait_ready("mail", namespace)
    uid = settings["metadata"]["uid"]
    secret = kube.get("Secret", names.token_secret_name(uid), NAMESPACE)
    assert secret is not None
    assert secret["type"] == names.TOKEN_TYPE
    assert [owner["name"] for owner in secret["metadata"]["ownerReferences"]] == [namespace]
    assert names.ANNOTATION_CLAIM not in secret["metadata"]["annotations"]
    token = stored(kube, uid)
    assert token is not None
    held = kube.api.request("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
    texts = [base64.b64decode(value).decode() for each in held for value in (each.get("data") or {}).values()]
    assert token["access_token"] in texts
    assert not any(token["refresh_token"] in text for text in texts)

    kube.delete(KIND, "mail", namespace)
    kube.wait_gone("Secret", names.token_secret_name(uid), NAMESPACE)


def test_certificate_is_the_client_s_proof(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    pair = key_pair()
    provider.register(RegisteredClient(assertion_key=pair.public_key))
    other = key_pair("P-256")
    kube.secret("client", namespace, **{"tls.crt": other.certificate, "tls.key": other.private_key})
    create(provider, "ClientCredentials", clientAuth={"certificateRef": {"name": "client"}})
    kube.wait_condition("mail", namespace, "Authorized", "False", "ClientAuthInvalid")
    values = {"tls.crt": pair.certificate, "tls.key": pair.private_key}
    kube.patch("Secret", "client", namespace, stringData=values)
    kube.wait_ready("mail", namespace)
    form = provider.token_requests[-1].form
    assert "client_secret" not in form
    claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
    assert (claims["iss"], claims["sub"], claims["aud"]) == (CLIENT_ID, CLIENT_ID, provider.token_uri)


def cluster_key(cluster: Cluster) -> str:
    """What the cluster's service-account tokens are signed with, as it publishes that to providers."""
    published = Client(cluster.kubeconfig).call("GET", "/openid/v1/jwks", accept="application/jwk-set+json")
    (key,) = jwt.PyJWKSet.from_dict(published.body).keys
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.key.public_bytes(*pem).decode())


def test_operator_s_own_token_is_the_client_s_proof(
    installed: Cluster, kube: Kube, provider: IdentityProvider, system: Callable[..., str]
) -> None:
    provider.register(RegisteredClient(assertion_key=cluster_key(installed)))
    name = system(provider)
    federation = {"clientAuth": {"secretRef": None, "federation": {"audience": "api://other"}}}
    grant = {"grant": "ClientCredentials", "refreshTokenSecretRef": None}
    kube.patch(SYSTEM_KIND, name, spec={"auth": {"oauth2": {**grant, **federation}}})
    settings = kube.wait_condition(name, None, "Authorized", "False", "FederationUnavailable")
    assert "another audience than api://other" in (condition(settings, "Authorized") or {})["message"]

    federation = {"clientAuth": {"federation": {"audience": FEDERATION_AUDIENCE}}}
    kube.patch(SYSTEM_KIND, name, spec={"auth": {"oauth2": federation}})
    kube.wait_ready(name)
    claims = jwt.decode(provider.token_requests[-1].form["client_assertion"], options={"verify_signature": False})
    assert claims["sub"] == f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"


@pytest.mark.parametrize(
    ("grant", "scope"), [("ClientCredentials", CLOUD_SCOPE), ("RefreshToken", f"{SCOPE} offline_access openid profile")]
)
def test_office365_in_the_administrator_s_own_cloud(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    cloud: IdentityProvider,
    mail_server_of: Callable[[IdentityProvider], MailServer],
    grant: str,
    scope: str,
) -> None:
    """Through Microsoft's own library, from the discovery document to the mail server."""
    cloud.asked.clear()
    spec = oauth2_spec(cloud, mail_server_of(cloud), grant)
    office = {"tokenURI": None, "directoryID": DIRECTORY, "cloud": "Custom"}
    give_secret(kube, namespace, cloud)
    spec["auth"]["oauth2"] |= office
    kube.create(KIND, "mail", namespace, spec={**spec, "provider": "Office365"})
    settings = kube.wait_ready("mail", namespace)
    assert [each.path for each in cloud.asked] == [
        f"/{DIRECTORY}/v2.0/.well-known/openid-configuration",
        f"/{DIRECTORY}/oauth2/v2.0/token",
    ]
    assert sorted(cloud.token_requests[0].form["scope"].split()) == sorted(scope.split())
    ends_at = settings["status"]["oauth2"].get("refreshTokenExpiresAt")
    assert (ends_at is not None) == (grant == "RefreshToken")
    values = kube.secret_data("mail-smtp", namespace) or {}
    assert cloud.is_live(values["access-token"])


# --- renewal ---


class Application:
    """Reads the mounted token at each connection and sends, again and again."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._send_on, daemon=True)
        self.sent = 0
        self.tokens: set[str] = set()
        self.refused: list[str] = []

    def __enter__(self) -> "Application":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _send_on(self) -> None:
        while not self._end.wait(0.2):
            values = self._kube.secret_data("mail-smtp", self._namespace)
            assert values is not None
            self.tokens.add(values["access-token"])
            try:
                _send(values)
            except smtplib.SMTPException as error:
                self.refused.append(repr(error))
            else:
                self.sent += 1


def _send(values: dict[str, str]) -> None:
    response = f"user={values['username']}\x01auth=Bearer {values['access-token']}\x01\x01"
    with smtplib.SMTP(values["host"], int(values["port"]), timeout=5) as client:
        client.ehlo()
        client.docmd("AUTH", "XOAUTH2")
        code, text = client.docmd(base64.b64encode(response.encode()).decode())
        if code != 235:
            raise smtplib.SMTPAuthenticationError(code, text)
        client.sendmail(ACCOUNT, ["you@acme.example"], "Subject: hello\r\n\r\nhello")


def test_token_rotates_while_mails_are_sent_without_one_refusal(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=SHORT, detects_reuse=True)
    create(provider)
    kube.wait_ready("mail", namespace)
    before = condition(kube.settings("mail", namespace) or {}, "ProbeSucceeded")

    with Application(kube, namespace) as application:
        wait_requests(kube, provider, 6)
        kube.wait(lambda: len(application.tokens) >= 4, "the application to see four tokens")

    assert application.refused == []
    assert application.sent >= 10
    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "ProbeSucceeded") == before, "a renewed token is nothing to test anew"
    sent = [asked.form["refresh_token"] for asked in provider.token_requests]
    assert len(sent) == len(set(sent)), "no refresh token is sent twice"
    dropped = [e for e in events_about(kube, namespace, "mail") if e["reason"] == "TokenDropped"]
    assert dropped == []


def test_delivery_follows_at_once_where_a_renewal_ends_the_old_token(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    """Only the newest access token is live, so one that were delivered with the next renewal would never be."""
    provider = provide(access_life=timedelta(seconds=12), detects_reuse=True, kills_old_access=True)
    create(provider)
    kube.wait_ready("mail", namespace)
    before = condition(kube.settings("mail", namespace) or {}, "ProbeSucceeded")
    for _ in range(3):
        count = len(provider.token_requests) + 1
        wait_requests(kube, provider, count)

        def delivered() -> dict[str, str] | None:
            values = kube.secret_data("mail-smtp", namespace) or {}
            return values if provider.is_live(values["access-token"]) else None

        values = kube.wait(delivered, "the live token to be delivered")
        assert len(provider.token_requests) == count, "before the next renewal"
        _send(values)
    assert condition(kube.wait_ready("mail", namespace), "ProbeSucceeded") == before, "nothing was refused"


def test_new_token_is_stored_before_it_is_delivered(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    """Whatever is delivered, what is stored by then, the refresh token with it, is no older."""
    provider = provide(access_life=SHORT, detects_reuse=True)
    create(provider)
    kube.wait_ready("mail", namespace)
    uid = uid_of(kube, "mail", namespace)
    seen = set()
    for _ in range(200):
        delivered = (kube.secret_data("mail-smtp", namespace) or {})["access-token"]
        kept = (stored(kube, uid) or {})["access_token"]
        issued = [*provider._access_tokens]
        assert issued.index(delivered) <= issued.index(kept)
        seen.add(delivered)
        time.sleep(0.03)
    assert len(seen) >= 3


def test_answer_without_a_refresh_token_keeps_the_old_one(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=SHORT, rotates=False)
    create(provider)
    wait_requests(kube, provider, 3)
    assert len({asked.form["refresh_token"] for asked in provider.token_requests}) == 1
    kube.wait_ready("mail", namespace)


def unavailable(times: int = 1) -> list[Behaviour]:
    return [saying({"error": "temporarily_unavailable"}, 503)] * times


def test_outage_of_the_provider_leaves_a_live_token_authorized(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=timedelta(seconds=20))
    create(provider)
    kube.wait_ready("mail", namespace)
    provider.answers.extend(unavailable())

    def look() -> Json | None:
        settings = kube.settings("mail", namespace) or {}
        assert reason_of(settings, "Authorized") == ("True", "Authorized")
        return settings if settings["status"]["oauth2"].get("failure") else None

    settings = kube.wait(look, "a failed renewal")
    status = settings["status"]["oauth2"]
    assert (status["tokenState"], status["failure"]["cause"]) == ("Expiring", "ProviderUnavailable")
    assert reason_of(settings, "Ready") == ("True", "Ready")
    wait_requests(kube, provider, 3)
    kube.wait(lambda: "failure" not in (kube.settings("mail", namespace) or {})["status"]["oauth2"], "it to be mended")


def test_revoked_consent_is_told_and_a_new_seed_mends_it(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=SHORT)
    create(provider)
    kube.wait_ready("mail", namespace)
    token = stored(kube, uid_of(kube, "mail", namespace))
    assert token is not None
    provider.revoke(token["refresh_token"])

    settings = kube.wait_condition("mail", namespace, "Authorized", "False", "TokenRevoked")
    assert settings["status"]["oauth2"]["tokenState"] == "Revoked"
    assert condition(settings, "Stalled") is not None
    count = len(provider.token_requests)
    time.sleep(3)
    assert len(provider.token_requests) == count, "what was refused is not asked again and again"

    kube.patch("Secret", "oauth2", namespace, stringData={"refresh-token": provider.consent()})
    kube.wait_ready("mail", namespace)


def test_wrong_client_secret_is_told_and_heals_when_the_secret_does(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    give_secret(kube, namespace, provider, secret="wrong")
    create(provider, "ClientCredentials")
    settings = kube.wait_condition("mail", namespace, "Authorized", "False", "ClientAuthInvalid")
    assert "clientAuth.secretRef" in (condition(settings, "Authorized") or {})["message"]
    assert settings["status"]["oauth2"]["tokenState"] == "NotGenerated"
    assert reason_of(settings, "Delivered") == ("False", "NotDelivered")
    kube.patch("Secret", "oauth2", namespace, stringData={"secret": CLIENT_SECRET})
    kube.wait_ready("mail", namespace)


def test_provider_that_takes_no_basic_is_told_of_and_gets_the_secret_otherwise(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(takes_basic=False)
    create(provider)
    settings = kube.wait_condition("mail", namespace, "Authorized", "False", "ClientAuthInvalid")
    assert "auth.oauth2.clientAuth.secretMethod" in (condition(settings, "Authorized") or {})["message"]
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"clientAuth": {"secretMethod": "Post"}}}})
    kube.wait_ready("mail", namespace)
    assert "Authorization" not in provider.token_requests[-1].headers
    assert [e for e in events_about(kube, namespace, "mail") if e["reason"] == "TokenDropped"] == []


@pytest.mark.parametrize("missing", ["secret", "refresh-token"])
def test_missing_value_is_named(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider, missing: str
) -> None:
    give_secret(kube, namespace, provider, **{missing: ""})
    create(provider)
    settings = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SecretValueInvalid")
    field = {"secret": "auth.oauth2.clientAuth.secretRef", "refresh-token": "auth.oauth2.refreshTokenSecretRef"}
    assert field[missing] in (condition(settings, "CredentialsResolved") or {})["message"]
    assert provider.token_requests == []


# --- an API server that refuses ---


@contextlib.contextmanager
def refusing_token(kube: Kube, uid: str, allowed: str) -> Iterator[None]:
    """Has the API server refuse, as a cluster's own policy may, what of an object's token is not allowed."""
    name = names.token_secret_name(uid)

    def in_force() -> bool:
        try:
            change = {"stringData": {"token.json": "{}"}}
            place = path("Secret", name, NAMESPACE)
            kube.api.request("PATCH", place, change, content_type=MERGE_PATCH, query={"dryRun": "All"})
        except ApiError:
            return True
        return False

    expression = f"object.metadata.name != '{name}' || ({allowed})"
    with secrets_policy(kube, NAMESPACE, expression, in_force=in_force):
        yield


CLAIMS_ONLY: Final = "object.data == oldObject.data"
NOTHING: Final = "false"


def test_token_that_cannot_be_stored_is_told_and_not_lost(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=timedelta(seconds=9), detects_reuse=True)
    create(provider)
    kube.wait_ready("mail", namespace)
    uid = uid_of(kube, "mail", namespace)
    with refusing_token(kube, uid, CLAIMS_ONLY):

        def told() -> bool:
            settings = kube.settings("mail", namespace) or {}
            is_live = reason_of(settings, "Authorized") == ("True", "Authorized")
            message = (condition(settings, "Authorized") or {})["message"]
            return is_live and "refuses to store it: 422 Invalid" in message

        kube.wait(told, "the condition to say so while the token lives")
        assert (kube.settings("mail", namespace) or {})["status"]["oauth2"]["tokenState"] == "Expiring"
        count = len(provider.token_requests)
        settings = kube.wait_condition("mail", namespace, "Authorized", "False", "TokenNotStored")
        assert reason_of(settings, "Stalled") == ("True", "TokenNotStored")
        assert len(provider.token_requests) == count, "the provider is not asked again for what it has given"
    wait_requests(kube, provider, count + 1)
    kube.wait_ready("mail", namespace)


def test_claim_that_is_refused_is_told_before_anything_is_asked(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    with refusing_token(kube, uid_of(kube, "mail", namespace), NOTHING):
        rotate_client_secret(kube, namespace, provider)

        def failure() -> str:
            status = (kube.settings("mail", namespace) or {})["status"]["oauth2"]
            return str((status.get("failure") or {}).get("cause", ""))

        assert kube.wait(failure, "the failure") == "TokenNotStored"
        settings = kube.settings("mail", namespace) or {}
        assert reason_of(settings, "Authorized") == ("True", "Authorized"), "the token lives"
        assert "not here" in (condition(settings, "Authorized") or {})["message"]
        assert len(provider.token_requests) == 1
    wait_requests(kube, provider, 2)
    kube.wait(lambda: "failure" not in (kube.settings("mail", namespace) or {})["status"]["oauth2"], "it to be mended")


def test_token_of_other_settings_that_cannot_be_dropped_is_told(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    with refusing_token(kube, uid_of(kube, "mail", namespace), NOTHING):
        kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"scopes": ["mail.send"]}}})
        settings = kube.wait_condition("mail", namespace, "Authorized", "False", "TokenNotStored")
        assert "not here" in (condition(settings, "Authorized") or {})["message"]
        assert reason_of(settings, "Delivered") == ("False", "LastGoodKept")
        assert len(provider.token_requests) == 1
    kube.wait_condition("mail", namespace, "Ready", "True", timeout=45)


def test_token_that_cannot_be_removed_holds_nothing_else_up(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    token = names.token_secret_name(uid_of(kube, "mail", namespace))
    kube.secret("smtp", namespace, password="x")
    basic = {"username": "u", "passwordSecretRef": {"name": "smtp", "key": "password"}}

    def in_force() -> bool:
        try:
            kube.api.request("DELETE", path("Secret", token, NAMESPACE), query={"dryRun": "All"})
        except ApiError:
            return True
        return False

    expression = f"oldObject.metadata.name != '{token}'"
    with secrets_policy(kube, NAMESPACE, expression, in_force=in_force, operations=("DELETE",)):
        change = {"auth": {"oauth2": None, "basic": basic}, "probe": {"mode": "Disabled"}}
        kube.patch(KIND, "mail", namespace, spec=change)
        kube.wait_values("mail-smtp", namespace, password="x")
        settings = kube.wait_ready("mail", namespace)
        assert "oauth2" in settings["status"], "so that it is not forgotten"
        assert kube.get("Secret", token, NAMESPACE) is not None
    kube.wait_gone("Secret", token, NAMESPACE, timeout=45)
    kube.wait(lambda: "oauth2" not in (kube.settings("mail", namespace) or {})["status"], "the status to follow")


# --- warnings ahead ---


def wait_warning(kube: Kube, namespace: str, cause: str) -> Json:
    """The settings once they warn of something, though they are authorized."""

    def look() -> Json | None:
        settings = kube.settings("mail", namespace) or {}
        status = settings.get("status") or {}
        told = (status.get("oauth2") or {}).get("warnings") or []
        is_ready = reason_of(settings, "Ready") == ("True", "Ready")
        return settings if is_ready and [each["cause"] for each in told] == [cause] else None

    settings: Json = kube.wait(look, f"a warning {cause}")
    (warning,) = settings["status"]["oauth2"]["warnings"]
    assert reason_of(settings, "Authorized") == ("True", "Authorized")
    assert warning["message"] in (condition(settings, "Authorized") or {})["message"]
    assert condition(settings, "Stalled") is None

    def announced() -> list[Json]:
        return [e for e in events_about(kube, namespace, "mail") if e["reason"] == "RenewalAtRisk"]

    (event,) = kube.wait(announced, "the event")
    assert (event["type"], event["note"]) == ("Warning", warning["message"])
    return settings


def test_client_secret_that_runs_out_is_warned_of_as_soon_as_that_is_due(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    """Nothing else happens by then: the token lives for an hour."""
    give_secret(kube, namespace, provider)
    ends_at = datetime.now(UTC) + timedelta(days=30, seconds=6)
    annotations = {names.ANNOTATION_EXPIRES_AT: ends_at.isoformat(timespec="seconds")}
    kube.patch("Secret", "oauth2", namespace, metadata={"annotations": annotations})
    create(provider)
    settings = kube.wait_ready("mail", namespace)
    assert "warnings" not in settings["status"]["oauth2"]

    settings = wait_warning(kube, namespace, "ClientSecret")
    assert datetime.now(UTC) >= ends_at - timedelta(days=30, seconds=1)
    assert settings["status"]["oauth2"]["warnings"][0]["expiresAt"] == ends_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert len(provider.token_requests) == 1, "a date is nothing to renew a token for"

    kube.patch("Secret", "oauth2", namespace, metadata={"annotations": {names.ANNOTATION_EXPIRES_AT: "2999-01-01"}})
    kube.wait(lambda: "warnings" not in (kube.settings("mail", namespace) or {})["status"]["oauth2"], "it to go")


def test_client_certificate_that_runs_out_is_warned_of(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    pair = key_pair(age_days=335)
    provider.register(RegisteredClient(assertion_key=pair.public_key))
    give_secret(kube, namespace, provider)
    kube.secret("client", namespace, **{"tls.crt": pair.certificate, "tls.key": pair.private_key})
    create(provider, clientAuth={"certificateRef": {"name": "client"}})
    wait_warning(kube, namespace, "ClientCertificate")


def test_refresh_token_that_runs_out_is_warned_of(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.patch(KIND, "mail", namespace, spec={"provider": "Google"})
    kube.wait_ready("mail", namespace)
    uid = uid_of(kube, "mail", namespace)
    now = datetime.now(UTC)
    times = {
        "refresh_token_since": (now - timedelta(days=5)).isoformat(),
        "refresh_token_expires_at": (now + timedelta(days=2)).isoformat(),
    }
    kept = json.dumps({**(stored(kube, uid) or {}), **times})
    kube.patch("Secret", names.token_secret_name(uid), NAMESPACE, stringData={"token.json": kept})
    settings = wait_warning(kube, namespace, "RefreshToken")
    assert "Testing" in settings["status"]["oauth2"]["warnings"][0]["message"]


# --- what drops a token ---


def test_changed_scopes_drop_the_token_and_say_so(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    seed = provider.token_requests[0].form["refresh_token"]
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"scopes": ["mail.send"]}}})
    wait_requests(kube, provider, 2)
    kube.wait_ready("mail", namespace)
    assert provider.token_requests[1].form["refresh_token"] == seed, "the stored one belonged to the old settings"
    kube.wait(lambda: [e for e in events_about(kube, namespace, "mail") if e["reason"] == "TokenDropped"], "the event")


def test_rotated_client_secret_drops_nothing_and_is_verified_at_once(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    first = stored(kube, uid_of(kube, "mail", namespace))
    assert first is not None
    provider.register(RegisteredClient(secret="another"))
    kube.patch("Secret", "oauth2", namespace, stringData={"secret": "another"})
    wait_requests(kube, provider, 2)
    assert provider.token_requests[1].form["refresh_token"] == first["refresh_token"]
    kube.wait_ready("mail", namespace)
    assert [e for e in events_about(kube, namespace, "mail") if e["reason"] == "TokenDropped"] == []


def test_basic_instead_of_oauth2_removes_the_token(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    uid = uid_of(kube, "mail", namespace)
    kube.secret("smtp", namespace, password="x")
    basic = {"username": "u", "passwordSecretRef": {"name": "smtp", "key": "password"}}
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": None, "basic": basic}, "probe": {"mode": "Disabled"}})
    kube.wait_values("mail-smtp", namespace, password="x")
    kube.wait_gone("Secret", names.token_secret_name(uid), NAMESPACE)
    settings = kube.wait_ready("mail", namespace)
    assert "oauth2" not in settings["status"]
    assert condition(settings, "Authorized") is None


# --- delivery ---


@pytest.mark.parametrize(
    "template",
    [*({"presets": [str(preset)]} for preset in Preset), {"data": {"x": "${password}"}}],
    ids=[*Preset, "data"],
)
def test_password_for_an_application_needs_a_relay(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider, template: Json
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    kube.patch(KIND, "mail", namespace, spec={"output": {"template": template}})
    kube.wait_condition("mail", namespace, "Delivered", "False", "RelayNeeded")


def test_refused_token_is_renewed_once_and_tried_again(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    """The provider has killed the access token; the mail server knows that before the operator."""
    provider = provide()
    create(provider)
    kube.wait_ready("mail", namespace)
    for held in provider._access_tokens.values():
        held.access_tokens.clear()
    kube.patch(KIND, "mail", namespace, metadata={"annotations": {names.ANNOTATION_PROBE_REQUESTED_AT: "1"}})
    wait_requests(kube, provider, 2)

    def look() -> bool:
        status = (kube.settings("mail", namespace) or {})["status"]
        return (status["probe"].get("lastHandledRequest"), status["probe"]["consecutiveFailures"]) == ("1", 0)

    kube.wait(look, "the probe to pass with the new token")
    assert len(provider.token_requests) == 2
    kube.wait_ready("mail", namespace)


def test_token_that_is_refused_again_is_not_renewed_for_ever(
    operator: OperatorProcess, kube: Kube, namespace: str, provider: IdentityProvider, serve: Callable[..., MailServer]
) -> None:
    server = serve(auth_required=True, auth_without_tls=True, mechanisms=("XOAUTH2",), takes=lambda _: False)
    give_secret(kube, namespace, provider)
    kube.create(KIND, "mail", namespace, spec=oauth2_spec(provider, server, "RefreshToken"))
    wait_requests(kube, provider, 2)
    kube.wait(
        lambda: (kube.settings("mail", namespace) or {})["status"].get("probe", {}).get("consecutiveFailures") == 2,
        "the second refusal",
    )
    time.sleep(2)
    assert len(provider.token_requests) == 2
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "TokenExpired")


# --- levels ---


def test_inheriting_tenants_get_the_access_token_only_and_one_rotation_for_all(
    kube: Kube,
    new_namespace: Callable[..., str],
    provide: Callable[..., IdentityProvider],
    system: Callable[..., str],
) -> None:
    provider = provide(access_life=timedelta(seconds=12), detects_reuse=True)
    tenants = [new_namespace(), new_namespace()]
    name = system(provider, namespaces=tenants)
    for tenant in tenants:
        kube.create(KIND, "mail", tenant, spec={"systemSettingsRef": {"name": name}})
        settings = kube.wait_ready("mail", tenant)
        assert reason_of(settings, "Authorized") == ("True", "Authorized")
        message = (condition(settings, "Authorized") or {})["message"]
        assert message.startswith(f"Authorized for all tenants of the system's settings {name!r}. ")
        assert "oauth2" not in settings["status"]
    uid = uid_of(kube, name)

    def has_newest(tenant: str) -> bool:
        delivered = (kube.secret_data("mail-smtp", tenant) or {})["access-token"]
        return bool(delivered == (stored(kube, uid) or {})["access_token"])

    count = len(provider.token_requests)
    wait_requests(kube, provider, count + 2)
    token = stored(kube, uid)
    assert token is not None
    for tenant in tenants:
        kube.wait(partial(has_newest, tenant), "the newest token")
        text = json.dumps(kube.secret_data("mail-smtp", tenant))
        assert token["refresh_token"] not in text
        assert CLIENT_SECRET not in text
    remove_system(kube, name)
    kube.wait_gone("Secret", names.token_secret_name(uid), NAMESPACE)


# --- what tokens need, and what they do not ---


def test_token_is_renewed_and_delivered_although_the_mail_servers_authority_is_missing(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=SHORT, detects_reuse=True)
    create(provider)
    kube.wait_ready("mail", namespace)
    bundle = {"mode": "StartTLS", "caBundle": {"configMapKeyRef": {"name": "gone", "key": "ca.crt"}}}
    kube.patch(KIND, "mail", namespace, spec={"connection": {"tls": bundle}})
    missing = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "ConfigMapNotFound")
    assert reason_of(missing, "Authorized") == ("True", "Authorized")
    before = len(provider.token_requests)
    wait_requests(kube, provider, before + 3)
    kube.wait(lambda: provider.is_live(delivered_token(kube, namespace)), "a live token in the Secret")
    kept = kube.wait_condition("mail", namespace, "Delivered", "False", "LastGoodKept")
    assert "renewed no more" not in (condition(kept, "Delivered") or {})["message"]
    assert (kube.secret_data("mail-smtp", namespace) or {})["tls"] == "Disabled", "the rest stays as it was"


def delivered_token(kube: Kube, namespace: str) -> str:
    return (kube.secret_data("mail-smtp", namespace) or {})["access-token"]


def test_what_is_said_of_a_token_stays_true_while_its_secret_is_missing(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=timedelta(seconds=15))
    create(provider)
    kube.wait_ready("mail", namespace)
    kube.delete("Secret", "oauth2", namespace)
    missing = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SecretNotFound")
    assert "cannot be renewed" in (condition(missing, "Authorized") or {})["message"]
    assert "nextRefreshTime" not in missing["status"]["oauth2"]
    assert "renewed no more" in (condition(missing, "Delivered") or {})["message"]
    expired = kube.wait_condition("mail", namespace, "Authorized", "Unknown", "TokenPending")
    assert expired["status"]["oauth2"]["tokenState"] == "Expired"
    give_secret(kube, namespace, provider)
    kube.wait_ready("mail", namespace)


def test_token_of_settings_that_come_to_inherit_by_a_detour_is_removed(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    created = create(provider)
    kube.wait_ready("mail", namespace)
    own = created["spec"]
    absent = dict.fromkeys(("provider", "connection", "auth", "mailFrom"))
    inherits = {"useSystemSettings": True, "systemSettingsRef": {"name": "none"}}
    kube.patch(KIND, "mail", namespace, spec={**absent, **inherits})
    kube.wait_condition("mail", namespace, "Accepted", "False", "SystemSettingsNotFound")
    basic = {
        "auth": {"oauth2": None, "basic": {"username": "u", "passwordSecretRef": {"name": "oauth2", "key": "secret"}}}
    }
    back = {"useSystemSettings": None, "systemSettingsRef": None}
    kube.patch(KIND, "mail", namespace, spec={**own, **basic, **back})
    kube.wait_gone("Secret", names.token_secret_name(created["metadata"]["uid"]), NAMESPACE)


# --- suspended ---


def renewed(kube: Kube, namespace: str, secret: str, before: dict[str, str]) -> dict[str, str]:
    """The Secret's values once it has another token than before."""

    def look() -> dict[str, str] | None:
        values = kube.secret_data(secret, namespace)
        return values if values is not None and values["access-token"] != before["access-token"] else None

    values: dict[str, str] = kube.wait(look, "another access token")
    return values


def lasting(values: dict[str, str]) -> dict[str, str]:
    """What does not change with the token."""
    return {key: value for key, value in values.items() if key not in ("access-token", "expires-at")}


def rotate_client_secret(kube: Kube, namespace: str, provider: IdentityProvider, name: str = "oauth2") -> None:
    """Which has the token renewed at once."""
    provider.register(RegisteredClient(secret="another"))
    kube.patch("Secret", name, namespace, stringData={"secret": "another"})


def test_suspended_settings_get_their_tokens_and_nothing_else(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider]
) -> None:
    provider = provide(access_life=SHORT)
    create(provider)
    kube.wait_ready("mail", namespace)
    before = kube.secret_data("mail-smtp", namespace) or {}
    changes = {
        "mailFrom": "new@acme.example",
        "connection": {"host": "other.example"},
        "output": {"secretName": "other", "template": {"data": {"new": "${host}"}}, "metadata": {"labels": {"a": "b"}}},
    }
    kube.patch(KIND, "mail", namespace, spec={"suspend": True, **changes})
    settings = kube.wait_condition("mail", namespace, "Delivered", "True", "Suspended")
    assert "but not renewed access tokens" in (condition(settings, "Delivered") or {})["message"]

    for _ in range(2):
        values = renewed(kube, namespace, "mail-smtp", before)
        assert lasting(values) == lasting(before)
        assert values["expires-at"] > before["expires-at"]
        assert provider.is_live(values["access-token"])
        before = values
    secret = kube.get("Secret", "mail-smtp", namespace) or {}
    assert "a" not in secret["metadata"]["labels"]
    assert kube.get("Secret", "other", namespace) is None

    kube.patch(KIND, "mail", namespace, spec={"suspend": False})
    kube.wait_values("other", namespace, new="other.example")
    kube.wait_gone("Secret", "mail-smtp", namespace)


def test_exchanged_token_leaves_the_operator_the_owner_of_what_it_delivered(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    before = kube.secret_data("mail-smtp", namespace) or {}
    kube.patch("Secret", "mail-smtp", namespace, stringData={"mine": "x"}, metadata={"labels": {"mine": "x"}})
    kube.patch(KIND, "mail", namespace, spec={"suspend": True})
    rotate_client_secret(kube, namespace, provider)
    values = renewed(kube, namespace, "mail-smtp", before)
    assert lasting(values) == {**lasting(before), "mine": "x"}
    kube.patch(KIND, "mail", namespace, spec={"suspend": False})
    kube.wait_condition("mail", namespace, "Delivered", "True", "Delivered")
    assert kube.secret_data("mail-smtp", namespace) == values
    basic = {"username": "u", "passwordSecretRef": {"name": "oauth2", "key": "secret"}}
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": None, "basic": basic}})
    kube.wait_values("mail-smtp", namespace, password="another", mine="x")
    assert "access-token" not in (kube.secret_data("mail-smtp", namespace) or {}), "the operator still owned it"


def test_token_of_another_account_does_not_come_into_a_suspended_secret(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)
    kube.patch(KIND, "mail", namespace, spec={"suspend": True, "auth": {"oauth2": {"username": "other@acme.example"}}})
    wait_requests(kube, provider, 2)

    def told() -> bool:
        settings = kube.settings("mail", namespace) or {}
        message = (condition(settings, "Delivered") or {})["message"]
        return reason_of(settings, "Authorized") == ("True", "Authorized") and "is renewed no more" in message

    kube.wait(told, "the condition to say so")
    assert kube.get("Secret", "mail-smtp", namespace) == secret


@pytest.mark.parametrize("suspended", ["the system", "the tenant"])
def test_tenants_of_a_suspended_system_get_its_tokens(
    kube: Kube, namespace: str, provider: IdentityProvider, system: Callable[..., str], suspended: str
) -> None:
    name = system(provider, namespaces=[namespace])
    kube.create(KIND, "mail", namespace, spec={"systemSettingsRef": {"name": name}})
    kube.wait_ready("mail", namespace)
    before = kube.secret_data("mail-smtp", namespace) or {}
    if suspended == "the system":
        kube.patch(SYSTEM_KIND, name, spec={"suspend": True, "mailFrom": "new@acme.example"})
    else:
        kube.patch(KIND, "mail", namespace, spec={"suspend": True})
        kube.patch(SYSTEM_KIND, name, spec={"mailFrom": "new@acme.example"})
    kube.wait_condition("mail", namespace, "Delivered", "True", "Suspended")
    rotate_client_secret(kube, NAMESPACE, provider, name)
    values = renewed(kube, namespace, "mail-smtp", before)
    assert lasting(values) == lasting(before)


def test_system_s_token_does_not_come_into_a_secret_with_the_tenant_s_server(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider, system: Callable[..., str]
) -> None:
    """Though all that the tenant says of the account is what the system says."""
    create(provider)
    kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)
    name = system(provider, namespaces=[namespace])
    kube.wait_ready(name)
    inherits = {"mailFrom": None, "connection": None, "provider": None, "auth": None}
    kube.patch(KIND, "mail", namespace, spec={"suspend": True, "systemSettingsRef": {"name": name}, **inherits})

    def told() -> bool:
        settings = kube.settings("mail", namespace) or {}
        return "is renewed no more" in (condition(settings, "Delivered") or {})["message"]

    kube.wait(told, "the condition to say so")
    assert kube.get("Secret", "mail-smtp", namespace) == secret


def test_namespaces_served_by_a_suspended_system_get_its_tokens(
    kube: Kube, namespace: str, provider: IdentityProvider, system: Callable[..., str]
) -> None:
    system(provider, "default", provision="Always", namespaces=[namespace])
    kube.wait(lambda: kube.get("Secret", "default-smtp", namespace), "the Secret")
    before = kube.secret_data("default-smtp", namespace) or {}
    kube.patch(SYSTEM_KIND, "default", spec={"suspend": True, "mailFrom": "new@acme.example"})
    rotate_client_secret(kube, NAMESPACE, provider, "default")
    values = renewed(kube, namespace, "default-smtp", before)
    assert lasting(values) == lasting(before)


def test_settings_that_cannot_be_delivered_leave_a_secret_whose_token_lives(
    create: Create, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.wait_ready("mail", namespace)
    before = kube.secret_data("mail-smtp", namespace) or {}
    kube.patch(KIND, "mail", namespace, spec={"output": {"template": {"presets": ["Django"]}}})
    kube.wait_condition("mail", namespace, "Delivered", "False", "RelayNeeded")
    rotate_client_secret(kube, namespace, provider)
    assert lasting(renewed(kube, namespace, "mail-smtp", before)) == lasting(before)


# --- crashes ---


def slow(provider: IdentityProvider, *, before: float = 0, after: float = 0) -> Behaviour:
    """The usual answer, late: before the provider has acted, or after it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(before)
        form = {key: str(value) for key, value in (await request.post()).items()}
        content = provider._grant(request, form)
        await asyncio.sleep(after)
        return web.json_response(content)

    return answer


def test_end_of_the_operator_waits_for_a_renewal_under_way(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider], operator: OperatorProcess
) -> None:
    """Else the refresh token that the provider has given is lost, and with it the consent."""
    provider = provide(access_life=SHORT, detects_reuse=True)
    create(provider)
    kube.wait_ready("mail", namespace)
    acted, answering = threading.Event(), threading.Event()
    given: Json = {}

    async def held_back(request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        given.update(provider._grant(request, form))
        acted.set()
        await asyncio.to_thread(answering.wait, 20)
        return web.json_response(given)

    provider.answers.append(held_back)
    assert acted.wait(20)
    assert operator.pid is not None
    said = operator.log_text().count(STOPPED)
    os.kill(operator.pid, signal.SIGTERM)
    kube.wait(lambda: operator.log_text().count(STOPPED) > said, "the operator to stop")
    answering.set()
    operator.stop()
    kept = stored(kube, uid_of(kube, "mail", namespace)) or {}
    assert (kept["refresh_token"], kept["access_token"]) == (given["refresh_token"], given["access_token"])
    operator.start()
    kube.wait_ready("mail", namespace)


def test_crash_before_the_provider_acts_is_recovered_from(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider], operator: OperatorProcess
) -> None:
    provider = provide(access_life=SHORT, detects_reuse=True)
    create(provider)
    kube.wait_ready("mail", namespace)
    hold = threading.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        hold.set()
        await asyncio.sleep(60)
        return web.Response()

    provider.answers.append(never)
    assert hold.wait(20)
    operator.kill()
    operator.start()
    count = len(provider.token_requests)
    wait_requests(kube, provider, count + 1, timeout=CLAIM_S + 20)
    kube.wait_ready("mail", namespace)


def test_crash_after_the_provider_acted_is_recovered_from_where_old_refresh_tokens_stay_good(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider], operator: OperatorProcess
) -> None:
    """As Microsoft's do. Where a provider ends the consent instead, a person has to consent again: see the design."""
    provider = provide(access_life=SHORT)
    create(provider)
    kube.wait_ready("mail", namespace)
    count = len(provider.token_requests)
    provider.answers.append(slow(provider, after=2))
    wait_requests(kube, provider, count + 1)
    time.sleep(0.3)
    operator.kill()
    operator.start()
    wait_requests(kube, provider, count + 2, timeout=CLAIM_S + 20)
    kube.wait_ready("mail", namespace)


def test_crashes_at_any_moment_of_the_rotation_leave_it_working(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider], operator: OperatorProcess
) -> None:
    provider = provide(access_life=timedelta(seconds=9))
    create(provider)
    kube.wait_ready("mail", namespace)
    for step in range(4):
        count = len(provider.token_requests)
        wait_requests(kube, provider, count + 1, timeout=CLAIM_S + 20)
        time.sleep(0.02 * step)
        operator.kill()
        operator.start()
    kube.wait_condition("mail", namespace, "Ready", "True", timeout=CLAIM_S + 20)


# --- two operators ---


def test_two_operators_never_refresh_at_once(
    create: Create,
    kube: Kube,
    namespace: str,
    provide: Callable[..., IdentityProvider],
    operator: OperatorProcess,
    another_operator: OperatorProcess,
) -> None:
    provider = provide(access_life=SHORT, detects_reuse=True)
    overlaps: list[int] = []
    running = [0]

    def watched() -> Behaviour:
        async def answer(request: web.Request) -> web.StreamResponse:
            running[0] += 1
            overlaps.append(running[0])
            response = await slow(provider, before=0.3, after=0.1)(request)
            running[0] -= 1
            return response

        return answer

    provider.answers.extend(watched() for _ in range(100))
    create(provider)
    kube.wait_ready("mail", namespace)
    wait_requests(kube, provider, 6)
    kube.wait_ready("mail", namespace)
    assert set(overlaps) == {1}
    sent = [asked.form["refresh_token"] for asked in provider.token_requests]
    assert len(sent) == len(set(sent))


# --- secrets ---


def test_no_secret_is_in_logs_status_or_events(
    create: Create, kube: Kube, namespace: str, provide: Callable[..., IdentityProvider], operator: OperatorProcess
) -> None:
    provider = provide(access_life=SHORT)
    create(provider)
    wait_requests(kube, provider, 3)
    kube.wait_ready("mail", namespace)
    told = (
        operator.log_text()
        + json.dumps(kube.settings("mail", namespace))
        + json.dumps(events_about(kube, namespace, "mail"))
    )
    hidden = [CLIENT_SECRET, *provider._refresh_tokens, *provider._access_tokens]
    assert [value for value in hidden if value in told] == []
