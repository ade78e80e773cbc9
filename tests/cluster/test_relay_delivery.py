"""Delivery by the relay: what tenants get, what the relay is told, and what neither of them gets."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from dev.operator_process import OperatorProcess
from mailsettings.api import names
from mailsettings.core.relay.bundle import Bundle, BundleTenant, parse_bundle
from mailsettings.core.relay.passwords import verify_password
from tests.cluster.test_oauth2 import give_secret, oauth2_spec, stored, uid_of
from tests.support.identity_provider import CLIENT_SECRET, IdentityProvider
from tests.support.kube import Kube, condition
from tests.support.plugin import Person
from tests.support.smtp_server import PASSWORD, MailServer

RELAY: Final = names.RELAY_NAMESPACE
SLICES: Final = f"/apis/discovery.k8s.io/v1/namespaces/{RELAY}/endpointslices"
KIND: Final = "MailServerSettings"
HOST: Final = f"mailsettings-relay.{RELAY}.svc"

pytestmark = pytest.mark.usefixtures("operator", "relay_endpoints")


def set_endpoints(kube: Kube, *, ready: bool, replicas: int = 1) -> None:
    """What Kubernetes itself does as the relay's Pods come and go."""
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "mailsettings-relay-test", "labels": {"kubernetes.io/service-name": "mailsettings-relay"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.0.0.{9 + n}"], "conditions": {"ready": ready}} for n in range(replicas)],
        "ports": [{"name": "submission", "port": 587, "protocol": "TCP"}],
    }
    path = f"{SLICES}/mailsettings-relay-test"
    kube.api.request("PATCH", f"{path}?fieldManager=test&force=true", body, content_type="application/apply-patch+yaml")


@pytest.fixture
def relay_endpoints(kube: Kube) -> Iterator[None]:
    """The relay is there."""
    set_endpoints(kube, ready=True)
    yield
    set_endpoints(kube, ready=False)


def bundle_secrets(kube: Kube, uid: str) -> list[dict[str, Any]]:
    query = f"labelSelector={names.LABEL_BUNDLE_OF}%3D{uid}"
    items: list[dict[str, Any]] = kube.api.request("GET", f"/api/v1/namespaces/{RELAY}/secrets?{query}")["items"]
    return items


def bundles(kube: Kube, uid: str) -> list[Bundle]:
    return [parse_bundle(base64.b64decode(item["data"]["bundle.json"])) for item in bundle_secrets(kube, uid)]


def told(kube: Kube, uid: str, username: str) -> BundleTenant | None:
    """What the relay knows of a login."""
    found = [each for bundle in bundles(kube, uid) for each in bundle.tenants if each.username == username]
    assert len(found) <= 1
    return found[0] if found else None


def delivered(kube: Kube, namespace: str, name: str = "mail") -> dict[str, str]:
    kube.wait_condition(name, namespace, "Delivered", "True", "Delivered")
    data = kube.secret_data(f"{name}-smtp", namespace)
    assert data is not None
    return data


@pytest.fixture
def system(kube: Kube, cluster_settings: Callable[..., str], namespace: str) -> str:
    """A cluster object that delivers by the relay to the test's namespace."""
    name = cluster_settings(tenants={"delivery": "Relay", "namespaces": [namespace]})
    kube.wait_ready(name)
    return name


def inherit(kube: Kube, namespace: str, system: str, **fields: Any) -> None:
    kube.create(KIND, "mail", namespace, spec={"systemSettingsRef": {"name": system}, **fields})


def test_a_tenant_gets_a_login_of_its_own_and_nothing_of_the_systems(
    kube: Kube, namespace: str, system: str, smtp: MailServer
) -> None:
    inherit(kube, namespace, system, output={"template": {"presets": ["Django"]}})
    data = delivered(kube, namespace)
    username = f"{namespace}.mail"
    assert (data["host"], data["port"], data["tls"], data["protocol"]) == (HOST, "587", "StartTLS", "smtp")
    assert (data["username"], data["EMAIL_HOST_USER"]) == (username, username)
    assert data["EMAIL_HOST_PASSWORD"] == data["password"]
    assert len(base64.urlsafe_b64decode(data["password"] + "=")) == 32
    assert "BEGIN CERTIFICATE" in data["ca.crt"]
    assert data["from"] == "Acme <no-reply@acme.example>"
    assert not any(PASSWORD in value or str(smtp.port) in value for value in data.values())
    told_of_it = condition(kube.get(KIND, "mail", namespace) or {}, "Delivered") or {}
    assert told_of_it["message"] == "The Secret 'mail-smtp' holds a login at the relay."

    uid = uid_of(kube, system)
    login = told(kube, uid, username)
    assert login is not None
    assert verify_password(data["password"], login.passwords)
    assert (login.namespace, login.settings, login.tokens) == (namespace, "mail", True)
    (bundle,) = bundles(kube, uid)
    assert (bundle.server.port, bundle.login and bundle.login.password) == (smtp.port, PASSWORD)
    assert data["password"] not in json.dumps([base64.b64decode(v).decode() for v in raw_values(kube, uid)])


def raw_values(kube: Kube, uid: str) -> list[str]:
    return [value for item in bundle_secrets(kube, uid) for value in item["data"].values()]


def test_nothing_is_written_again_after_a_restart(
    kube: Kube, namespace: str, system: str, operator: OperatorProcess
) -> None:
    inherit(kube, namespace, system)
    before = delivered(kube, namespace)
    versions = written(kube, namespace, system)
    operator.stop()
    operator.start()
    kube.patch("MailServerSettings", "mail", namespace, spec={"replyTo": "no-reply@acme.example"})
    kube.wait_values("mail-smtp", namespace, reply_to="no-reply@acme.example")
    assert delivered(kube, namespace)["password"] == before["password"]
    after = written(kube, namespace, system)
    assert (after[0] != versions[0], after[1]) == (True, versions[1])


def written(kube: Kube, namespace: str, system: str) -> tuple[str, list[str]]:
    secret = kube.get("Secret", "mail-smtp", namespace)
    assert secret is not None
    found = bundle_secrets(kube, uid_of(kube, system))
    return secret["metadata"]["resourceVersion"], [item["metadata"]["resourceVersion"] for item in found]


def test_a_new_password_is_asked_for_and_the_old_one_holds_on(kube: Kube, namespace: str, system: str) -> None:
    inherit(kube, namespace, system)
    old = delivered(kube, namespace)["password"]
    annotations = {names.ANNOTATION_ROTATE_REQUESTED_AT: "now"}
    kube.patch(KIND, "mail", namespace, metadata={"annotations": annotations})
    kube.wait(lambda: delivered(kube, namespace)["password"] != old, "another password")
    new = delivered(kube, namespace)["password"]
    login = told(kube, uid_of(kube, system), f"{namespace}.mail")
    assert login is not None
    assert len(login.passwords) == 2
    assert verify_password(new, login.passwords[:1])
    assert verify_password(old, login.passwords[1:])


def test_the_command_gives_a_tenant_that_inherits_a_new_password(
    kube: Kube, namespace: str, system: str, somebody: Callable[..., Person]
) -> None:
    inherit(kube, namespace, system)
    old = delivered(kube, namespace)["password"]
    kube.wait_ready("mail", namespace)
    with somebody("edit").runs("rotate", "mail") as running:
        assert (running.wait(), running.err) == (0, "")
        out = " ".join(running.out.split())
    assert out.startswith(f"Renewed: The Secret has a new password for {namespace}.mail at the relay")
    new = delivered(kube, namespace)["password"]
    assert new != old
    assert new not in out
    login = told(kube, uid_of(kube, system), f"{namespace}.mail")
    assert login is not None
    assert verify_password(new, login.passwords[:1])


@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_a_password_that_the_secret_lost_is_replaced_and_ends(
    kube: Kube, namespace: str, system: str, how: str
) -> None:
    inherit(kube, namespace, system)
    old = delivered(kube, namespace)["password"]
    if how == "edited":
        kube.patch("Secret", "mail-smtp", namespace, data={"password": base64.b64encode(b"mine").decode()})
    else:
        kube.delete("Secret", "mail-smtp", namespace)

    def replaced() -> str | None:
        found = (kube.secret_data("mail-smtp", namespace) or {}).get("password", "")
        return found if found not in ("", "mine", old) else None

    new = kube.wait(replaced, "a new password")
    login = told(kube, uid_of(kube, system), f"{namespace}.mail")
    assert login is not None
    assert [verify_password(new, [each]) for each in login.passwords] == [True]


def test_a_bundle_that_somebody_changed_or_removed_is_made_again(kube: Kube, namespace: str, system: str) -> None:
    inherit(kube, namespace, system)
    delivered(kube, namespace)
    uid, username = uid_of(kube, system), f"{namespace}.mail"
    before = told(kube, uid, username)
    (secret,) = bundle_secrets(kube, uid)
    kube.patch("Secret", secret["metadata"]["name"], RELAY, data={"bundle.json": base64.b64encode(b"{}").decode()})
    kube.wait(lambda: raw_values(kube, uid) == [*secret["data"].values()], "the bundle as it was")
    kube.delete("Secret", secret["metadata"]["name"], RELAY)
    kube.wait(lambda: told(kube, uid, username) == before, "the login")


def test_the_login_goes_with_the_settings(kube: Kube, namespace: str, system: str) -> None:
    inherit(kube, namespace, system)
    delivered(kube, namespace)
    uid = uid_of(kube, system)
    kube.delete(KIND, "mail", namespace)
    kube.wait(lambda: not bundle_secrets(kube, uid), "the bundle to go")


def test_the_login_goes_when_the_tenant_may_not_use_the_system(kube: Kube, namespace: str, system: str) -> None:
    inherit(kube, namespace, system)
    delivered(kube, namespace)
    kube.patch("ClusterMailServerSettings", system, spec={"tenants": {"namespaces": ["other"]}})
    kube.wait_condition("mail", namespace, "Accepted", "False", "NotAllowed")
    kube.wait_gone("Secret", "mail-smtp", namespace)
    kube.wait(lambda: not bundle_secrets(kube, uid_of(kube, system)), "the bundle to go")


@pytest.mark.parametrize("held_back", ["suspended", "not accepted"])
def test_bounds_hold_while_changes_are_held_back(kube: Kube, namespace: str, system: str, held_back: str) -> None:
    inherit(kube, namespace, system, policy={"rateLimits": "5:1"})
    before = delivered(kube, namespace)
    spec = {"suspend": True} if held_back == "suspended" else {"mailFrom": "boss@other.example"}
    kube.patch(KIND, "mail", namespace, spec={**spec, "policy": {"rateLimits": "7:1"}})
    if held_back == "suspended":
        kube.wait_condition("mail", namespace, "Delivered", "True", "Suspended")
    else:
        kube.wait_condition("mail", namespace, "Accepted", "False", "SenderNotAllowed")
    uid = uid_of(kube, system)

    def has(sending: str, rate_limits: str) -> bool:
        login = told(kube, uid, f"{namespace}.mail")
        return login is not None and (login.sending, login.rate_limits) == (sending, rate_limits)

    assert has("Allowed", "5:1")
    policy = {"sending": "Blocked", "rateLimits": "100:60"}
    kube.patch("ClusterMailServerSettings", system, spec={"tenants": {"policy": policy}})
    kube.wait(lambda: has("Blocked", "100:60,5:1"), "the new bounds")
    kube.patch("ClusterMailServerSettings", system, spec={"tenants": {"policy": {"sending": "Allowed"}}})
    kube.wait(lambda: has("Allowed", "100:60,5:1"), "the bounds to be wider again")
    assert kube.secret_data("mail-smtp", namespace) == before


def test_a_sender_that_is_permitted_no_more_is_blocked(
    kube: Kube, namespace: str, cluster_settings: Callable[..., str]
) -> None:
    tenants = {"delivery": "Relay", "namespaces": [namespace], "allowedFrom": ["*@acme.example"]}
    system = cluster_settings(tenants=tenants)
    inherit(kube, namespace, system, mailFrom="shop@acme.example")
    delivered(kube, namespace)
    kube.patch("ClusterMailServerSettings", system, spec={"tenants": {"allowedFrom": ["news@acme.example"]}})
    kube.wait_condition("mail", namespace, "Accepted", "False", "SenderNotAllowed")

    def is_blocked() -> bool:
        login = told(kube, uid_of(kube, system), f"{namespace}.mail")
        return login is not None and login.sending == "Blocked"

    kube.wait(is_blocked, "the login to be blocked")


def test_policies_of_both_levels_hold_together(
    kube: Kube, namespace: str, cluster_settings: Callable[..., str]
) -> None:
    bounds = {"recipientDomains": ["*.example", "partner.test"], "maxMessageSize": "10Mi", "rateLimits": "100:60"}
    system = cluster_settings(
        tenants={
            "delivery": "Relay",
            "namespaces": [namespace],
            "allowedFrom": ["*@{namespace}.acme.example"],
            "policy": {**bounds, "foreignSender": "Rewrite"},
        }
    )
    own = {"recipientDomains": ["acme.example", "other.test"], "maxMessageSize": "64Ki", "rateLimits": "5:1"}
    inherit(
        kube,
        namespace,
        system,
        mailFrom=f"shop@{namespace}.acme.example",
        policy={**own, "sending": "Blocked", "allowedFrom": ["news-*@{namespace}.acme.example"]},
    )
    delivered(kube, namespace)
    login = told(kube, uid_of(kube, system), f"{namespace}.mail")
    assert login is not None
    assert login.recipient_domains == ("acme.example",)
    assert (login.max_message_octets, login.rate_limits, login.sending) == (65536, "100:60,5:1", "Blocked")
    assert login.foreign_sender == "Rewrite"
    assert login.policy.permits_sender(f"news-1@{namespace}.acme.example")
    assert login.policy.permits_sender(f"shop@{namespace}.acme.example")
    assert not login.policy.permits_sender(f"boss@{namespace}.acme.example")


@pytest.mark.parametrize(
    ("delivery", "fields"),
    [
        ("Relay", {"mailFrom": "boss@acme.example"}),
        ("Credentials", {"mailFrom": "boss@acme.example"}),
        ("Relay", {"policy": {"allowedFrom": ["*@acme.example"]}}),
    ],
)
def test_a_sender_beyond_the_systems_own_is_not_accepted(
    kube: Kube, namespace: str, cluster_settings: Callable[..., str], delivery: str, fields: dict[str, Any]
) -> None:
    system = cluster_settings(tenants={"delivery": delivery, "namespaces": [namespace]})
    inherit(kube, namespace, system, **fields)
    kube.wait_condition("mail", namespace, "Accepted", "False", "SenderNotAllowed")
    assert kube.get("Secret", "mail-smtp", namespace) is None


def test_a_policy_without_the_relay_is_not_accepted(
    kube: Kube, namespace: str, cluster_settings: Callable[..., str]
) -> None:
    system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    inherit(kube, namespace, system, policy={"sending": "Blocked"})
    kube.wait_condition("mail", namespace, "Accepted", "False", "SpecInvalid")
    kube.patch(KIND, "mail", namespace, spec={"output": {"delivery": "Relay"}})
    assert delivered(kube, namespace)["host"] == HOST


def test_a_relay_that_is_not_there_shows_in_delivered(kube: Kube, namespace: str, system: str) -> None:
    set_endpoints(kube, ready=False)
    inherit(kube, namespace, system)
    kube.wait_condition("mail", namespace, "Delivered", "False", "RelayUnavailable")
    set_endpoints(kube, ready=True)
    kube.wait_ready("mail", namespace)


def test_provision_always_gives_logins_and_the_tenants_own_object_takes_over(
    kube: Kube, new_namespace: Callable[..., str], cluster_settings: Callable[..., str]
) -> None:
    label = {"relay-test": secrets.token_hex(4)}
    namespace = new_namespace(label)
    selector = {"matchLabels": label}
    cluster_settings("default", tenants={"provision": "Always", "delivery": "Relay", "namespaceSelector": selector})
    secret = kube.wait_values("default-smtp", namespace, username=f"{namespace}.default", host=HOST)
    password = base64.b64decode(secret["data"]["password"]).decode()
    kube.create(KIND, "default", namespace, spec={})
    assert delivered(kube, namespace, "default")["password"] == password
    login = told(kube, uid_of(kube, "default"), f"{namespace}.default")
    assert login is not None
    assert verify_password(password, login.passwords)


def test_bounds_hold_for_provided_logins_of_suspended_settings(
    kube: Kube, new_namespace: Callable[..., str], cluster_settings: Callable[..., str]
) -> None:
    label = {"relay-test": secrets.token_hex(4)}
    namespace = new_namespace(label)
    tenants = {"provision": "Always", "delivery": "Relay", "namespaceSelector": {"matchLabels": label}}
    cluster_settings("default", tenants=tenants)
    kube.wait_values("default-smtp", namespace, username=f"{namespace}.default")
    spec = {"suspend": True, "tenants": {"policy": {"sending": "Blocked"}}}
    kube.patch("ClusterMailServerSettings", "default", spec=spec)

    def is_blocked() -> bool:
        login = told(kube, uid_of(kube, "default"), f"{namespace}.default")
        return login is not None and login.sending == "Blocked"

    kube.wait(is_blocked, "the login to be blocked")


def test_own_settings_with_oauth2_deliver_a_password_and_the_relay_gets_access_tokens_only(
    kube: Kube, namespace: str, provider: IdentityProvider, mail_server_of: Callable[[IdentityProvider], MailServer]
) -> None:
    server = mail_server_of(provider)
    give_secret(kube, namespace, provider)
    spec = oauth2_spec(provider, server, "RefreshToken")
    spec["output"] = {"delivery": "Relay", "template": {"presets": ["Django"]}}
    kube.create(KIND, "mail", namespace, spec=spec)
    data = delivered(kube, namespace)
    assert (data["host"], "access-token" in data) == (HOST, False)
    assert data["EMAIL_HOST_PASSWORD"] == data["password"]
    uid = uid_of(kube, "mail", namespace)
    (bundle,) = bundles(kube, uid)
    assert bundle.login is not None
    token = bundle.login.access_token
    assert token is not None
    assert provider.is_live(token)
    assert bundle.login.expires_at is not None
    assert bundle.lacks_login is False
    held = stored(kube, uid)
    assert held is not None
    values = [*data.values(), *(base64.b64decode(value).decode() for value in raw_values(kube, uid))]
    assert not any(held["refresh_token"] in value or CLIENT_SECRET in value for value in values)
    assert not any(token in value for value in data.values())
    kube.patch(KIND, "mail", namespace, metadata={"annotations": {names.ANNOTATION_ROTATE_REQUESTED_AT: "now"}})

    def renewed() -> bool:
        found = [each.login.access_token for each in bundles(kube, uid) if each.login is not None]
        return found != [token]

    kube.wait(renewed, "another access token")
