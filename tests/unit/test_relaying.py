"""Delivery by the relay: policies of two levels, passwords, and what an application sees."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.output import OutputTemplate
from mailsettings.api.providers import TlsMode
from mailsettings.api.sending import SendingPolicy, TenantPolicy
from mailsettings.api.template import Preset
from mailsettings.api.tenants import Tenants
from mailsettings.core.credentials import TokenFacts
from mailsettings.core.delivery import Owner, desired_secret, secret_data
from mailsettings.core.digest import Digester
from mailsettings.core.relay.addresses import parse_address
from mailsettings.core.relay.bundle import parse_bundle
from mailsettings.core.relay.passwords import hash_password, new_password, verify_password
from mailsettings.core.relaying import (
    OVERLAP,
    Asked,
    Passwords,
    RelayAddress,
    as_delivered,
    bounded,
    bundle_tenant,
    next_passwords,
    upstream_bundle,
    with_login,
)
from mailsettings.core.server import BearerToken
from mailsettings.core.tenancy import matches, pattern_within
from tests.unit.builders import effective, resolved

NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
ADDRESS: Final = RelayAddress("mailsettings-relay.mailsettings-relay.svc", 587, "PEM")


def tenant(bounds: dict[str, Any] | None, own: dict[str, Any] | None) -> Any:
    return bundle_tenant(
        effective().mail_from,
        SendingPolicy.model_validate(bounds) if bounds is not None else None,
        TenantPolicy.model_validate(own) if own is not None else None,
        namespace="acme",
        settings_name="mail",
    )


# --- policies ---


_BELOW: Final = "*.c.b.test"


@pytest.mark.parametrize(
    ("bounds", "own", "field", "wanted"),
    [
        (None, None, "sending", "Allowed"),
        ({"sending": "Blocked"}, {"sending": "Allowed"}, "sending", "Blocked"),
        ({"sending": "Allowed"}, {"sending": "Blocked"}, "sending", "Blocked"),
        (None, None, "foreign_sender", "Refuse"),
        ({"foreignSender": "Rewrite"}, None, "foreign_sender", "Rewrite"),
        ({"foreignSender": "Rewrite"}, {"foreignSender": "Refuse"}, "foreign_sender", "Refuse"),
        ({"foreignSender": "Refuse"}, {"foreignSender": "Rewrite"}, "foreign_sender", "Refuse"),
        ({}, {"foreignSender": "Rewrite"}, "foreign_sender", "Rewrite"),
        ({"maxMessageSize": "1Mi"}, {"maxMessageSize": "2Mi"}, "max_message_octets", 1024**2),
        ({"maxMessageSize": "3Mi"}, {"maxMessageSize": "2Ki"}, "max_message_octets", 2048),
        (None, None, "max_message_octets", None),
        ({"rateLimits": "9:1"}, {"rateLimits": "1:1,5:60"}, "rate_limits", "9:1,1:1,5:60"),
        (None, None, "recipient_domains", None),
        ({"recipientDomains": ["a.test", "*.b.test"]}, {}, "recipient_domains", ("a.test", "*.b.test")),
        ({"recipientDomains": ["*.b.test"]}, {"recipientDomains": ["X.b.test"]}, "recipient_domains", ("x.b.test",)),
        ({"recipientDomains": ["x.b.test"]}, {"recipientDomains": ["*.b.test"]}, "recipient_domains", ("x.b.test",)),
        ({"recipientDomains": ["*.b.test"]}, {"recipientDomains": ["b.test"]}, "recipient_domains", ()),
        ({"recipientDomains": ["*.b.test"]}, {"recipientDomains": ["*.xb.test"]}, "recipient_domains", ()),
        (
            {"recipientDomains": ["*.b.test"]},
            {"recipientDomains": ["*.c.b.test"]},
            "recipient_domains",
            ("*.c.b.test",),
        ),
    ],
)
def test_the_stricter_of_both_holds(
    bounds: dict[str, Any] | None, own: dict[str, Any] | None, field: str, wanted: object
) -> None:
    assert getattr(tenant(bounds, own), field) == wanted


_DOMAINS: Final = st.lists(
    st.sampled_from(("a.test", "b.a.test", "*.a.test", "*.b.a.test", "*.test", "test", "xa.test", "*.xa.test")),
    max_size=4,
    unique=True,
)


@given(_DOMAINS, _DOMAINS, st.sampled_from(("a.test", "b.a.test", "c.b.a.test", "xa.test", "y.xa.test", "test")))
def test_a_domain_is_permitted_by_both_or_not_at_all(bounds: list[str], own: list[str], domain: str) -> None:
    def permitted(policy: Any) -> bool:
        return bool(policy.policy.permits_recipient(parse_address(f"x@{domain}")))

    both = permitted(tenant({"recipientDomains": bounds}, {"recipientDomains": own}))
    alone = [permitted(tenant({"recipientDomains": each}, None)) for each in (bounds, own)]
    assert both is all(alone)


def test_own_sender_is_permitted_beside_the_patterns() -> None:
    policy = tenant(None, {"allowedFrom": ["news@{namespace}.example"]}).policy
    assert policy.permits_sender("no-reply@acme.example")
    assert policy.permits_sender("news@acme.example")
    assert not tenant(None, None).policy.permits_sender("news@acme.example")


class TestBounded:
    """Of a login that stays as it was delivered."""

    def now(self, tenants: dict[str, Any], **asked: Any) -> Any:
        wanted = Asked.model_validate(asked)
        told = bundle_tenant(
            wanted.mail_from or effective().mail_from, None, wanted.policy, namespace="acme", settings_name="mail"
        )
        return bounded(
            told, wanted, Tenants.model_validate({"delivery": "Relay", **tenants}), system_from=effective().mail_from
        )

    def test_what_is_permitted_now_and_what_was_asked_for_hold_together(self) -> None:
        own = {"recipientDomains": ["acme.example", "b.test"], "rateLimits": "5:1"}
        found = self.now({"policy": {"recipientDomains": ["*.test"], "rateLimits": "1:1"}}, policy=own)
        assert (found.recipient_domains, found.rate_limits, found.sending) == (("b.test",), "1:1,5:1", "Allowed")
        assert self.now({"policy": {"sending": "Blocked"}}).sending == "Blocked"

    @pytest.mark.parametrize(
        ("asked", "sending"),
        [
            ({}, "Allowed"),
            ({"mail_from": "shop@acme.example"}, "Allowed"),
            ({"mail_from": "shop@other.example"}, "Blocked"),
            ({"policy": {"allowedFrom": ["*@acme.example"]}}, "Allowed"),
            ({"policy": {"allowedFrom": ["*@acme.example", "*@other.example"]}}, "Blocked"),
        ],
    )
    def test_a_sender_that_is_permitted_no_more_blocks_it(self, asked: dict[str, Any], sending: str) -> None:
        assert self.now({"allowedFrom": ["*@acme.example"]}, **asked).sending == sending


_PIECE: Final = st.text("ab*", max_size=4)
_PATTERN: Final = st.builds(lambda local, domain: f"{local}@{domain}", _PIECE, _PIECE)


@given(_PATTERN, _PATTERN, st.builds(lambda a, b: f"{a}@{b}", st.text("ab", max_size=5), st.text("ab", max_size=5)))
def test_a_pattern_within_another_permits_nothing_that_the_other_does_not(inner: str, outer: str, text: str) -> None:
    if pattern_within(inner, outer, "ns") and matches(inner, text, "ns"):
        assert matches(outer, text, "ns")


@pytest.mark.parametrize(
    ("pattern", "bound", "within"),
    [
        ("*@acme.example", "*@acme.example", True),
        ("news-*@acme.example", "*@acme.example", True),
        ("*@acme.example", "news-*@acme.example", False),
        ("*@*.acme.example", "*@acme.example", False),
        ("x@{namespace}.example", "*@ns.example", True),
        ("x@ns.example", "*@{namespace}.example", True),
        ("x@other.example", "*@{namespace}.example", False),
        ("X@Acme.example", "x@acme.EXAMPLE", True),
    ],
)
def test_pattern_within(pattern: str, bound: str, within: bool) -> None:
    assert pattern_within(pattern, bound, "ns") is within


# --- passwords ---


def test_the_password_of_the_secret_goes_on() -> None:
    kept = Passwords((hash_password("one"),), None, "r1")
    assert next_passwords(kept, "one", rotation="r1", now=NOW) == (None, kept)
    assert next_passwords(kept, "one", rotation=None, now=NOW) == (None, kept)


def test_a_new_one_is_made_when_somebody_asks_and_the_old_one_holds_for_a_day() -> None:
    old = hash_password("one")
    password, kept = next_passwords(Passwords((old,)), "one", rotation="r1", now=NOW)
    assert password is not None
    assert (kept.hashes[1], kept.until, kept.rotation) == (old, NOW + timedelta(hours=24), "r1")
    assert verify_password(password, kept.hashes[:1])
    assert kept.aged(NOW + OVERLAP - timedelta(seconds=1)) == kept
    assert kept.aged(NOW + OVERLAP) == Passwords(kept.hashes[:1], None, "r1")


@pytest.mark.parametrize("found", [None, "another"])
def test_a_password_that_the_secret_lost_ends(found: str | None) -> None:
    password, kept = next_passwords(Passwords((hash_password("one"),)), found, rotation=None, now=NOW)
    assert password is not None
    assert [verify_password(password, [each]) for each in kept.hashes] == [True]
    assert kept.until is None


def test_a_password_that_never_came_into_the_secret_is_replaced_and_the_secrets_own_holds_on() -> None:
    """The operator ended between telling the relay and writing the Secret."""
    lost, held = hash_password(new_password()), hash_password("one")
    password, kept = next_passwords(Passwords((lost, held), NOW + OVERLAP), "one", rotation=None, now=NOW)
    assert password is not None
    assert lost not in kept.hashes
    assert kept.hashes[1] == held


def test_an_old_password_that_is_past_its_time_does_not_come_back() -> None:
    kept = Passwords((hash_password("new"), hash_password("old")), NOW - timedelta(seconds=1))
    _, after = next_passwords(kept, "old", rotation=None, now=NOW)
    assert len(after.hashes) == 1


# --- what is delivered, and what the relay is told ---


@pytest.mark.parametrize("auth", [None, "password", "token"])
def test_an_application_sees_nothing_of_the_mail_server(auth: str | None) -> None:
    fields: dict[str, Any] = {"connection": {"host": "upstream.example", "port": 2525}}
    settings = resolved(**fields) if auth else resolved(**fields, auth=None)
    if auth == "token":
        facts = TokenFacts("s", "f", NOW)
        settings = replace(settings, credentials=BearerToken("box@acme.example", "upstream-token"), token=facts)
    settings = replace(settings, effective=replace(settings.effective, provider="SendGrid"))
    seen = as_delivered(settings, ADDRESS, username="acme.mail", password="pw")
    template = OutputTemplate.model_validate({"presets": [preset.value for preset in Preset]})
    data = secret_data(seen, template)
    assert (data["host"], data["port"], data["username"], data["password"]) == (ADDRESS.host, "587", "acme.mail", "pw")
    assert (data["ca.crt"], data["tls"], data["provider"]) == ("PEM", str(TlsMode.START_TLS), "custom")
    secret = ("upstream", "s3cret", "mailer", "box@acme.example", "2525")
    assert not [key for key, value in data.items() if any(text in value for text in secret)]
    assert not {"access-token", "expires-at"} & set(data)


def test_the_digest_is_of_what_stands_for_the_password() -> None:
    """So the operator knows the Secret by what it keeps, without the password."""
    owner = Owner("MailServerSettings", "mail", "uid-1")

    def secret(password: str) -> Any:
        seen = as_delivered(resolved(), ADDRESS, username="acme.mail", password=password)
        return desired_secret(seen, None, namespace="acme", name="mail-smtp", owner=owner)

    digest = Digester(b"k" * 32)
    written = replace(secret("pw"), told_by=secret("hash").data).manifest(digest)
    compared = secret("hash").manifest(digest)
    assert written["metadata"]["annotations"] == compared["metadata"]["annotations"]
    assert base64.b64decode(written["data"]["password"]) == b"pw"
    assert written["metadata"] != secret("pw").manifest(digest)["metadata"]


def test_a_bundle_says_all_that_is_needed_to_connect() -> None:
    connection = {
        "host": "upstream.example",
        "timeout": "3s",
        "tls": {"mode": "Implicit", "minVersion": "TLSv1.3", "serverName": "mx.example"},
        "proxy": {"protocol": "SOCKS5", "host": "proxy.example", "port": 1080},
    }
    settings = resolved(connection=connection)
    bundle = upstream_bundle(settings, "uid-1")
    again = parse_bundle(bundle.model_dump_json(by_alias=True))
    assert again.upstream_server == settings.server
    assert again.upstream_login == settings.credentials


def test_an_access_token_is_exchanged_and_nothing_else() -> None:
    before = upstream_bundle(resolved(connection={"host": "one.example"}), "uid-1")
    facts = TokenFacts("s", "f", NOW)
    other = replace(
        resolved(connection={"host": "two.example"}), credentials=BearerToken("box", "token-2"), token=facts
    )
    after = with_login(before, other)
    assert after.server == before.server
    assert after.login is not None
    assert (after.login.access_token, after.login.expires_at) == ("token-2", NOW)
