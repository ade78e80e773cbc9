"""`kubectl mailsettings rotate`: what there is to renew, and what has become of a request."""

from typing import Any, Final

import pytest

from mailsettings.api import names
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.rotate.outcome import check, outcome, unanswered

REQUEST: Final = "2026-11-23T03:00:00.000000+00:00"
OAUTH2: Final = {"grant": "RefreshToken", "username": "no-reply@acme.example"}
RELAY: Final = {"username": "shop.mail"}
TOKEN: Final = {"tokenState": "Generated", "account": "no-reply@acme.example", "lastHandledRequest": REQUEST}
FAILURE: Final = {
    "cause": "ClientAuthInvalid",
    "message": "No.",
    "transient": False,
    "time": "2026-11-23T03:00:00Z",
    "retryAt": "2026-11-23T04:00:00Z",
    "consecutiveFailures": 1,
    "attempt": "x",
}


def settings(spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    annotations = {names.ANNOTATION_ROTATE_REQUESTED_AT: REQUEST}
    metadata = {"name": "mail", "namespace": "shop", "generation": 1, "annotations": annotations}
    return {"kind": names.TENANT_KIND, "metadata": metadata, "spec": spec, "status": status}


def condition(kind: str, status: str, reason: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": "So.", "observedGeneration": 1}


def own(**fields: Any) -> dict[str, Any]:
    return {"connection": {"host": "mail.acme.example"}, **fields}


class TestCheck:
    @pytest.mark.parametrize("spec", [{}, own(), own(auth={"oauth2": OAUTH2})])
    def test_what_the_relay_sends_for_has_a_password(self, spec: dict[str, Any]) -> None:
        check(settings(spec, relay=RELAY))

    @pytest.mark.parametrize(("spec", "reason"), [({}, "Inherited"), (own(), "NoOAuth2")])
    @pytest.mark.parametrize("relay", [None, {"messages": None}])
    def test_what_it_does_not_send_for_has_none(self, spec: dict[str, Any], reason: str, relay: Any) -> None:
        with pytest.raises(CommandError) as error:
            check(settings(spec, relay=relay))
        assert error.value.reason == reason


class TestOutcome:
    def test_a_password(self) -> None:
        assert outcome(settings({}, relay=RELAY), REQUEST) is None
        assert outcome(settings({}, relay={**RELAY, "lastHandledRequest": "before"}), REQUEST) is None
        found = outcome(settings({}, relay={**RELAY, "lastHandledRequest": REQUEST}), REQUEST)
        assert found is not None
        assert (found.renewed, found.reason) == (True, "Renewed")
        assert "shop.mail" in found.message
        assert "24 hours" in found.message
        assert found.document()["accessTokenExpiresAt"] is None

    def test_both(self) -> None:
        spec, done = own(auth={"oauth2": OAUTH2}), {**RELAY, "lastHandledRequest": REQUEST}
        assert outcome(settings(spec, relay=done), REQUEST) is None
        assert outcome(settings(spec, relay=RELAY, oauth2=TOKEN), REQUEST) is None
        found = outcome(settings(spec, relay=done, oauth2=TOKEN), REQUEST)
        assert found is not None
        assert found.renewed
        assert "The token for" in found.message
        assert "new password" in found.message
        failed = outcome(settings(spec, relay=done, oauth2={**TOKEN, "failure": FAILURE}), REQUEST)
        assert failed is not None
        assert (failed.renewed, failed.reason) == (False, "ClientAuthInvalid")

    def test_the_systems_token_is_not_waited_for(self) -> None:
        found = outcome(settings({}, relay={**RELAY, "lastHandledRequest": REQUEST}, oauth2=None), REQUEST)
        assert found is not None
        assert found.renewed

    def test_a_relay_that_is_not_there(self) -> None:
        conditions = [condition("Delivered", "False", "RelayUnavailable")]
        found = outcome(settings({}, relay=RELAY, conditions=conditions), REQUEST)
        assert found is not None
        assert (found.renewed, found.reason) == (False, "RelayUnavailable")
        spec = own(auth={"oauth2": OAUTH2})
        assert outcome(settings(spec, conditions=conditions), REQUEST) is None

    def test_the_time_is_up(self) -> None:
        assert unanswered(settings({}, relay=RELAY), "5 s").message.startswith("The password was not renewed")
        spec = own(auth={"oauth2": OAUTH2})
        assert unanswered(settings(spec, relay=RELAY), "5 s").message.startswith("The token was not renewed")
