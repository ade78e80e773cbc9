"""Delivers logins at the relay, and tells the relay of the mail servers that it sends through."""

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.output import ClusterOutput
from mailsettings.controller.keys import Key, Kind
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.reconcile.services import Services
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.delivery import Owner
from mailsettings.core.finding import Finding, failed, passed, unknown
from mailsettings.core.relay.bundle import BundleTenant
from mailsettings.core.relaying import (
    Asked,
    Passwords,
    RelayAddress,
    as_delivered,
    bounded,
    next_passwords,
    upstream_bundle,
    with_login,
)
from mailsettings.edges.kubernetes import ApiError, Json, core_path
from mailsettings.edges.relay_bundles import RelayLogin


@dataclass(frozen=True, slots=True)
class RelayDelivery:
    """A Secret that is to hold a login at the relay."""

    key: Key
    """What it is reconciled with."""
    settings: ResolvedSettings
    output: ClusterOutput | None
    secret_name: str
    owner: Owner
    credential: str
    """The uid of the settings whose mail server it leads to."""
    tenant: BundleTenant
    asked: Asked
    """What its settings ask for."""
    rotation: str | None = None
    """The annotation by which a person asks for a new password."""


def tell_upstream(
    services: Services, credential: str, owner: Json, resolved: ResolvedSettings | None, *, divided: bool
) -> None:
    """Tells the relay the login at a mail server as it is now; None: there is none, and what it knows stays."""
    if resolved is not None:
        services.relay.set_upstream(upstream_bundle(resolved, credential), owner, divided=divided)


def renew_upstream(services: Services, credential: str, renewing: ResolvedSettings | None) -> None:
    """Tells the relay the present access token of a mail server that otherwise stays as it was told."""
    known = services.relay.upstream(credential)
    if known is not None and renewing is not None:
        services.relay.renew_login(with_login(known, renewing))


def bound_login(services: Services, namespace: str, key: Key, settings_name: str) -> None:
    """Tells the relay what the system's settings permit now of a login whose Secret stays as it was delivered.

    What the login leads to decides whose bounds hold, not the spec: that may name another server by now.

    Args:
        services: What reconcilers share.
        namespace: The Secret's.
        key: What it is reconciled with.
        settings_name: Names the login, with the namespace.
    """
    login = services.relay.login(names.relay_username(namespace, settings_name))
    if login is None or login.asked is None:
        return
    system = next((each for each in services.store.systems.values() if each.uid == login.credential), None)
    if system is None or system.effective is None:
        return
    tenant = bounded(login.tenant, login.asked, system.tenants, system_from=system.effective.mail_from)
    services.relay.put(replace(login, tenant=tenant), key)


async def deliver_login(services: Services, wanted: RelayDelivery) -> Finding:
    """Makes the Secret hold a login at the relay that the relay knows.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    relay, username, now = services.relay, wanted.tenant.username, datetime.now(UTC)
    address = relay.address
    if address is None:
        relay.wait_for_relay(username, wanted.key)
        return failed(
            Reason.RELAY_UNAVAILABLE,
            f"The relay in the namespace {relay.bundles.namespace!r} has no certificate yet; is it installed?",
        )
    relay.age(username, now)
    kept = _kept(services, username)
    if kept.until is not None:
        services.enqueue_after(wanted.key, (kept.until - now).total_seconds())
    password = relay.pending(username)
    if _is_rotated(wanted, kept):
        password = None
    elif password is None and kept.hashes and _is_delivered(services, wanted, address, kept):
        relay.put(_login(wanted, kept), wanted.key)
        return _judged(services, wanted, await _deliver(services, wanted, address, None, kept))
    if password is None:
        found = await _found_password(services, wanted)
        password, kept = next_passwords(kept, found, rotation=wanted.rotation, now=now)
        relay.put(_login(wanted, kept), wanted.key, password)
        if kept.until is not None:
            services.enqueue_after(wanted.key, (kept.until - now).total_seconds())
        password = password or found
    else:
        relay.put(_login(wanted, kept), wanted.key)
    if not relay.is_told(_login(wanted, kept)):
        problem = relay.problem(username)
        if problem:
            return failed(Reason.RELAY_UNAVAILABLE, f"There is no login at the relay: {problem}")
        return unknown(Reason.PROGRESSING, "The relay is being told of a new login.")
    finding = await _deliver(services, wanted, address, password, kept)
    if finding.holds:
        relay.delivered(username)
    return _judged(services, wanted, finding)


def _kept(services: Services, username: str) -> Passwords:
    login = services.relay.login(username)
    return login.passwords if login is not None else Passwords()


def _is_rotated(wanted: RelayDelivery, kept: Passwords) -> bool:
    return bool(kept.hashes) and wanted.rotation is not None and wanted.rotation != kept.rotation


def _login(wanted: RelayDelivery, passwords: Passwords) -> RelayLogin:
    return RelayLogin(wanted.tenant, wanted.credential, wanted.owner.uid, passwords, wanted.asked)


def _seen(wanted: RelayDelivery, address: RelayAddress, password: str) -> ResolvedSettings:
    return as_delivered(wanted.settings, address, username=wanted.tenant.username, password=password)


def _is_delivered(services: Services, wanted: RelayDelivery, address: RelayAddress, kept: Passwords) -> bool:
    """Whether the Secret is as it should be, by what its metadata tell: the hash stands for the password."""
    return services.deliveries.is_delivered(
        _seen(wanted, address, kept.hashes[0]),
        wanted.output,
        namespace=wanted.tenant.namespace,
        name=wanted.secret_name,
        owner=wanted.owner,
    )


async def _deliver(
    services: Services, wanted: RelayDelivery, address: RelayAddress, password: str | None, kept: Passwords
) -> Finding:
    told_by = _seen(wanted, address, kept.hashes[0])
    return await services.deliveries.deliver(
        _seen(wanted, address, password) if password is not None else told_by,
        wanted.output,
        namespace=wanted.tenant.namespace,
        name=wanted.secret_name,
        owner=wanted.owner,
        told_by=told_by,
    )


async def _found_password(services: Services, wanted: RelayDelivery) -> str | None:
    """The password in the Secret as it is, if it is one of the operator's."""
    namespace = wanted.tenant.namespace
    known = services.store.secret(namespace, wanted.secret_name)
    if known is None or known.owner is None:
        return None
    document = await services.api.get(core_path("secrets", namespace, wanted.secret_name))
    value = (document or {}).get("data", {}).get("password", "")
    try:
        return base64.b64decode(value, validate=True).decode() or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _judged(services: Services, wanted: RelayDelivery, finding: Finding) -> Finding:
    """What is to be said of a Secret that holds what it should, where the relay is in trouble."""
    relay = services.relay
    if not finding.holds:
        return finding
    problem = relay.problem(wanted.tenant.username)
    if problem:
        return failed(Reason.RELAY_UNAVAILABLE, f"The Secret {wanted.secret_name!r} is as it should be, but {problem}")
    if not relay.ready:
        return failed(
            Reason.RELAY_UNAVAILABLE,
            f"The Secret {wanted.secret_name!r} is as it should be, but no replica of the relay in the namespace "
            f"{relay.bundles.namespace!r} is ready",
        )
    return passed(Reason.DELIVERED, f"The Secret {wanted.secret_name!r} holds a login at the relay.")


def sweep_logins(services: Services) -> None:
    """Removes the logins of settings that are gone."""
    store = services.store

    def is_alive(login: RelayLogin) -> bool:
        owner = store.settings_by_uid(login.owner)
        if owner is None:
            return False
        return owner.key.kind is not Kind.CLUSTER or login.tenant.namespace in store.namespaces

    services.relay.sweep(is_alive, lambda uid: store.settings_by_uid(uid) is not None)


async def sweep_slots(services: Services) -> None:
    """Removes the slots of logins at mail servers that the relay does not send with any more.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    try:
        await services.slots.sweep(services.relay.is_used)
    except ApiError as error:
        if not (error.is_not_found or error.is_refusal):
            raise
        LOGGER.debug("slots are not looked at: %s", error)  # the relay is not installed


def release_login(services: Services, namespace: str, settings_name: str, owner: str) -> None:
    """The settings have no login at the relay any more."""
    services.relay.release(names.relay_username(namespace, settings_name), owner)
