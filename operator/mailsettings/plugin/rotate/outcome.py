"""Whether a token can be renewed on request, and what has become of the request. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.grants import CONSENT_GRANTS
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.api.status import OAuth2Status
from mailsettings.plugin.advice import Known, advice_lines, filled, known_of, message_lines, parted
from mailsettings.plugin.authorize.target import title_of
from mailsettings.plugin.command import PROGRAM, CommandError

_AWAITED: Final = (Reason.CONSENT_REQUIRED, Reason.TOKEN_DROPPED)

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a request."""

    renewed: bool
    reason: str
    message: str
    status: OAuth2Status | None = None

    def lines(self, known: Known) -> list[str]:
        """For a person. A line that begins with a blank is for copying."""
        failure = self.status.failure if self.status is not None else None
        if failure is None or failure.cause != self.reason:
            return message_lines(self.reason, self.message, known)
        remedy, commands = parted(failure.remedy or "")
        found = tuple(filled(command, known) for command in commands)
        happened = f"{self.reason}: {failure.message} It is tried again at {failure.retry_at}."
        return [happened, *advice_lines(remedy, found, failure.docs or "", self.reason)]

    def document(self) -> dict[str, Any]:
        """For a program."""
        status = self.status
        times = {
            "lastRefreshTime": status.last_refresh_time if status else None,
            "accessTokenExpiresAt": status.access_token_expires_at if status else None,
        }
        return {"renewed": self.renewed, "reason": self.reason, "message": self.message, **times}


def check(document: Json) -> None:
    """Makes sure that there is something to renew.

    Raises:
        CommandError: There is not; the message says what to do instead.
    """
    named, spec = title(document), document.get("spec") or {}
    if document["metadata"].get("deletionTimestamp"):
        raise CommandError("NotFound", f"{named} is being deleted.")
    system = MailServerSettingsSpec.inherits_from(spec) if document["kind"] == names.TENANT_KIND else None
    if system is not None:
        raise CommandError(
            "Inherited",
            f"{named} uses the system's settings, so the token is theirs, one for all tenants. An administrator of "
            "the mail server has it renewed:",
            f"{PROGRAM} rotate --cluster {system}",
        )
    oauth2 = (spec.get("auth") or {}).get("oauth2")
    if oauth2 is None:
        raise CommandError("NoOAuth2", f"{named} has no auth.oauth2, so there is no token to renew.")
    authorized = _condition(document, ConditionType.AUTHORIZED)
    is_awaited = authorized is not None and authorized.get("reason") in _AWAITED
    if oauth2.get("grant") in CONSENT_GRANTS and is_awaited:
        command = filled(f"{PROGRAM} authorize NAME", known_of(document))
        raise CommandError("ConsentRequired", f"Nobody has consented for {named} yet:", command)


def title(document: Json) -> str:
    """The settings, for people."""
    metadata = document["metadata"]
    return title_of(document["kind"], metadata.get("namespace", ""), metadata["name"])


def outcome(document: Json, request: str) -> Outcome | None:
    """What has become of a request; None: it is not known yet.

    Args:
        document: The settings as they are now.
        request: What the annotation was set to.
    """
    if (document["metadata"].get("annotations") or {}).get(names.ANNOTATION_ROTATE_REQUESTED_AT) != request:
        message = "Somebody else has asked for a renewal since; the settings' status has its result."
        return Outcome(renewed=False, reason="Superseded", message=message)
    status = _oauth2(document)
    if status is not None and status.last_handled_request == request:
        return _handled(status)
    for kind in (ConditionType.ACCEPTED, ConditionType.CREDENTIALS_RESOLVED):
        found = _condition(document, kind)
        if found is not None and found["status"] == "False":
            message = f"{found['message'].rstrip('.')}. Until that is mended nothing is renewed."
            return Outcome(renewed=False, reason=found["reason"], message=message)
    return None


def unanswered(document: Json, waited: str) -> CommandError:
    """What is said when the time is up."""
    status, authorized = _oauth2(document), _condition(document, ConditionType.AUTHORIZED)
    told = f" {authorized['message']}" if authorized is not None and authorized["status"] != "True" else ""
    if status is not None and status.failure is not None:
        told = f" {status.failure.explained} It is tried again at {status.failure.retry_at}."
    rest = "The request stays; if nothing happens, the operator does not run."
    return CommandError("TimedOut", f"The token was not renewed within {waited}.{told} {rest}")


def _handled(status: OAuth2Status) -> Outcome:
    failure = status.failure
    if failure is not None:
        message = f"{failure.explained} It is tried again at {failure.retry_at}."
        return Outcome(renewed=False, reason=failure.cause, message=message, status=status)
    until = f"; it runs out at {status.access_token_expires_at}" if status.access_token_expires_at else ""
    message = f"The token for {status.account} was renewed{until}."
    return Outcome(renewed=True, reason="Renewed", message=message, status=status)


def _oauth2(document: Json) -> OAuth2Status | None:
    try:
        return OAuth2Status.model_validate((document.get("status") or {}).get("oauth2"))
    except ValidationError:
        return None


def _condition(document: Json, wanted: ConditionType) -> dict[str, Any] | None:
    conditions = (document.get("status") or {}).get("conditions") or ()
    generation = document["metadata"]["generation"]
    for each in conditions:
        if each["type"] == wanted and each.get("observedGeneration") == generation:
            return dict(each)
    return None
