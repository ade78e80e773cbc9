"""Keeps tokens live and puts them in the place of a login."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.status import OAuth2Status, ProbeStatus
from mailsettings.controller.keys import Kind
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.reconcile.consent import further_consents, terms_of
from mailsettings.controller.reconcile.revoking import REFUSED_RETRY_SECONDS, keep_finalizer, set_finalizer
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.renewals import Renewal
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.credentials import ObjectRef, ResolvedSettings
from mailsettings.core.finding import Finding, failed
from mailsettings.core.oauth2 import lifecycle, risks
from mailsettings.core.oauth2.lifecycle import FailedRenewal
from mailsettings.core.oauth2.risks import ClientEnds
from mailsettings.core.oauth2.subject import TokenSubject, token_subject
from mailsettings.core.oauth2.terms import ConsentPage
from mailsettings.edges.kubernetes import ApiError, Json
from mailsettings.edges.oauth2.keys import certificate_life
from mailsettings.edges.token_store import HeldToken, TokenPlace


@dataclass(frozen=True, slots=True)
class Authorization:
    """What is known of an object's token."""

    resolved: ResolvedSettings | None
    """The settings with a login that is good now; None: there is none."""
    finding: Finding | None = None
    """None: the settings have no OAuth2, or what it needs cannot be read."""
    status: OAuth2Status | None = None
    failed: FailedRenewal | None = None
    """A failure that `status` contains and that can be dropped once it is written."""


async def authorize(
    services: Services,
    record: SettingsRecord,
    resolved: ResolvedSettings | None,
    before: OAuth2Status | None,
    probed: ProbeStatus | None,
) -> Authorization:
    """Has a token renewed when that is due, asks to be called again when it is, and puts it in place.

    Args:
        services: the shared ones.
        record: the object.
        resolved: its settings; None: they cannot be used as they are, so the token is left as it is.
        before: what the status says of the token.
        probed: what the status says of the probe, which may have found the token refused.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    place = _place(services, record)
    if resolved is None:
        await further_consents(services, record, place, None)
        return Authorization(None, status=before)
    subject = subject_of(services, resolved)
    if subject is None:
        await further_consents(services, record, place, None)
        return Authorization(resolved, status=await give_up_token(services, record, before))
    await further_consents(services, record, place, subject)
    try:
        held = await _belonging(services, record, place, subject)
    except ApiError as error:
        return _unreachable_token(services, record, before, error)
    stored, now = held.token if held else None, datetime.now(UTC)
    await keep_finalizer(services, record, subject, stored)
    failure = lifecycle.still_meant(before.failure if before else None, stored, subject, services.digest)
    failed = services.renewals.failed(record.key, subject)
    if failed is not None and failed.of_consent and stored is not None and stored.is_live(now):
        await _announce(services, record, failed.fault.reason, failed.fault.message)
    elif failed is not None:
        failure = lifecycle.record(failed, failure, services.digest, seed=record.uid)
    refused = lifecycle.is_refused(stored, probed)
    page = _page(services, record, subject)
    decision = lifecycle.decide(
        stored,
        subject,
        failure,
        now=now,
        seed=record.uid,
        refused=refused,
        awaited=lifecycle.awaited_consent(subject, page, dropped=held is not None and held.dropped),
        unstored=services.renewals.refused(record.key),
    )
    if decision.due is not None and decision.due <= now:
        services.renewals.start(record.key, Renewal(place, subject, stored.serial if stored else None))
    elif decision.due is not None:
        services.enqueue_after(record.key, (decision.due - now).total_seconds())
    if stored is not None and stored.is_live(now):
        # By then the condition changes, whether the provider answers or not.
        services.enqueue_after(record.key, (stored.expires_at - now).total_seconds())
    found = risks.risks(subject, stored, _client_ends(resolved))
    told = risks.standing(found, now)
    if (next_warning := risks.next_due(found, now)) is not None:
        services.enqueue_after(record.key, (next_warning - now).total_seconds())
    return Authorization(
        resolved=resolved.authorized(stored) if stored is not None and decision.finding.holds else None,
        finding=risks.warned(decision.finding, told),
        status=lifecycle.oauth2_status(stored, subject, decision, now, page=page, warnings=risks.warnings(told)),
        failed=failed,
    )


def subject_of(services: Services, resolved: ResolvedSettings) -> TokenSubject | None:
    """What tokens are asked for; None: the settings have no OAuth2."""
    auth = resolved.effective.auth
    if not isinstance(auth, OAuth2) or resolved.oauth2 is None:
        return None
    return token_subject(
        resolved.effective.provider,
        auth,
        resolved.oauth2,
        level=resolved.effective.source,
        digest=services.digest,
        custom_cloud=services.custom_cloud,
        proxy=resolved.server.proxy,
    )


async def with_live_token(services: Services, uid: str, resolved: ResolvedSettings) -> ResolvedSettings | None:
    """Own settings with the token that is held for them; None: there is no live one. Nothing is changed.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    subject = subject_of(services, resolved)
    if subject is None:
        return resolved
    held = await services.tokens.read(uid)
    stored = held.token if held is not None else None
    if stored is None or not stored.belongs_to(subject) or not stored.is_live(datetime.now(UTC)):
        return None
    return resolved.authorized(stored)


def _client_ends(resolved: ResolvedSettings) -> ClientEnds:
    certificate = resolved.oauth2.certificate if resolved.oauth2 else None
    life = certificate_life(certificate) if certificate is not None else None
    return ClientEnds(certificate=life, annotation=resolved.client_expires_at)


def token_ref(record: SettingsRecord) -> ObjectRef:
    """The Secret with the token of an object, in the operator's namespace."""
    return ObjectRef("Secret", names.token_secret_name(record.uid))


def _page(services: Services, record: SettingsRecord, subject: TokenSubject) -> ConsentPage | None:
    """Where a person can consent in a browser."""
    if not subject.oauth2.needs_consent:
        return None
    return terms_of(services, subject).page(record.uid, services.external_url)


async def _belonging(
    services: Services, record: SettingsRecord, place: TokenPlace, subject: TokenSubject
) -> HeldToken | None:
    """What is held, after a token that belongs to other settings has been dropped."""
    held = await services.tokens.read(record.uid)
    if held is None or not lifecycle.is_dropped(held.token, subject):
        return held
    held = await services.tokens.drop(place, held)
    message = "The token belonged to the settings as they were before: it is used no more, and a new one is got."
    await _announce(services, record, Reason.TOKEN_DROPPED, message)
    return held


async def _announce(services: Services, record: SettingsRecord, reason: Reason, message: str) -> None:
    """An event for what no condition shows, or not for long."""
    await services.events.announce(record.key, record.uid, reason, message, generation=record.generation)


def _unreachable_token(
    services: Services, record: SettingsRecord, before: OAuth2Status | None, error: ApiError
) -> Authorization:
    """The token cannot be read, or one of other settings cannot be dropped."""
    if not error.is_refusal:
        raise error
    services.enqueue_after(record.key, REFUSED_RETRY_SECONDS)
    message = f"The API server refuses to have the operator read or drop the token: {error}. {lifecycle.REFUSED_REMEDY}"
    return Authorization(None, failed(Reason.TOKEN_NOT_STORED, message), before)


async def give_up_token(services: Services, record: SettingsRecord, before: OAuth2Status | None) -> OAuth2Status | None:
    """Settings that had OAuth2 of their own, and have it no more, keep no token; what is left to say of it.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    services.renewals.forget(record.key)
    await set_finalizer(services, record, wanted=False)
    if before is None:
        return None
    try:
        held = await services.tokens.read(record.uid)
        if held is not None:
            await services.tokens.remove(record.uid, held)
    except ApiError as error:
        if not error.is_refusal:
            raise
        # What else there is to do must not wait for it; the status keeps it in mind.
        LOGGER.warning("%s: the token of earlier settings is not removed yet: %s", record.key, error)
        services.enqueue_after(record.key, REFUSED_RETRY_SECONDS)
        return before
    return None


def _place(services: Services, record: SettingsRecord) -> TokenPlace:
    return TokenPlace(
        kind=str(record.key.kind),
        namespace=record.key.namespace,
        name=record.key.name,
        uid=record.uid,
        owner=_owner(services, record),
    )


def _owner(services: Services, record: SettingsRecord) -> Json:
    if record.key.kind is Kind.CLUSTER:
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.CLUSTER_KIND,
            "name": record.key.name,
            "uid": record.uid,
        }
    namespace = services.store.namespaces[record.key.namespace]
    return {"apiVersion": "v1", "kind": "Namespace", "name": namespace.name, "uid": namespace.uid}
