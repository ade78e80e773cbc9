"""`kubectl mailsettings rotate` at a shell, and the annotation behind it: exactly one renewal for each new value."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from dev.operator_process import OperatorProcess
from mailsettings.api import names
from tests.cluster.conftest import server_spec
from tests.cluster.test_oauth2 import give_secret, oauth2_spec, stored, uid_of
from tests.support.identity_provider import ACCOUNT, CLIENT_SECRET, IdentityProvider
from tests.support.kube import Json, Kube
from tests.support.plugin import Person
from tests.support.smtp_server import MailServer

KIND: Final = names.TENANT_KIND


@pytest.fixture
def ready(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    mail_server_of: Callable[[IdentityProvider], MailServer],
) -> Json:
    """The settings `mail` with a token, for which the provider was asked once."""
    give_secret(kube, namespace, provider)
    kube.create(KIND, "mail", namespace, spec=oauth2_spec(provider, mail_server_of(provider), "RefreshToken"))
    settings = kube.wait_ready("mail", namespace)
    assert len(provider.token_requests) == 1
    return settings


def said(person: Person, *arguments: str) -> tuple[int, str, str]:
    with person.runs("rotate", *arguments) as running:
        return running.wait(), running.out, running.err


def handled(kube: Kube, namespace: str, value: str) -> Json:
    def look() -> Json | None:
        settings = kube.settings("mail", namespace) or {}
        oauth2: Json = settings.get("status", {}).get("oauth2", {})
        return oauth2 if oauth2.get("lastHandledRequest") == value else None

    oauth2: Json = kube.wait(look, f"the request {value} to be handled")
    return oauth2


def ask(kube: Kube, namespace: str, value: str | None) -> None:
    kube.patch(KIND, "mail", namespace, metadata={"annotations": {names.ANNOTATION_ROTATE_REQUESTED_AT: value}})


def test_a_token_is_renewed_at_once(
    ready: Json, kube: Kube, namespace: str, provider: IdentityProvider, somebody: Callable[..., Person]
) -> None:
    """With nothing but the built-in role `edit`."""
    before = kube.secret_data("mail-smtp", namespace)
    assert before is not None
    status, out, err = said(somebody("edit"), "mail")
    assert (status, err) == (0, "")
    assert " ".join(out.split()).startswith(f"Renewed: The token for {ACCOUNT} was renewed; it runs out at 20")
    assert len(provider.token_requests) == 2
    kube.wait(
        lambda: (kube.secret_data("mail-smtp", namespace) or {}).get("access-token") != before["access-token"],
        "the new token in the application's Secret",
    )


def test_each_value_leads_to_one_renewal_also_across_restarts(
    ready: Json, kube: Kube, namespace: str, provider: IdentityProvider, operator: OperatorProcess
) -> None:
    ask(kube, namespace, "1")
    assert "failure" not in handled(kube, namespace, "1")
    assert len(provider.token_requests) == 2
    operator.stop()
    operator.start()
    kube.patch(KIND, "mail", namespace, spec={"probe": {"interval": "5h"}})
    kube.wait_ready("mail", namespace)
    assert len(provider.token_requests) == 2, "a restart repeats nothing"
    ask(kube, namespace, "2")
    handled(kube, namespace, "2")
    assert len(provider.token_requests) == 3
    kept = stored(kube, uid_of(kube, "mail", namespace))
    assert kept is not None
    assert kept["request"] == "2"


def test_a_status_that_was_lost_repeats_no_renewal(
    ready: Json, kube: Kube, namespace: str, provider: IdentityProvider
) -> None:
    """Such as when the operator ends between the token and the status."""
    ask(kube, namespace, "1")
    handled(kube, namespace, "1")
    path = f"/apis/mailsettings.dev/v1alpha1/namespaces/{namespace}/mailserversettings/mail/status"
    kube.api.request("PATCH", path, {"status": {"oauth2": None}}, content_type="application/merge-patch+json")
    handled(kube, namespace, "1")
    assert len(provider.token_requests) == 2


def test_a_renewal_that_fails_is_told_and_the_next_request_does_not_wait(
    ready: Json, kube: Kube, namespace: str, provider: IdentityProvider, somebody: Callable[..., Person]
) -> None:
    person = somebody("edit")
    kube.patch("Secret", "oauth2", namespace, stringData={"secret": "wrong"})
    kube.wait_condition("mail", namespace, "Authorized", "False", "ClientAuthInvalid")
    count = len(provider.token_requests)
    status, out, err = said(person, "mail", "-o", "json")
    assert status == 1
    told = json.loads(out)
    assert (told["renewed"], told["reason"]) == (False, "ClientAuthInvalid")
    assert "See docs/troubleshooting.md#" in told["message"]
    assert "It is tried again at 20" in told["message"]
    assert err == ""
    assert len(provider.token_requests) == count + 1
    assert "wrong" not in out + err
    assert CLIENT_SECRET not in out + err


def test_what_has_no_token_of_its_own_is_refused_clearly(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    smtp: MailServer,
    somebody: Callable[..., Person],
) -> None:
    kube.create(KIND, "basic", namespace, spec=server_spec(smtp))
    kube.create(KIND, "inherits", namespace, spec={})
    person = somebody("edit")
    no_token = f"NoOAuth2: MailServerSettings {namespace}/basic has no auth.oauth2, so there is no token to renew."
    status, out, err = said(person, "basic")
    assert (status, out, " ".join(err.split())) == (1, "", no_token)
    status, _, err = said(person, "inherits")
    assert status == 1
    assert err.startswith("Inherited: ")
    assert err.endswith("\n    kubectl mailsettings rotate --cluster default\n")
    assert f"There is no MailServerSettings {namespace}/nothing." in " ".join(said(person, "nothing")[2].split())
    assert said(person, "nothing")[2].endswith(f"\n    kubectl get mss -n {namespace}\n")
    for name in ("basic", "inherits"):
        settings = kube.settings(name, namespace)
        assert settings is not None
        assert "annotations" not in settings["metadata"]


def test_settings_that_wait_for_a_consent_are_refused(
    consent_settings: dict[str, Any], namespace: str, somebody: Callable[..., Person]
) -> None:
    status, _, err = said(somebody("edit"), "mail")
    assert status == 1
    asked = " ".join(err.split())
    assert asked.startswith(f"ConsentRequired: Nobody has consented for MailServerSettings {namespace}/mail yet: ")
    assert err.endswith(f"\n    kubectl mailsettings authorize mail -n {namespace}\n")


def test_whoever_may_only_look_is_refused(ready: Json, namespace: str, somebody: Callable[..., Person]) -> None:
    status, _, err = said(somebody("view"), "mail")
    assert status == 1
    assert " ".join(err.split()).startswith(f"Forbidden: You may not change MailServerSettings {namespace}/mail: ")


def test_without_an_operator_the_time_runs_out(
    ready: Json, operator: OperatorProcess, namespace: str, somebody: Callable[..., Person]
) -> None:
    operator.stop()
    status, _, err = said(somebody("edit"), "mail", "--timeout", "1s")
    assert status == 1
    late = "TimedOut: The token was not renewed within 1 s. The request stays; if nothing happens, "
    assert " ".join(err.split()).startswith(late)


def test_settings_that_cannot_be_used_say_so_at_once(
    ready: Json, kube: Kube, namespace: str, somebody: Callable[..., Person]
) -> None:
    kube.delete("Secret", "oauth2", namespace)
    kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SecretNotFound")
    status, out, err = said(somebody("edit"), "mail", "--timeout", "30s")
    assert (status, err) == (1, "")
    assert out.startswith("SecretNotFound: ")
    assert " ".join(out.split()).endswith("Until that is mended nothing is renewed.")
