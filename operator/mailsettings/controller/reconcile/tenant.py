"""Reconciles a MailServerSettings: its own server, or the system's."""

from dataclasses import dataclass, field, replace

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.api.status import Binding, Effective, MailServerSettingsStatus
from mailsettings.controller.deliveries import retry_if_refused
from mailsettings.controller.keys import namespace_key
from mailsettings.controller.reconcile.authorization import Authorization, authorize, give_up_token, token_ref
from mailsettings.controller.reconcile.consent import end_consents
from mailsettings.controller.reconcile.probing import Probing, probe
from mailsettings.controller.reconcile.references import read_references
from mailsettings.controller.reconcile.relaying import (
    RelayDelivery,
    bound_login,
    deliver_login,
    release_login,
    renew_upstream,
    tell_upstream,
)
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.settling import settle
from mailsettings.controller.reconcile.status import read_status, write_status
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.acceptance import accept_tenant, parse_spec
from mailsettings.core.conditions import Findings
from mailsettings.core.credentials import ObjectRef, ResolvedSettings, references, resolution
from mailsettings.core.delivery import (
    DeliveredSecret,
    Owner,
    can_follow,
    withdrawn_by,
)
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding, failed, passed
from mailsettings.core.relaying import Asked, bundle_tenant, is_relayed
from mailsettings.core.report import effective_status
from mailsettings.core.server import Source
from mailsettings.core.system import SystemSettings
from mailsettings.core.tenancy import Namespace
from mailsettings.edges.kubernetes import cluster_settings_path
from mailsettings.edges.tls import is_usable_bundle


@dataclass(frozen=True, slots=True)
class _Assessment:
    """What is known before anything is delivered."""

    findings: Findings
    effective: EffectiveSettings | None = None
    resolved: ResolvedSettings | None = None
    authorization: Authorization = field(default_factory=lambda: Authorization(None))
    """Of an own server; what is inherited is authorized once for all."""


async def reconcile_tenant(services: Services, record: SettingsRecord) -> None:
    """Makes the Secret and the status of the object true.

    Raises:
        ApiError: the API server is in trouble; try again.
        DeliveryRefusedError: the API server refused the Secret; try again.
    """
    namespace = services.store.namespaces.get(record.key.namespace)
    if namespace is None or namespace.terminating:
        return
    spec = parse_spec(MailServerSettingsSpec, record.spec, custom_cloud=services.custom_cloud)
    if not isinstance(spec, Finding) and await is_premature(services, spec):
        return

    before = read_status(MailServerSettingsStatus, record)
    assessment = await _assess(services, record, spec, namespace, before)
    suspend = not isinstance(spec, Finding) and (spec.suspend or system_suspended(services, spec))
    secret_name = _secret_name(record, spec)
    delivered = None
    _tell_relay(services, record, assessment, suspend=suspend)
    _begin_probe(services, record, assessment, before, suspend=suspend)
    if isinstance(spec, MailServerSettingsSpec):
        if assessment.resolved is not None and not suspend:
            delivered = await _deliver(services, record, spec, assessment.resolved, secret_name)
        renewing = assessment.authorization.renewing
        if renewing is not None and (delivered is None or not delivered.holds):
            delivered = await _renew_tokens(services, record, renewing) or delivered
    if delivered is None or not delivered.holds:
        bound_login(services, record.key.namespace, record.key, record.key.name)
    await _withdraw(services, record, namespace, keep=secret_name)
    held = services.store.secrets_of(record.uid)
    if not held and delivered is None:
        release_login(services, record.key.namespace, record.key.name, record.uid)

    probing = _probe(services, record, assessment, before, suspend=suspend)
    findings = dict(assessment.findings)
    if probing.finding is not None:
        findings[ConditionType.PROBE_SUCCEEDED] = probing.finding
    findings[ConditionType.DELIVERED] = delivered or _undelivered(assessment, held)
    after = MailServerSettingsStatus(
        effective=_effective_status(assessment, before, held, suspend=suspend),
        binding=_binding(held, secret_name),
        oauth2=assessment.authorization.status,
        probe=probing.status,
        relay=services.reports.status(record, before.relay),
    )
    await write_status(services, record, before, after, findings)
    settle(services, record, probing, assessment.authorization)
    retry_if_refused(delivered)


async def is_premature(services: Services, spec: MailServerSettingsSpec) -> bool:
    """Whether the system's object exists but has not been worked out: its reconciliation will come back here.

    The watches of two kinds keep no order between them, so before an object that was not seen is called missing the
    API server is asked: what is applied together must not raise a false alarm.
    """
    name = spec.system_settings_name
    if not spec.inherits or name in services.store.systems:
        return False
    return name in services.store.clusters or await services.api.get(cluster_settings_path(name)) is not None


async def _assess(
    services: Services,
    record: SettingsRecord,
    spec: MailServerSettingsSpec | Finding,
    namespace: Namespace,
    before: MailServerSettingsStatus,
) -> _Assessment:
    if isinstance(spec, Finding):
        await end_consents(services, record)
        unchanged = Authorization(None, status=before.oauth2)
        return _Assessment({ConditionType.ACCEPTED: spec}, authorization=unchanged)
    system = services.store.systems.get(spec.system_settings_name) if spec.inherits else None
    accepted, effective = accept_tenant(
        spec,
        system,
        name=record.key.name,
        generation=record.generation,
        namespace=namespace,
        operator_namespace=services.operator_namespace,
    )
    if effective is None:
        _note_uses(services, record, spec, [])
        await end_consents(services, record)
        unchanged = Authorization(None, status=before.oauth2)
        return _Assessment({ConditionType.ACCEPTED: accepted}, authorization=unchanged)
    if system is not None:
        _note_uses(services, record, spec, [])
        credentials, resolved = inherited(system, effective)
        await end_consents(services, record)
        left = await give_up_token(services, record, before.oauth2)
        authorized = mirrored(system, system.authorized, "Authorized") if system.authorized is not None else None
        renewing = replace(system.renewing, effective=effective) if system.renewing is not None else None
        authorization = Authorization(resolved, renewing, authorized, left)
    else:
        refs = references(effective)
        _note_uses(services, record, spec, refs)
        referenced = await read_references(services.api, namespace.name, refs)
        settings = resolution(
            effective, referenced, is_usable_bundle=is_usable_bundle, require_label=services.require_secret_label
        )
        credentials = settings.finding
        authorization = await authorize(services, record, settings, before.oauth2, before.probe)
    findings: dict[ConditionType, Finding] = {
        ConditionType.ACCEPTED: accepted,
        ConditionType.CREDENTIALS_RESOLVED: credentials,
    }
    if authorization.finding is not None:
        findings[ConditionType.AUTHORIZED] = authorization.finding
    if system is not None and system.probe is not None:
        findings[ConditionType.PROBE_SUCCEEDED] = mirrored(system, system.probe, "Tested")
    return _Assessment(findings, effective, authorization.resolved, authorization)


def _note_uses(services: Services, record: SettingsRecord, spec: MailServerSettingsSpec, refs: list[ObjectRef]) -> None:
    """Its own Secret counts too: one that stands in the way may go. So does its token, which a replica may renew."""
    own = ObjectRef("Secret", _secret_name(record, spec))
    token = (services.operator_namespace, token_ref(record))
    services.store.set_uses(record.key, record.key.namespace, [*refs, own], also=[token])


def inherited(system: SystemSettings, effective: EffectiveSettings) -> tuple[Finding, ResolvedSettings | None]:
    """What an inheriting tenant has of the system's credentials."""
    if system.resolved is None and system.authorized is None:
        return failed(
            Reason.SYSTEM_CREDENTIALS_UNRESOLVED,
            f"The credentials of the system's settings {system.name!r} cannot be read; "
            "the cluster object's conditions say why",
        ), None
    resolved = replace(system.resolved, effective=effective) if system.resolved is not None else None
    return passed(Reason.RESOLVED, f"The credentials of the system's settings {system.name!r} are used."), resolved


def mirrored(system: SystemSettings, finding: Finding, done: str) -> Finding:
    """One credential is authorized and tested once: tenants that inherit show the system's verdict."""
    return replace(
        finding, message=f"{done} for all tenants of the system's settings {system.name!r}. {finding.message}"
    )


def _secret_name(record: SettingsRecord, spec: MailServerSettingsSpec | Finding) -> str:
    if isinstance(spec, MailServerSettingsSpec) and spec.output and spec.output.secret_name:
        return spec.output.secret_name
    return names.default_secret_name(record.key.name)


def _system(services: Services, spec: MailServerSettingsSpec) -> SystemSettings | None:
    return services.store.systems.get(spec.system_settings_name) if spec.inherits else None


def _is_relayed(services: Services, spec: MailServerSettingsSpec) -> bool:
    system = _system(services, spec)
    return is_relayed(spec, system.tenants if system is not None else None)


async def _deliver(
    services: Services,
    record: SettingsRecord,
    spec: MailServerSettingsSpec,
    resolved: ResolvedSettings,
    secret_name: str,
) -> Finding:
    held = services.store.secrets_of(record.uid)
    owner = Owner(names.TENANT_KIND, record.key.name, record.uid)
    if _is_relayed(services, spec):
        finding = await _deliver_login(services, record, spec, resolved, secret_name, owner)
    else:
        finding = await services.deliveries.deliver(
            resolved, spec.output, namespace=record.key.namespace, name=secret_name, owner=owner
        )
        if finding.holds:
            release_login(services, record.key.namespace, record.key.name, record.uid)
    if finding.holds and not held:
        # From now on the namespace is served by this object, no longer by `provision: Always`.
        services.enqueue(namespace_key(record.key.namespace))
    return finding


async def _deliver_login(
    services: Services,
    record: SettingsRecord,
    spec: MailServerSettingsSpec,
    resolved: ResolvedSettings,
    secret_name: str,
    owner: Owner,
) -> Finding:
    system = _system(services, spec)
    tenants = system.tenants if system is not None else None
    tenant = bundle_tenant(
        resolved.effective.mail_from,
        tenants.policy if tenants is not None else None,
        spec.policy,
        namespace=record.key.namespace,
        settings_name=record.key.name,
        audit_recipients=services.relay.audit_recipients,
    )
    wanted = RelayDelivery(
        key=record.key,
        settings=resolved,
        output=spec.output,
        secret_name=secret_name,
        owner=owner,
        credential=system.uid if system is not None else record.uid,
        tenant=tenant,
        asked=Asked(mail_from=spec.mail_from, policy=spec.policy),
        rotation=record.rotation,
    )
    return await deliver_login(services, wanted)


def _tell_relay(services: Services, record: SettingsRecord, assessment: _Assessment, *, suspend: bool) -> None:
    """Of an own server; the system's is told of with the cluster object."""
    if assessment.effective is None or assessment.effective.source is Source.SYSTEM:
        return
    if assessment.resolved is None or suspend:
        renew_upstream(services, record.uid, assessment.authorization.renewing)
        return
    namespace = services.store.namespaces[record.key.namespace]
    owner = {"apiVersion": "v1", "kind": "Namespace", "name": namespace.name, "uid": namespace.uid}
    tell_upstream(services, record.uid, owner, assessment.resolved, divided=False)


async def _renew_tokens(services: Services, record: SettingsRecord, resolved: ResolvedSettings) -> Finding | None:
    """While changes are held back, or cannot be delivered, the application still needs a token that lives."""
    refusals = [await services.deliveries.renew_token(resolved, held) for held in services.store.secrets_of(record.uid)]
    return next((refusal for refusal in refusals if refusal is not None), None)


def system_suspended(services: Services, spec: MailServerSettingsSpec) -> bool:
    """Whether what the settings inherit is suspended."""
    system = services.store.systems.get(spec.system_settings_name) if spec.inherits else None
    return system is not None and system.suspend


def _undelivered(assessment: _Assessment, held: list[DeliveredSecret]) -> Finding:
    """What is to be said when nothing was to be delivered: it cannot be, or it is suspended."""
    if assessment.resolved is None:
        return _last_good(held, assessment.authorization)
    return _suspended(held, assessment.resolved)


def _last_good(held: list[DeliveredSecret], authorization: Authorization) -> Finding:
    if not held:
        return failed(Reason.NOT_DELIVERED, "There is no Secret; it is delivered once the other conditions are true")
    secret = held[0]
    kept = f"The Secret {secret.name!r} still holds the last good settings; mend the other conditions first"
    if not secret.token or (authorization.renewing is not None and can_follow(secret, authorization.renewing)):
        return failed(Reason.LAST_GOOD_KEPT, kept)
    return failed(Reason.LAST_GOOD_KEPT, f"{kept}. Its access token is renewed no more, and runs out")


def _suspended(held: list[DeliveredSecret], resolved: ResolvedSettings) -> Finding:
    if not held:
        return failed(
            Reason.SUSPENDED,
            "There is no Secret; it is delivered once suspend is false, here and in the system's settings",
        )
    secret = held[0]
    stays = f"The Secret {secret.name!r} stays as it was delivered; suspend holds changes back"
    if not secret.token:
        return passed(Reason.SUSPENDED, stays)
    if can_follow(secret, resolved):
        return passed(Reason.SUSPENDED, f"{stays}, but not renewed access tokens")
    return passed(
        Reason.SUSPENDED,
        f"{stays}. Its access token belongs to the settings as they were before and is renewed no more: "
        "the application loses its login when that token runs out, unless suspend is false by then",
    )


async def _withdraw(services: Services, record: SettingsRecord, namespace: Namespace, *, keep: str) -> None:
    """Removes Secrets that this object no longer wants, or that hold what the tenant may no longer use."""
    held = services.store.secrets_of(record.uid)
    has_successor = any(secret.name == keep for secret in held)
    for secret in held:
        is_outdated = has_successor and secret.name != keep
        if is_outdated or _is_revoked(services, secret, namespace):
            await services.deliveries.withdraw(secret)


def _is_revoked(services: Services, secret: DeliveredSecret, namespace: Namespace) -> bool:
    cluster = withdrawn_by(secret)
    if cluster is None:
        return False
    if cluster not in services.store.clusters:
        return True
    system = services.store.systems.get(cluster)
    return system is not None and system.withdraws_from(namespace, operator_namespace=services.operator_namespace)


def _probe(
    services: Services,
    record: SettingsRecord,
    assessment: _Assessment,
    before: MailServerSettingsStatus,
    *,
    suspend: bool,
) -> Probing:
    """Of an own server; what is inherited is probed once for all."""
    if assessment.effective is not None and assessment.effective.source is Source.SYSTEM:
        services.probes.forget(record.key)
        return Probing()
    return probe(services, record, assessment.resolved, before.probe, suspend=suspend)


def _begin_probe(
    services: Services,
    record: SettingsRecord,
    assessment: _Assessment,
    before: MailServerSettingsStatus,
    *,
    suspend: bool,
) -> None:
    """Has new settings tested while their Secret is written: often the first status then has the result."""
    if before.observed_generation != record.generation:
        _probe(services, record, assessment, before, suspend=suspend)


def _effective_status(
    assessment: _Assessment, before: MailServerSettingsStatus, held: list[DeliveredSecret], *, suspend: bool
) -> Effective | None:
    """What is in force: after a bad edit, and while changes are held back, still what the Secret holds."""
    if assessment.effective is None or (suspend and held and before.effective is not None):
        return before.effective if held else None
    return effective_status(assessment.effective, inherited=assessment.effective.source is Source.SYSTEM)


def _binding(held: list[DeliveredSecret], secret_name: str) -> Binding | None:
    secret_names = [secret.name for secret in held]
    if not secret_names:
        return None
    return Binding(name=secret_name if secret_name in secret_names else secret_names[0])
