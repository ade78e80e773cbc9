"""Whether a token, or a password at the relay, can be renewed on request, and what becomes of the request. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.grants import CONSENT_GRANTS
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.api.status import OAuth2Status, RelayStatus
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
    if _username(document) is not None:
        return  # there is a password at the relay, whatever else there is
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
    parts = _parts(document)
    known = [found for found in (part(document, request) for part in parts) if found is not None]
    if parts and len(known) == len(parts):
        return _joined(known)
    kinds = [ConditionType.ACCEPTED, ConditionType.CREDENTIALS_RESOLVED]
    for kind in [*kinds, ConditionType.DELIVERED] if _username(document) is not None else kinds:
        condition = _condition(document, kind)
        if condition is not None and condition["status"] == "False":
            message = f"{condition['message'].rstrip('.')}. Until that is mended nothing is renewed."
            return Outcome(renewed=False, reason=condition["reason"], message=message)
    return None


def unanswered(document: Json, waited: str) -> CommandError:
    """What is said when the time is up."""
    status, authorized = _oauth2(document), _condition(document, ConditionType.AUTHORIZED)
    told = f" {authorized['message']}" if authorized is not None and authorized["status"] != "True" else ""
    if status is not None and status.failure is not None:
        told = f" {status.failure.explained} It is tried again at {status.failure.retry_at}."
    rest = "The request stays; if nothing happens, the operator does not run."
    what = "The password" if _parts(document) == [_of_password] else "The token"
    return CommandError("TimedOut", f"{what} was not renewed within {waited}.{told} {rest}")


def _parts(document: Json) -> list[Callable[[Json, str], Outcome | None]]:
    """What a request is for: each says what has become of it there."""
    spec = document.get("spec") or {}
    inherits = document["kind"] == names.TENANT_KIND and MailServerSettingsSpec.inherits_from(spec) is not None
    has_token = not inherits and (spec.get("auth") or {}).get("oauth2") is not None
    return [*([_of_token] if has_token else []), *([_of_password] if _username(document) is not None else [])]


def _joined(found: list[Outcome]) -> Outcome:
    """One that failed, or all of them."""
    failed = next((each for each in found if not each.renewed), None)
    if failed is not None:
        return failed
    return replace(found[0], message=" ".join(each.message for each in found))


def _of_token(document: Json, request: str) -> Outcome | None:
    status = _oauth2(document)
    if status is None or status.last_handled_request != request:
        return None
    failure = status.failure
    if failure is not None:
        message = f"{failure.explained} It is tried again at {failure.retry_at}."
        return Outcome(renewed=False, reason=failure.cause, message=message, status=status)
    until = f"; it runs out at {status.access_token_expires_at}" if status.access_token_expires_at else ""
    message = f"The token for {status.account} was renewed{until}."
    return Outcome(renewed=True, reason="Renewed", message=message, status=status)


def _of_password(document: Json, request: str) -> Outcome | None:
    relay = _relay(document)
    if relay is None or relay.last_handled_request != request:
        return None
    message = f"The Secret has a new password for {relay.username} at the relay; the old one holds another 24 hours."
    return Outcome(renewed=True, reason="Renewed", message=message)


def _relay(document: Json) -> RelayStatus | None:
    try:
        return RelayStatus.model_validate((document.get("status") or {}).get("relay"))
    except ValidationError:
        return None


def _username(document: Json) -> str | None:
    """The login at the relay; None: the settings have none."""
    relay = _relay(document)
    return relay.username if relay is not None else None


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
