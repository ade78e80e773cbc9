"""Takes a person's consent further, from the question to the tokens."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import assert_never

from mailsettings.api import names
from mailsettings.controller.consents import Attempt
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.clock import format_time
from mailsettings.core.oauth2.consent import (
    MAX_OPEN,
    BeginDevice,
    ConsentKey,
    ConsentResult,
    Offer,
    PollDevice,
    Redeem,
    Refuse,
    Remove,
    Step,
    Wait,
    next_step,
)
from mailsettings.core.oauth2.state import FLOW_BYTES, LIFE
from mailsettings.core.oauth2.subject import TokenSubject
from mailsettings.core.oauth2.terms import ConsentTerms, begin, consent_terms
from mailsettings.edges.consents import HeldConsent
from mailsettings.edges.kubernetes import ApiError
from mailsettings.edges.token_store import TokenPlace


async def further_consents(
    services: Services, record: SettingsRecord, place: TokenPlace, subject: TokenSubject | None
) -> None:
    """Does what is next for each consent Secret of an object.

    Args:
        services: the shared ones.
        record: the object.
        place: where its token is kept.
        subject: what tokens are asked for; None: nothing, as the settings are.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    if subject is None or not subject.oauth2.needs_consent:
        await end_consents(services, record)
        return
    services.consenting.keep_only(record.key, subject.fingerprint)
    terms = terms_of(services, subject)
    async for held in _found(services, record):
        step = next_step(
            held.consent,
            terms,
            uid=record.uid,
            flows=services.flows,
            client_secret=subject.secrets.client_secret,
            now=datetime.now(UTC),
        )
        with _bearing_refusals(held):
            attempt = Attempt(record.key, place, subject, terms, held, record.rotation)
            await _take(services, attempt, step, uid=record.uid)


async def end_consents(services: Services, record: SettingsRecord) -> None:
    """Ends what people have begun for settings that ask nobody, as they are now.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    services.consenting.keep_only(record.key, None)
    async for held in _found(services, record):
        now = datetime.now(UTC)
        step = next_step(held.consent, None, uid=record.uid, flows=services.flows, client_secret=None, now=now)
        with _bearing_refusals(held):
            await _end(services, record, held, step)


async def _found(services: Services, record: SettingsRecord) -> AsyncIterator[HeldConsent]:
    """The consent Secrets of an object that are not being dealt with already."""
    homes = (record.key.namespace, services.operator_namespace)
    secrets = [secret for secret in services.store.consents_of(record.uid) if secret.namespace in homes]
    # Those of `kubectl` first: the others can be begun by anybody who knows the address of the page.
    for secret in sorted(secrets, key=lambda each: each.name.startswith(names.CONSENT_PREFIX))[:MAX_OPEN]:
        if services.consenting.is_running(secret.uid):
            continue
        held = await services.consents.read(secret.namespace, secret.name)
        if held is not None:
            yield held


@contextmanager
def _bearing_refusals(held: HeldConsent) -> Iterator[None]:
    """A consent that cannot be written to, such as an immutable Secret, must not hold up the settings themselves."""
    try:
        yield
    except ApiError as error:
        if not error.is_refusal:
            raise
        LOGGER.warning("the consent %s/%s cannot be written to: %s", held.namespace, held.name, error)


def terms_of(services: Services, subject: TokenSubject) -> ConsentTerms:
    """What a person is asked to consent to by settings whose grant needs one."""
    return consent_terms(subject.provider, subject.oauth2, custom_cloud=services.custom_cloud)


async def _take(services: Services, attempt: Attempt, step: Step, *, uid: str) -> None:
    match step:
        case Wait(until):
            services.enqueue_after(attempt.key, (until - datetime.now(UTC)).total_seconds())
        case Remove():
            await services.consents.remove(attempt.held)
        case Refuse(fault):
            await services.consenting.refuse(attempt, fault)
        case Offer(redirect_uri):
            await _offer(services, attempt, redirect_uri, uid=uid)
        case Redeem():
            services.consenting.redeem(attempt, step)
        case BeginDevice():
            services.consenting.begin_device(attempt)
        case PollDevice():
            services.consenting.poll_device(attempt, step)
        case _:
            assert_never(step)


async def _end(services: Services, record: SettingsRecord, held: HeldConsent, step: Step) -> None:
    """Of a consent that nobody asked for, or asks for any more."""
    match step:
        case Wait(until):
            services.enqueue_after(record.key, (until - datetime.now(UTC)).total_seconds())
        case Remove():
            await services.consents.remove(held)
        case Refuse(fault):
            await services.consents.finish(held, ConsentResult.of(fault, ""))
        case _:
            raise ValueError("without terms there is nothing else to do")


async def _offer(services: Services, attempt: Attempt, redirect_uri: str, *, uid: str) -> None:
    now = datetime.now(UTC)
    url = begin(
        attempt.terms,
        services.flows,
        flow=os.urandom(FLOW_BYTES),
        uid=uid,
        holder=attempt.held.consent.uid,
        redirect_uri=redirect_uri,
        now=now,
    )
    values = {ConsentKey.AUTHORIZE_URL: url, ConsentKey.EXPIRES_AT: format_time(now + LIFE)}
    await services.consents.write(attempt.held, values)
