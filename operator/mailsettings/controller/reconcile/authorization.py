"""Keeps tokens live and puts them in the place of a login."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.status import OAuth2Failure, OAuth2Status, ProbeStatus
from mailsettings.controller.keys import Kind
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.reconcile.consent import further_consents, terms_of
from mailsettings.controller.reconcile.revoking import REFUSED_RETRY_SECONDS, keep_finalizer, set_finalizer
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.renewals import Renewal
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.credentials import ObjectRef, Resolution, ResolvedSettings
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding, failed
from mailsettings.core.oauth2 import lifecycle, risks
from mailsettings.core.oauth2.lifecycle import FailedRenewal
from mailsettings.core.oauth2.risks import ClientEnds
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.stored import StoredToken
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
    renewing: ResolvedSettings | None = None
    """The same where the settings cannot be delivered as they are, for Secrets that have been delivered before."""
    finding: Finding | None = None
    """None: the settings have no OAuth2, or what it needs cannot be read."""
    status: OAuth2Status | None = None
    failed: FailedRenewal | None = None
    """A failure that `status` contains and that can be dropped once it is written."""


async def authorize(
    services: Services,
    record: SettingsRecord,
    settings: Resolution,
    before: OAuth2Status | None,
    probed: ProbeStatus | None,
) -> Authorization:
    """Has a token renewed when that is due, asks to be called again when it is, and puts it in place.

    Args:
        services: the shared ones.
        record: the object.
        settings: what is known of its settings.
        before: what the status says of the token.
        probed: what the status says of the probe, which may have found the token refused.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    place = _place(services, record)
    subject = subject_of(services, settings.renewable)
    await further_consents(services, record, place, subject)
    if subject is None and settings.resolved is not None:
        return Authorization(settings.resolved, status=await give_up_token(services, record, before))
    if subject is None:
        return await _stranded(services, record, settings.effective, before)
    try:
        held = await _belonging(services, record, place, subject)
    except ApiError as error:
        return _unreachable_token(services, record, before, error)
    stored, now = held.token if held else None, datetime.now(UTC)
    await keep_finalizer(services, record, subject, stored)
    failure, failed = await _failures(services, record, subject, stored, before)
    page = _page(services, record, subject)
    decision = lifecycle.decide(
        stored,
        subject,
        failure,
        now=now,
        seed=record.uid,
        urgency=lifecycle.urgency_of(
            stored,
            failure,
            probed,
            record.rotation,
            relayed=stored is not None and services.reports.is_refused(record, stored.access_token, stored.serial),
        ),
        awaited=lifecycle.awaited_consent(
            subject,
            page,
            command=lifecycle.authorize_command(record.key.namespace, record.key.name),
            dropped=held is not None and held.dropped,
        ),
        unstored=services.renewals.refused(record.key),
    )
    found = risks.risks(subject, stored, _client_ends(settings.renewable))
    told = risks.standing(found, now)
    if decision.due is not None and decision.due <= now:
        renewal = Renewal(place, subject, stored.serial if stored else None, request=record.rotation)
        services.renewals.start(record.key, renewal)
    # At the end of a token the condition changes, whether the provider answers or not.
    for moment in (decision.due, stored.expires_at if stored else None, risks.next_due(found, now)):
        if moment is not None and moment > now:
            services.enqueue_after(record.key, (moment - now).total_seconds())
    token = stored if decision.finding.holds else None
    return Authorization(
        resolved=_with_token(settings.resolved, token),
        renewing=_with_token(settings.renewable, token),
        finding=risks.warned(decision.finding, told),
        status=lifecycle.oauth2_status(stored, subject, decision, now, page=page, warnings=risks.warnings(told)),
        failed=failed,
    )


def _with_token(settings: ResolvedSettings | None, stored: StoredToken | None) -> ResolvedSettings | None:
    return settings.authorized(stored) if settings is not None and stored is not None else None


async def _stranded(
    services: Services, record: SettingsRecord, effective: EffectiveSettings, before: OAuth2Status | None
) -> Authorization:
    """What the token is renewed with cannot be read. It stays, and so does what is known of it, as long as it lives."""
    if not isinstance(effective.auth, OAuth2) or before is None:
        return Authorization(None, status=before)
    # Without its secrets: just what the token belongs to.
    bare = ResolvedSettings(effective, effective.server, None, OAuth2Secrets())
    subject, held, now = subject_of(services, bare), await services.tokens.read(record.uid), datetime.now(UTC)
    if subject is None or held is None or held.token is None or not held.token.belongs_to(subject):
        return Authorization(None, status=before)
    if held.token.is_live(now):
        services.enqueue_after(record.key, (held.token.expires_at - now).total_seconds())
    decision = lifecycle.stranded(held.token, before.failure, now)
    page = _page(services, record, subject)
    status = lifecycle.oauth2_status(held.token, subject, decision, now, page=page)
    return Authorization(None, finding=decision.finding, status=status)


def subject_of(services: Services, resolved: ResolvedSettings | None) -> TokenSubject | None:
    """What a token is asked for; None: the settings have no OAuth2, or what that needs cannot be read."""
    auth = resolved.effective.auth if resolved is not None else None
    if resolved is None or not isinstance(auth, OAuth2) or resolved.oauth2 is None:
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


async def _failures(
    services: Services,
    record: SettingsRecord,
    subject: TokenSubject,
    stored: StoredToken | None,
    before: OAuth2Status | None,
) -> tuple[OAuth2Failure | None, FailedRenewal | None]:
    """What is to be said of attempts that have failed, and the one that is not in the status yet."""
    failure = lifecycle.still_meant(before.failure if before else None, stored, subject, services.digest)
    failed = services.renewals.failed(record.key, subject)
    if failed is None:
        return failure, None
    # What a person tried tells nothing of a token that is held, nor of why that one cannot be renewed.
    if failed.of_consent and stored is not None:
        await _announce(services, record, failed.fault.reason, failed.fault.message)
        return failure, failed
    return lifecycle.record(failed, failure, services.digest, seed=record.uid), failed


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


def _client_ends(settings: ResolvedSettings | None) -> ClientEnds:
    if settings is None or settings.oauth2 is None:
        return ClientEnds(certificate=None, annotation=None)
    certificate = settings.oauth2.certificate
    life = certificate_life(certificate) if certificate is not None else None
    return ClientEnds(certificate=life, annotation=settings.client_expires_at)


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
    follows = "somebody has to consent again" if subject.oauth2.needs_consent else "a new one is got"
    message = f"The token belonged to the settings as they were before: it is used no more, and {follows}."
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
    return Authorization(None, finding=failed(Reason.TOKEN_NOT_STORED, message), status=before)


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
