"""What the relay has been told, and when it is written."""

import asyncio
import base64
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from mailsettings.api.providers import TlsMode
from mailsettings.api.sending import TenantPolicy
from mailsettings.controller.keys import RELAY_SWEEP, Key, bundle_key, tenant_key
from mailsettings.controller.relay import Relay
from mailsettings.core.relay.bundle import Bundle, BundleServer, BundleTenant, parse_bundle
from mailsettings.core.relay.passwords import hash_password
from mailsettings.core.relaying import Asked, Passwords
from mailsettings.core.server import Source
from mailsettings.edges import relay_bundles
from mailsettings.edges.kubernetes import ApiError, KubernetesApi
from mailsettings.edges.relay_bundles import BundleStore, KeptBundle, RelayLogin, bundle_name, shard

OWNER = {"apiVersion": "v1", "kind": "Namespace", "name": "acme", "uid": "n1"}


class FakeStore:
    """Secrets in memory, and an API server that can refuse."""

    namespace = "mailsettings-relay"

    def __init__(self) -> None:
        self.kept: list[KeptBundle] = []
        self.secrets: dict[str, Any] = {}
        self.writes = 0
        self.error: ApiError | None = None

    async def load(self) -> list[KeptBundle]:
        return self.kept

    async def write(self, body: Any) -> str:
        if self.error is not None:
            raise self.error
        self.writes += 1
        self.secrets[body["metadata"]["name"]] = body
        return str(self.writes)

    async def remove(self, name: str) -> None:
        self.secrets.pop(name, None)


class Fixture:
    def __init__(self) -> None:
        self.store = FakeStore()
        self.now: list[Key] = []
        self.later: list[Key] = []
        self.relay = Relay(
            self.store,  # type: ignore[arg-type]
            self.now.append,
            lambda key, _: self.later.append(key),
            logging.getLogger("test"),
            "relay.example",
            587,
            ca_bundle="PEM",
        )

    def write(self, credential: str = "c1") -> None:
        asyncio.run(self.relay.write(credential))


def bundle(credential: str = "c1", port: int = 25) -> Bundle:
    server = BundleServer(host="h.example", port=port, tls_mode=TlsMode.DISABLED)
    return Bundle(credential=credential, level=Source.SYSTEM, server=server)


def login(name: str, *, credential: str = "c1", password: str = "pw", owner: str = "u1") -> RelayLogin:
    tenant = BundleTenant(username=f"{name}.mail", namespace=name, settings="mail", mail_from="a@acme.example")
    return RelayLogin(tenant, credential, owner, Passwords((hash_password(password, b"s" * 16),)))


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_a_thousand_logins_are_written_at_once(fixture: Fixture) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=True)
    for number in range(1000):
        fixture.relay.put(login(f"ns-{number}"), tenant_key(f"ns-{number}", "mail"), "pw")
    assert {*fixture.later} == {bundle_key("c1")}
    fixture.write()
    assert fixture.store.writes == relay_bundles.SHARDS
    fixture.write()
    assert fixture.store.writes == relay_bundles.SHARDS
    told = [login(f"ns-{number}") for number in range(1000)]
    assert all(fixture.relay.is_told(each) for each in told)
    assert {key for key in fixture.now if key.kind != bundle_key("").kind} == {
        tenant_key(f"ns-{number}", "mail") for number in range(1000)
    }


def test_one_more_login_changes_one_secret_only(fixture: Fixture) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=True)
    for number in range(100):
        fixture.relay.put(login(f"ns-{number}"), tenant_key(f"ns-{number}", "mail"))
    fixture.write()
    before = dict(fixture.store.secrets)
    fixture.relay.put(login("another"), tenant_key("another", "mail"))
    fixture.write()
    changed = [name for name, body in fixture.store.secrets.items() if before.get(name) != body]
    assert changed == [bundle_name("c1", shard("another.mail"))]


def test_a_login_is_not_told_before_it_is_written(fixture: Fixture) -> None:
    fixture.relay.put(login("acme"), tenant_key("acme", "mail"), "pw")
    assert not fixture.relay.is_told(login("acme"))
    fixture.write()
    assert not fixture.relay.is_told(login("acme"))
    assert "no login yet" in fixture.relay.problem("acme.mail")
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    fixture.write()
    assert fixture.relay.is_told(login("acme"))
    assert fixture.relay.problem("acme.mail") == ""
    assert not fixture.relay.is_told(login("acme", password="other"))


def test_what_a_former_run_told_is_known_and_stays_until_it_is_known_to_be_gone(fixture: Fixture) -> None:
    fixture.store.kept = [KeptBundle(bundle_name("c1", None), "b1", bundle(), OWNER, [login("acme"), login("gone")])]
    asyncio.run(fixture.relay.load())
    assert fixture.relay.is_told(login("acme"))
    fixture.relay.sweep(lambda each: each.tenant.namespace == "acme", lambda _: True)
    assert bundle_key("c1") in fixture.now
    fixture.write()
    assert fixture.relay.login("gone.mail") is None
    assert fixture.relay.login("acme.mail") == login("acme")
    assert [*fixture.store.secrets] == [bundle_name("c1", None)]


def test_the_relay_is_told_when_the_old_password_ends(fixture: Fixture) -> None:
    until = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
    rotated = replace(login("acme"), passwords=Passwords((hash_password("new"), hash_password("old")), until))
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    fixture.relay.put(rotated, tenant_key("acme", "mail"))
    fixture.write()
    [body] = fixture.store.secrets.values()
    document = base64.b64decode(body["data"][relay_bundles.BUNDLE_KEY])
    assert [each.until for each in parse_bundle(document).tenants] == [until]
    body["metadata"]["uid"] = "b1"
    kept = BundleStore(cast("Any", None), "mailsettings-relay", logging.getLogger("test"))._kept(body)
    assert kept is not None
    assert kept.logins == [rotated]


def test_the_last_login_takes_the_bundle_with_it(fixture: Fixture) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    fixture.relay.put(login("acme"), tenant_key("acme", "mail"))
    fixture.write()
    fixture.relay.release("acme.mail", "another")
    assert fixture.relay.login("acme.mail") is not None
    fixture.relay.release("acme.mail", "u1")
    fixture.write()
    assert fixture.store.secrets == {}
    fixture.relay.sweep(lambda _: True, lambda _: False)
    assert fixture.relay.upstream("c1") is None


def test_trouble_with_the_api_server_is_told_and_ends(fixture: Fixture) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    fixture.relay.put(login("acme"), tenant_key("acme", "mail"), "pw")
    fixture.store.error = ApiError(403, "Forbidden", "pw")
    fixture.now.clear()
    with pytest.raises(ApiError):
        fixture.write()
    assert fixture.now == [tenant_key("acme", "mail")]
    assert "403 Forbidden" in fixture.relay.problem("acme.mail")
    fixture.store.error = None
    fixture.write()
    assert fixture.relay.problem("acme.mail") == ""
    assert fixture.relay.pending("acme.mail") == "pw"
    fixture.relay.delivered("acme.mail")
    assert fixture.relay.pending("acme.mail") is None


def test_what_does_not_fit_is_left_out_and_says_so(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_bundles, "MAX_BYTES", 1500)
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    for name in ("a", "b", "c", "d", "e"):
        fixture.relay.put(login(name), tenant_key(name, "mail"))
    fixture.write()
    problems = [fixture.relay.problem(f"{name}.mail") for name in ("a", "b", "c", "d", "e")]
    assert problems[0] == ""
    assert "full" in problems[-1]
    for name in ("a", "b", "c", "d"):
        fixture.relay.release(f"{name}.mail", "u1")
    fixture.write()
    assert fixture.relay.problem("e.mail") == ""
    assert fixture.relay.is_told(login("e"))


def test_logins_that_were_told_are_not_pushed_out(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    for name in ("y", "z"):
        fixture.relay.put(login(name), tenant_key(name, "mail"))
    fixture.write()
    [body] = fixture.store.secrets.values()
    octets = sum(len(base64.b64decode(value)) for value in body["data"].values())
    monkeypatch.setattr(relay_bundles, "MAX_BYTES", octets + 100)
    fixture.relay.put(login("a"), tenant_key("a", "mail"))
    fixture.write()
    assert [bool(fixture.relay.problem(f"{name}.mail")) for name in ("a", "y", "z")] == [True, False, False]
    assert fixture.relay.is_told(login("z"))


def test_a_namespace_has_a_part_and_no_more(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_bundles, "MAX_NAMESPACE_BYTES", 1500)
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    greedy = [
        replace(each, tenant=each.tenant.model_copy(update={"username": f"a.m{number}"}))
        for number, each in enumerate([login("a")] * 20)
    ]
    for each in [*greedy, login("z")]:
        fixture.relay.put(each, tenant_key(each.tenant.namespace, each.tenant.username))
    fixture.write()
    left_out = [each for each in greedy if fixture.relay.problem(each.tenant.username)]
    assert 15 <= len(left_out) < 20
    assert fixture.relay.problem("z.mail") == ""


def test_what_is_written_fits_into_a_secret(fixture: Fixture) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    asked = Asked(policy=TenantPolicy.model_validate({"recipientDomains": [f"d{n}.example" for n in range(64)]}))
    for number in range(2000):
        fixture.relay.put(replace(login(f"ns-{number}"), asked=asked), tenant_key(f"ns-{number}", "mail"))
    fixture.write()
    [body] = fixture.store.secrets.values()
    assert 800_000 < sum(map(len, body["data"].values())) < 1_000_000


def test_a_secret_that_somebody_else_wrote_is_written_again(fixture: Fixture) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    fixture.relay.put(login("acme"), tenant_key("acme", "mail"))
    fixture.write()
    fixture.later.clear()
    fixture.relay.changed(bundle_name("c1", None), "1")
    assert fixture.later == []
    fixture.relay.changed(bundle_name("c1", None), "7")
    assert fixture.later == [bundle_key("c1")]
    fixture.write()
    assert fixture.store.writes == 2


def test_a_renewed_access_token_is_written_at_once(fixture: Fixture) -> None:
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    fixture.now.clear()
    fixture.relay.set_upstream(bundle(), OWNER, divided=False)
    assert fixture.now == []
    fixture.relay.renew_login(bundle(port=26))
    assert fixture.now == [bundle_key("c1")]
    fixture.relay.renew_login(bundle("unknown"))
    assert fixture.now == [bundle_key("c1")]


def test_everybody_is_told_when_the_relay_comes_or_goes(fixture: Fixture) -> None:
    fixture.relay.put(login("acme"), tenant_key("acme", "mail"))
    fixture.relay.set_ready(ready=True)
    assert fixture.now == [tenant_key("acme", "mail")]
    fixture.relay.set_ready(ready=True)
    assert len(fixture.now) == 1
    fixture.relay.set_certificate("other")
    assert len(fixture.now) == 2
    fixture.relay.sweep_soon()
    assert RELAY_SWEEP in fixture.later


def test_what_was_asked_for_is_known_after_a_restart() -> None:
    asked = Asked(mail_from="shop@acme.example", policy=TenantPolicy.model_validate({"rateLimits": "5:1"}))
    before = [replace(login("acme"), asked=asked), login("older")]
    whole = bundle().model_copy(update={"tenants": tuple(each.entry for each in before)})
    document = relay_bundles.manifest("ns", "b1", whole, before, OWNER)
    document["metadata"]["uid"] = "x"

    class Api:
        async def list_objects(self, _path: str) -> list[Any]:
            return [document]

    store = relay_bundles.BundleStore(cast("KubernetesApi", Api()), "ns", logging.getLogger("test"))
    [kept] = asyncio.run(store.load())
    assert kept.logins == before
    assert kept.logins[0].asked is not None
    assert kept.logins[0].asked.model_dump(exclude_none=True) == {
        "mail_from": "shop@acme.example",
        "policy": {"rate_limits": "5:1"},
    }
