"""Has the refresh token of deleted settings revoked, by a finalizer: the only one, and only where an option asks."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.providers import CUSTOM
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.controller.keys import Kind, namespace_key
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.reconcile.references import read_references
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.acceptance import parse_spec
from mailsettings.core.clock import parse_time
from mailsettings.core.credentials import client_references, resolve_client
from mailsettings.core.finding import Finding
from mailsettings.core.oauth2.revocation import (
    Attempt,
    Deletion,
    Release,
    Wait,
    is_revocable,
    needs_client,
    next_step,
)
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject, token_subject
from mailsettings.core.server import Source
from mailsettings.edges.kubernetes import ApiError, settings_path

REFUSED_RETRY_SECONDS: Final = 30.0
"""After which the API server is asked again for what it has refused."""

_SPECS: Final[dict[Kind, type[ClusterMailServerSettingsSpec | MailServerSettingsSpec]]] = {
    Kind.CLUSTER: ClusterMailServerSettingsSpec,
    Kind.TENANT: MailServerSettingsSpec,
}


async def keep_finalizer(
    services: Services, record: SettingsRecord, subject: TokenSubject, stored: StoredToken | None
) -> None:
    """Has settings wait for the revocation at their end where there is something to revoke, and only there.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    await set_finalizer(services, record, wanted=services.revokes_tokens and is_revocable(subject, stored))


async def set_finalizer(services: Services, record: SettingsRecord, *, wanted: bool) -> bool:
    """Puts the operator's finalizer on an object, or takes it away; whether it is so now.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    if record.finalized == wanted:
        return True
    path = settings_path(record.key.kind, record.key.namespace, record.key.name)
    try:
        found = await services.api.get(path)
        if found is None or found["metadata"]["uid"] != record.uid:
            return True
        metadata = found["metadata"]
        others = [name for name in metadata.get("finalizers") or () if name != names.FINALIZER]
        finalizers = [*others, names.FINALIZER] if wanted else others
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": finalizers}}
        applied = await services.api.merge(path, patch)
    except ApiError as error:
        if error.is_not_found:
            return True
        if not error.is_refusal:
            raise
        # What else there is to do must not wait for it.
        change = "put on" if wanted else "taken from"
        LOGGER.warning("%s: the finalizer %s is not %s it: %s", record.key, names.FINALIZER, change, error)
        services.enqueue_after(record.key, REFUSED_RETRY_SECONDS)
        return False
    services.echoes.wrote(applied["metadata"])
    record.finalized = wanted
    return True


@dataclass(frozen=True, slots=True)
class _Case:
    """Settings that are being deleted, and their token."""

    deletion: Deletion
    subject: TokenSubject | None = None
    """What the token was got for; None: the settings do not say it any more."""
    refresh_token: str = field(default="", repr=False)


async def finish(services: Services, record: SettingsRecord) -> None:
    """Brings settings to their end that are being deleted and wait for the operator's finalizer.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    if services.revocations.is_running(record.key):
        return
    case = await _case(services, record)
    now = datetime.now(UTC)
    match next_step(case.deletion, services.revocations.tried(record.key, record.uid), now=now):
        case Attempt():
            if case.subject is None:
                raise TypeError("a token of unknown settings is sent nowhere")
            services.revocations.start(record.key, record.uid, case.subject, case.refresh_token)
        case Wait(until):
            services.enqueue_after(record.key, (until - now).total_seconds())
        case Release(why):
            if not await set_finalizer(services, record, wanted=False):
                return
            services.revocations.forget(record.key)
            if why:
                await _tell(services, record, why)


async def _case(services: Services, record: SettingsRecord) -> _Case:
    """What there is to revoke, and with what.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    deletion = Deletion(parse_time(record.deleted_at or ""), enabled=services.revokes_tokens)
    if not deletion.enabled:
        return _Case(deletion)
    try:
        held = await services.tokens.read(record.uid)
        stored = held.token if held else None
        if held is None or stored is None or stored.refresh_token is None:
            return _Case(replace(deletion, holds_token=False))
        subject, has_client = await _subject(services, record)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return _Case(replace(deletion, unsendable="the API server refuses to have the operator read what it takes"))
    if subject is None or not is_revocable(subject, stored):
        return _Case(replace(deletion, unsendable="it belongs to the settings as they were before their last change"))
    # A renewal that is under way may replace the refresh token: its end is waited for, and leads here again.
    claimed_until = held.claim.deadline if held.claim else None
    deletion = replace(deletion, has_client=has_client, busy_until=claimed_until)
    return _Case(deletion, subject, stored.refresh_token)


async def _subject(services: Services, record: SettingsRecord) -> tuple[TokenSubject | None, bool]:
    """What the token was got for, and whether the client's credentials are there, which may go before the settings do.

    Raises:
        ApiError: the API server refused.
    """
    spec = parse_spec(_SPECS[record.key.kind], record.spec)
    oauth2 = spec.auth.oauth2 if not isinstance(spec, Finding) and spec.auth is not None else None
    if isinstance(spec, Finding) or oauth2 is None:
        return None, False
    namespace = record.key.namespace or services.operator_namespace
    referenced = await read_references(services.api, namespace, client_references(oauth2))
    secrets = resolve_client(oauth2, referenced, require_label=services.require_secret_label)
    subject = token_subject(
        spec.provider or CUSTOM,
        oauth2 if secrets is not None else oauth2.model_copy(update={"client_auth": None}),
        secrets or OAuth2Secrets(),
        level=Source.TENANT if record.key.kind is Kind.TENANT else Source.SYSTEM,
        digest=services.digest,
    )
    return subject, secrets is not None or not needs_client(subject)


async def _tell(services: Services, record: SettingsRecord, why: str) -> None:
    """That a person has to see to it. A namespace that is being deleted takes no events; so they are about itself."""
    message = (
        f"The refresh token of {record.key} may be good still: {why}. Withdraw the consent by hand: at the provider, "
        "in the settings of the account."
    )
    LOGGER.warning("%s", message)
    key, uid = record.key, record.uid
    namespace = services.store.namespaces.get(key.namespace)
    if namespace is not None and namespace.terminating:
        key, uid = namespace_key(namespace.name), namespace.uid
    await services.events.announce(key, uid, Reason.TOKEN_NOT_REVOKED, message, generation=record.generation)
