"""What drops a token, field by field, and what does not."""

from typing import Any, Final

import pytest

from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.identity import Cloud, Family, Identity
from mailsettings.api.oauth2 import OAuth2, SecretMethod
from mailsettings.api.providers import PROVIDERS
from mailsettings.core.digest import Digester
from mailsettings.core.oauth2.fingerprint import fingerprint
from mailsettings.core.oauth2.request import ClientSecret
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.subject import TokenSubject, token_subject
from mailsettings.core.server import Credentials, Proxy, Source

DIGEST: Final = Digester(b"k" * 32)
REF: Final = {"name": "oauth2", "key": "a"}
OFFICE: Final[dict[str, Any]] = {
    "username": "no-reply@acme.example",
    "grant": "RefreshToken",
    "clientID": "client",
    "clientAuth": {"secretRef": REF},
    "directoryID": "acme.example",
    "refreshTokenSecretRef": REF,
}


def of(provider: str = "Office365", **changes: Any) -> str:
    values = {key: value for key, value in {**OFFICE, **changes}.items() if value is not None}
    return fingerprint(provider, OAuth2.model_validate(values))


CHANGES: Final[dict[str, dict[str, Any]]] = {
    "username": {"username": "other@acme.example"},
    "grant": {"grant": "ClientCredentials", "refreshTokenSecretRef": None},
    "client_id": {"clientID": "other"},
    "directory_id": {"directoryID": "other.example"},
    "cloud": {"cloud": "China"},
    "token_uri": {"tokenURI": "https://other.example/token"},
    "authorization_uri": {
        "grant": "AuthorizationCode",
        "refreshTokenSecretRef": None,
        "authorizationURI": "https://other.example/authorize",
        "tokenURI": "https://other.example/token",
    },
    "device_authorization_uri": {
        "grant": "DeviceCode",
        "refreshTokenSecretRef": None,
        "deviceAuthorizationURI": "https://other.example/device",
        "tokenURI": "https://other.example/token",
    },
    "scopes": {"scopes": ["other"]},
}
SAME: Final[dict[str, dict[str, Any]]] = {
    "client_auth": {"clientAuth": {"certificateRef": {"name": "other"}}},
    "refresh_token_secret_ref": {"refreshTokenSecretRef": {"name": "other", "key": "b"}},
    "revocation_uri": {"revocationURI": "https://other.example/revoke"},
}
ELSEWHERE: Final = {"service_account_key_ref", "account_check"}
"""A key is the client's authentication, and whose consent counts is not what was consented to; both with other grants
than `OFFICE` has."""


@pytest.mark.parametrize("field", CHANGES)
def test_change_drops_the_token(field: str) -> None:
    assert of(**CHANGES[field]) != of()


@pytest.mark.parametrize("field", SAME)
def test_change_keeps_the_token(field: str) -> None:
    assert of(**SAME[field]) == of()


def test_every_field_is_decided_on() -> None:
    """A new field has to be put into one of the tables."""
    assert {*CHANGES, *SAME, *ELSEWHERE} == {*OAuth2.model_fields}


def test_provider_drops_the_token() -> None:
    assert of("Google") != of("Office365")


def test_service_account_key_may_be_replaced() -> None:
    account = {"username": "a", "grant": "ServiceAccount", "serviceAccountKeyRef": REF}
    other = {**account, "serviceAccountKeyRef": {"name": "other", "key": "b"}}
    both = [fingerprint("Google", OAuth2.model_validate(each)) for each in (account, other)]
    assert both[0] == both[1]


def test_naming_the_default_cloud_and_the_order_of_scopes_change_nothing() -> None:
    assert of(cloud="Public") == of()
    assert of(scopes=["a", "b"]) == of(scopes=["b", "a"])


def test_what_templates_fill_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of()
    provider = PROVIDERS["Office365"]
    changed = Identity(Family.MICROSOFT, {"Public": Cloud("https://new.example", ("new",), ("new",))})
    monkeypatch.setitem(PROVIDERS, "Office365", type(provider)(provider.title, provider.endpoints, identity=changed))
    assert of() == before


def subject(provider: str = "Office365", **secrets: str) -> TokenSubject:
    oauth2 = OAuth2.model_validate(OFFICE)
    values = OAuth2Secrets(**{"client_secret": "old", "refresh_token": "seed", **secrets})
    return token_subject(provider, oauth2, values, level=Source.TENANT, digest=DIGEST)


def test_cloud_of_the_administrator_s_own_may_change_and_is_asked_at_once() -> None:
    oauth2 = OAuth2.model_validate({**OFFICE, "cloud": "Custom"})

    def of_cloud(*definition: Any) -> TokenSubject:
        secrets = OAuth2Secrets(client_secret="s", refresh_token="seed")
        cloud = Cloud(*definition)
        return token_subject("Office365", oauth2, secrets, level=Source.TENANT, digest=DIGEST, custom_cloud=cloud)

    first = of_cloud("https://login.cloud.example", ("send",), ("default",))
    second = of_cloud("https://other.cloud.example/adfs", ("other",), ("default",))
    kept = [(each.fingerprint, each.client, each.seed) for each in (first, second)]
    assert kept[0] == kept[1]
    assert first.attempt != second.attempt, "what the one has refused the other may grant"
    request = second.request("seed", lambda _: "")
    assert (request.endpoint, request.scopes) == ("https://other.cloud.example/adfs/acme.example", ("other",))


def test_rotated_client_secret_drops_nothing_but_is_noticed() -> None:
    before, after = subject(), subject(client_secret="new")
    assert (before.fingerprint, before.seed) == (after.fingerprint, after.seed)
    assert before.client != after.client


def test_new_seed_drops_nothing_but_is_noticed() -> None:
    before, after = subject(), subject(refresh_token="new")
    assert (before.fingerprint, before.client) == (after.fingerprint, after.client)
    assert before.seed != after.seed


def test_changed_way_of_sending_the_secret_drops_nothing_but_is_noticed() -> None:
    def sent(method: str | None) -> TokenSubject:
        auth = {"secretRef": REF, **({"secretMethod": method} if method else {})}
        values = {key: value for key, value in OFFICE.items() if key != "directoryID"}
        oauth2 = OAuth2.model_validate({**values, "clientAuth": auth, "tokenURI": "https://idp.acme.example/token"})
        return token_subject("Custom", oauth2, OAuth2Secrets("s"), level=Source.TENANT, digest=DIGEST)

    absent, basic, post = map(sent, (None, "Basic", "Post"))
    assert absent.fingerprint == basic.fingerprint == post.fingerprint
    assert basic.client != post.client
    clients = [each.request("seed", lambda _: "").client for each in (absent, basic, post)]
    assert [client and client.auth for client in clients] == [
        ClientSecret("s", SecretMethod.BASIC),
        ClientSecret("s", SecretMethod.BASIC),
        ClientSecret("s", SecretMethod.POST),
    ]


def test_no_secret_can_be_read_out_of_a_subject() -> None:
    assert "old" not in repr(subject())
    assert "'seed'" not in repr(subject())


def test_lost_operator_key_costs_no_consent() -> None:
    """Another key makes another fingerprint of the client's authentication only: that leads to a renewal."""
    oauth2 = OAuth2.model_validate(OFFICE)
    secrets = OAuth2Secrets(client_secret="s", refresh_token="r")
    old, new = (
        token_subject("Office365", oauth2, secrets, level=Source.TENANT, digest=Digester(key * 32))
        for key in (b"k", b"K")
    )
    assert (old.fingerprint, old.seed) == (new.fingerprint, new.seed)
    assert old.client != new.client


def through(proxy: Proxy | None) -> TokenSubject:
    oauth2 = OAuth2.model_validate(OFFICE)
    return token_subject("Office365", oauth2, OAuth2Secrets("s"), level=Source.TENANT, digest=DIGEST, proxy=proxy)


def test_another_proxy_drops_nothing_and_is_tried_at_once() -> None:
    proxies = [Proxy(ProxyProtocol.HTTP, "p", 1, Credentials("u", word)) for word in ("s3cret", "other")]
    subjects = [through(None), *map(through, proxies)]
    assert len({each.fingerprint for each in subjects}) == 1
    assert len({each.client for each in subjects}) == 1
    assert len({each.attempt for each in subjects}) == 3
    assert "s3cret" not in repr(subjects)
    assert subjects[1].request("refresh", lambda _audience: "").proxy == proxies[0]
