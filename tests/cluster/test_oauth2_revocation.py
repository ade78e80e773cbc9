"""The refresh token of deleted settings is revoked at the provider, if an option asks for it; nobody waits for long."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from aiohttp import web

from dev.cluster import Cluster
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, OperatorProcess
from mailsettings.api import names
from tests.cluster.conftest import consent_environment, operator_environment
from tests.cluster.test_oauth2 import KIND, SYSTEM_KIND, give_secret, oauth2_spec, remove_system, stored, uid_of
from tests.support.components import revoke_tokens, without_revoke_tokens
from tests.support.history import events_about
from tests.support.identity_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    Behaviour,
    IdentityProvider,
    RegisteredClient,
    hanging,
    saying,
)
from tests.support.kube import Json, Kube
from tests.support.smtp_server import MailServer

OTHER_FINALIZER: Final = "example.com/other"
NEVER: Final = saying({"error": "temporarily_unavailable"}, 503, Retry_After="3600")
"""Asks for more time than there is."""
GC_S: Final = 60.0
"""Half a minute passes until Kubernetes' garbage collector knows a kind that has just been installed."""

Mail = Callable[[IdentityProvider], MailServer]


def settings_with(kube: Kube, *finalizers: str) -> list[str]:
    """The names of all settings in the cluster that have one of the finalizers."""
    found = [
        item
        for plural in (names.TENANT_PLURAL, names.CLUSTER_PLURAL)
        for item in kube.api.request("GET", f"/apis/{names.API_VERSION}/{plural}")["items"]
    ]
    return [item["metadata"]["name"] for item in found if {*finalizers} & {*item["metadata"].get("finalizers", ())}]


@pytest.fixture(scope="module")
def environment(installed: Cluster, tmp_path_factory: pytest.TempPathFactory, external_url: str) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("environment")
    consent = consent_environment(external_url, external_url)
    return {**operator_environment(folder), **consent, "MAILSETTINGS_OAUTH2_REVOKE": "true"}


@pytest.fixture(scope="module")
def revoking_process(
    installed: Cluster,
    operator_process: OperatorProcess,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    """In place of the shared one, which would take the finalizers away."""
    operator_process.stop()
    kube = Kube(installed.api())
    with revoke_tokens(installed):
        process = OperatorProcess(installed, tmp_path_factory.mktemp("revoking"), environment)
        yield process
        process.stop()
        without = OperatorProcess(
            installed,
            tmp_path_factory.mktemp("without"),
            {**environment, "MAILSETTINGS_OAUTH2_REVOKE": "false"},
        )
        without.start()
        try:
            kube.wait(lambda: not settings_with(kube, names.FINALIZER), "all settings to be without the finalizer")
        finally:
            without.stop()


@pytest.fixture
def operator(revoking_process: OperatorProcess) -> OperatorProcess:
    if not revoking_process.is_running():
        revoking_process.start()
    return revoking_process


@pytest.fixture
def namespace(new_namespace: Callable[..., str]) -> str:
    """One that a test may delete itself."""
    return new_namespace()


@pytest.fixture
def create(operator: OperatorProcess, kube: Kube, namespace: str, mail_server_of: Mail) -> Callable[..., Json]:
    """Creates the settings `mail`, whose token can be revoked, and waits until they work; what the token is."""

    def create_settings(provider: IdentityProvider, **oauth2: Any) -> Json:
        give_secret(kube, namespace, provider)
        oauth2 = {"revocationURI": provider.revocation_uri, **oauth2}
        spec = oauth2_spec(provider, mail_server_of(provider), "RefreshToken", **oauth2)
        uid = kube.create(KIND, "mail", namespace, spec=spec)["metadata"]["uid"]
        kube.wait_ready("mail", namespace)
        token = stored(kube, uid)
        assert token is not None
        return token

    return create_settings


def finalizers(kube: Kube, name: str, namespace: str | None = None) -> list[str]:
    settings = kube.settings(name, namespace)
    assert settings is not None
    return list(settings["metadata"].get("finalizers", ()))


def wait_told(kube: Kube, namespace: str, name: str) -> str:
    """The one event that says that a token was not revoked."""

    def look() -> list[str]:
        events = events_about(kube, namespace, name)
        return [str(event["note"]) for event in events if event["reason"] == "TokenNotRevoked"]

    (note,) = kube.wait(look, "the event TokenNotRevoked")
    return str(note)


def told(kube: Kube, namespace: str, name: str) -> list[Json]:
    return [event for event in events_about(kube, namespace, name) if event["reason"] == "TokenNotRevoked"]


def test_deleted_settings_have_their_token_revoked(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    token = create(provider)
    uid = uid_of(kube, "mail", namespace)
    assert finalizers(kube, "mail", namespace) == [names.FINALIZER]

    kube.delete(KIND, "mail", namespace)

    kube.wait_gone(KIND, "mail", namespace)
    (request,) = provider.revocation_requests
    assert request.form == {"token": token["refresh_token"], "token_type_hint": "refresh_token"}
    assert request.headers["Authorization"].startswith("Basic ")
    assert not provider.is_live(token["access_token"])
    kube.wait_gone("Secret", names.token_secret_name(uid), NAMESPACE)
    kube.wait_gone("Secret", "mail-smtp", namespace, timeout=GC_S)
    assert told(kube, namespace, "mail") == []


def test_finalizer_is_put_on_once_and_changes_nothing_else(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    before = kube.settings("mail", namespace)
    assert before is not None
    # What asks the operator to look at the settings again, and has nothing to do with them otherwise.
    kube.patch(KIND, "mail", namespace, metadata={"annotations": {"example.com/note": "x"}})
    kube.patch(KIND, "mail", namespace, metadata={"annotations": {names.ANNOTATION_PROBE_REQUESTED_AT: "now"}})
    kube.wait(
        lambda: (kube.settings("mail", namespace) or {})["status"]["probe"].get("lastHandledRequest") == "now",
        "another look at the settings",
    )
    after = kube.settings("mail", namespace)
    assert after is not None
    assert finalizers(kube, "mail", namespace) == [names.FINALIZER]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["spec"] == before["spec"]


def test_provider_that_recovers_is_asked_again(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    token = create(provider)
    provider.revocations.extend([saying("", 503), saying({"error": "unsupported_token_type"}, 400)])
    kube.delete(KIND, "mail", namespace)
    kube.wait_gone(KIND, "mail", namespace)
    assert len(provider.revocation_requests) == 3
    assert not provider.is_live(token["access_token"])
    assert told(kube, namespace, "mail") == []


def test_provider_that_asks_for_more_time_than_there_is_keeps_nobody_waiting(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    token = create(provider)
    provider.revocations.append(NEVER)
    kube.delete(KIND, "mail", namespace)
    kube.wait_gone(KIND, "mail", namespace)
    note = wait_told(kube, namespace, "mail")
    assert "the provider answered 503" in note
    assert "Withdraw the consent by hand" in note
    assert token["refresh_token"] not in note
    assert len(provider.revocation_requests) == 1


def test_client_whose_credentials_are_gone_tries_once_without(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.delete("Secret", "oauth2", namespace)
    kube.wait_condition("mail", namespace, "CredentialsResolved", "False")
    kube.delete(KIND, "mail", namespace)
    kube.wait_gone(KIND, "mail", namespace)
    (request,) = provider.revocation_requests
    assert (request.form["client_id"], "Authorization" in request.headers) == (CLIENT_ID, False)
    assert "answered 401 invalid_client" in wait_told(kube, namespace, "mail")


def test_namespace_is_deleted_with_its_consent(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    provider.register(RegisteredClient())
    token = create(provider, clientAuth=None)
    kube.delete("Namespace", namespace)
    kube.wait_gone("Namespace", namespace)
    assert not provider.is_live(token["access_token"])
    assert told(kube, "default", namespace) == []


def test_namespace_does_not_wait_for_a_provider_that_does_not_revoke(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    provider.revocations.append(NEVER)
    kube.delete("Namespace", namespace)
    kube.wait_gone("Namespace", namespace)
    assert f"MailServerSettings {namespace}/mail" in wait_told(kube, "default", namespace)
    (event,) = told(kube, "default", namespace)
    assert (event["regarding"]["apiVersion"], event["regarding"]["kind"]) == ("v1", "Namespace")


def test_restart_on_the_way_begins_again(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider, operator: OperatorProcess
) -> None:
    token = create(provider)
    provider.revocations.append(hanging())
    kube.delete(KIND, "mail", namespace)
    kube.wait(lambda: provider.revocation_requests, "the first attempt")
    operator.kill()
    assert finalizers(kube, "mail", namespace) == [names.FINALIZER]
    operator.start()
    kube.wait_gone(KIND, "mail", namespace)
    assert not provider.is_live(token["access_token"])


def test_renewal_under_way_is_waited_for(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider, loop_thread: LoopThread
) -> None:
    """The token that it gives is the one that is revoked."""
    provider.detects_reuse = True
    create(provider)
    reached, let_through = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        reached.set()
        await let_through.wait()
        form = {name: str(value) for name, value in (await request.post()).items()}
        return web.json_response(provider._grant(request, form))

    provider.answers.append(slow)
    # A new client secret is verified by a renewal at once.
    provider.register(RegisteredClient(secret="new-secret"))
    kube.patch("Secret", "oauth2", namespace, stringData={"secret": "new-secret"})
    kube.wait(reached.is_set, "the renewal")
    kube.delete(KIND, "mail", namespace)
    kube.wait(lambda: (kube.settings("mail", namespace) or {})["metadata"].get("deletionTimestamp"), "the deletion")
    assert provider.revocation_requests == []

    async def go_on() -> None:
        let_through.set()

    loop_thread.run(go_on())
    kube.wait_gone(KIND, "mail", namespace)
    (request,) = provider.revocation_requests
    newest = [*provider._refresh_tokens][-1]
    assert request.form["token"] == newest


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"auth": {"oauth2": {"revocationURI": None}}}, id="no endpoint"),
        pytest.param({"auth": None}, id="no login"),
    ],
)
def test_finalizer_goes_where_nothing_is_to_be_revoked_any_more(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider, change: Json
) -> None:
    create(provider)
    kube.patch(KIND, "mail", namespace, metadata={"finalizers": [names.FINALIZER, OTHER_FINALIZER]})
    kube.patch(KIND, "mail", namespace, spec=change)
    kube.wait(lambda: finalizers(kube, "mail", namespace) == [OTHER_FINALIZER], "the finalizer to go")
    kube.patch(KIND, "mail", namespace, metadata={"finalizers": None})
    kube.delete(KIND, "mail", namespace)
    kube.wait_gone(KIND, "mail", namespace)
    assert provider.revocation_requests == []


def test_foreign_finalizer_is_left_alone(
    create: Callable[..., Json], kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    create(provider)
    kube.patch(KIND, "mail", namespace, metadata={"finalizers": [OTHER_FINALIZER, names.FINALIZER]})
    kube.delete(KIND, "mail", namespace)
    kube.wait(lambda: finalizers(kube, "mail", namespace) == [OTHER_FINALIZER], "the finalizer to go")
    assert len(provider.revocation_requests) == 1
    kube.patch(KIND, "mail", namespace, metadata={"finalizers": None})
    kube.wait_gone(KIND, "mail", namespace)


@pytest.mark.parametrize("behaviour", [saying({"error": "invalid_grant"}, 400), None], ids=["no token", "no endpoint"])
def test_nothing_to_revoke_needs_no_finalizer(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    mail_server_of: Mail,
    behaviour: Behaviour | None,
) -> None:
    give_secret(kube, namespace, provider)
    endpoint = {"revocationURI": provider.revocation_uri} if behaviour else {}
    provider.answers.extend([behaviour] if behaviour else [])
    spec = oauth2_spec(provider, mail_server_of(provider), "RefreshToken", **endpoint)
    kube.create(KIND, "mail", namespace, spec=spec)
    kube.wait_condition("mail", namespace, "Authorized", "False" if behaviour else "True")
    assert finalizers(kube, "mail", namespace) == []
    kube.delete(KIND, "mail", namespace)
    assert kube.settings("mail", namespace) is None
    assert provider.revocation_requests == []


def test_token_of_settings_that_were_changed_just_before_is_sent_nowhere(
    create: Callable[..., Json],
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    provide: Callable[..., IdentityProvider],
    operator: OperatorProcess,
) -> None:
    """Nobody gets another provider's refresh token by an edit of the endpoints."""
    create(provider)
    other = provide()
    operator.stop()
    uris = {"tokenURI": other.token_uri, "revocationURI": other.revocation_uri}
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": uris}})
    kube.delete(KIND, "mail", namespace)
    operator.start()
    kube.wait_gone(KIND, "mail", namespace)
    assert "as they were before" in wait_told(kube, namespace, "mail")
    assert provider.revocation_requests == other.asked == []


def test_option_that_is_switched_off_leaves_no_finalizer(
    create: Callable[..., Json],
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    operator: OperatorProcess,
    installed: Cluster,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Not even on settings that cannot be worked out."""
    token = create(provider)
    kube.delete("Secret", "oauth2", namespace)
    kube.wait_condition("mail", namespace, "CredentialsResolved", "False")
    assert finalizers(kube, "mail", namespace) == [names.FINALIZER]
    operator.stop()
    off = {**environment, "MAILSETTINGS_OAUTH2_REVOKE": "false"}
    without = OperatorProcess(installed, tmp_path_factory.mktemp("off"), off)
    without.start()
    try:
        kube.wait(lambda: finalizers(kube, "mail", namespace) == [], "the finalizer to go")
        kube.delete(KIND, "mail", namespace)
        kube.wait_gone(KIND, "mail", namespace)
    finally:
        without.stop()
    assert provider.revocation_requests == []
    assert provider.is_live(token["access_token"])


def test_missing_right_holds_nothing_up(
    operator: OperatorProcess,
    create: Callable[..., Json],
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    installed: Cluster,
) -> None:
    with without_revoke_tokens(installed):
        create(provider)
        assert finalizers(kube, "mail", namespace) == []
        assert f"the finalizer {names.FINALIZER} is not put on it" in operator.log_text()
        kube.delete(KIND, "mail", namespace)
        assert kube.settings("mail", namespace) is None


def test_cluster_object_is_revoked_for_all(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    mail_server_of: Mail,
) -> None:
    name = f"system-{namespace}"
    kube.secret(name, NAMESPACE, **{"secret": CLIENT_SECRET, "refresh-token": provider.consent()})
    endpoint = {"revocationURI": provider.revocation_uri}
    spec = oauth2_spec(provider, mail_server_of(provider), "RefreshToken", **endpoint)
    spec["auth"]["oauth2"]["clientAuth"]["secretRef"]["name"] = name
    spec["auth"]["oauth2"]["refreshTokenSecretRef"]["name"] = name
    spec["tenants"] = {"delivery": "Credentials", "namespaces": [namespace]}
    kube.create(SYSTEM_KIND, name, spec=spec)
    kube.wait_ready(name)
    uid = uid_of(kube, name)
    kube.create(KIND, "mail", namespace, spec={"systemSettingsRef": {"name": name}})
    kube.wait_ready("mail", namespace)
    assert finalizers(kube, "mail", namespace) == []  # what is inherited is not the tenant's to revoke
    assert finalizers(kube, name) == [names.FINALIZER]

    remove_system(kube, name)

    kube.wait_gone(SYSTEM_KIND, name)
    kube.wait_gone("Secret", names.token_secret_name(uid), NAMESPACE)
    (request,) = provider.revocation_requests
    assert request.form["token_type_hint"] == "refresh_token"
    kube.wait_condition("mail", namespace, "Accepted", "False", "SystemSettingsNotFound")
    kube.delete("Secret", name, NAMESPACE)


def test_no_secret_is_in_the_log(operator: OperatorProcess) -> None:
    log = operator.log_text()
    assert "is not revoked: the provider answered 503" in log
    assert CLIENT_SECRET not in log
    assert "0.AX" not in log  # how the provider's refresh tokens begin
