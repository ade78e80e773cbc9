"""Whether settings are complete and consistent, and whether a tenant may use what it refers to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from mailsettings.api import names
from mailsettings.api.auth import BasicAuth
from mailsettings.api.conditions import Reason
from mailsettings.api.delivery import Delivery
from mailsettings.api.grants import Grant
from mailsettings.api.identity import CUSTOM_CLOUD, Cloud
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.providers import BEYOND_SENDING, PROVIDERS, TlsMode
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec, ServerSpec
from mailsettings.api.tenants import Provision
from mailsettings.core.effective import EffectiveSettings, inherited_settings, own_settings
from mailsettings.core.finding import Finding, failed, passed
from mailsettings.core.oauth2.clouds import scopes_of
from mailsettings.core.oauth2.subject import default_scopes, grant_type
from mailsettings.core.relaying import check_policy
from mailsettings.core.server import Source
from mailsettings.core.system import SystemSettings
from mailsettings.core.tenancy import Namespace

_Spec = TypeVar("_Spec", bound=ServerSpec)

_SECRET: Final = {BasicAuth: "password", OAuth2: "access token", type(None): "mail"}

MAX_ERRORS = 5
"""How many errors of a spec one message names."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A warning about settings that are accepted."""

    field: str
    """What it is about, as a path below `spec`."""
    text: str


def parse_spec(
    model: type[_Spec],
    spec: Any,  # noqa: ANN401 - whatever the API server stored
    *,
    custom_cloud: Cloud | None = None,
) -> _Spec | Finding:
    """The spec as a model, or what is wrong with it.

    The API server has checked it already; but the object may be older than the CRD in force, and the API server does
    not know the operator's configuration.

    Args:
        model: The kind's.
        spec: What the API server has.
        custom_cloud: The cloud that the administrator has defined; None: there is none.
    """
    try:
        parsed = model.model_validate(spec)
    except ValidationError as error:
        return failed(Reason.SPEC_INVALID, describe(error))
    oauth2 = parsed.auth.oauth2 if parsed.auth is not None else None
    missing = _undefined(oauth2, custom_cloud) if oauth2 is not None else None
    if missing is None:
        return parsed
    return failed(
        Reason.SPEC_INVALID,
        f"auth.oauth2.cloud: {CUSTOM_CLOUD} is not defined in full; ask the cluster's administrator to set {missing} "
        "for the operator, or name another cloud",
    )


def _undefined(oauth2: OAuth2, custom_cloud: Cloud | None) -> str | None:
    """The operator's variable that the settings need and that is not set."""
    if oauth2.cloud != CUSTOM_CLOUD:
        return None
    if custom_cloud is None:
        return "MAILSETTINGS_OAUTH2_CLOUD_AUTHORITY"
    if oauth2.scopes is not None or scopes_of(custom_cloud, grant_type(oauth2)):
        return None
    kind = "APPLICATION" if oauth2.grant is Grant.CLIENT_CREDENTIALS else "DELEGATED"
    return f"MAILSETTINGS_OAUTH2_CLOUD_{kind}_SCOPES"


def describe(error: ValidationError) -> str:
    """The errors with their fields, without the values, which may be anything."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    texts = [": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in errors]
    more = [f"and {len(texts) - MAX_ERRORS} more"] if len(texts) > MAX_ERRORS else []
    return "; ".join(texts[:MAX_ERRORS] + more)


def accept_cluster(
    spec: ClusterMailServerSettingsSpec, *, name: str, generation: int, custom_cloud: Cloud | None = None
) -> tuple[Finding, EffectiveSettings]:
    """The system's settings and what is to be said of them; `custom_cloud` as `parse_spec` was given it."""
    effective = own_settings(spec, source=Source.SYSTEM, name=name, generation=generation)
    tenants = spec.tenants
    notes = []
    if tenants is not None and tenants.provision is Provision.ALWAYS:
        notes.append(f"Every allowed namespace gets the Secret {names.ALWAYS_SECRET_NAME}")
    return _accepted(cluster_advice(spec, effective, custom_cloud=custom_cloud), notes), effective


def cluster_advice(
    spec: ClusterMailServerSettingsSpec, effective: EffectiveSettings, *, custom_cloud: Cloud | None = None
) -> list[Advice]:
    """What the system's settings are warned of; `effective` is what they come to."""
    advice, tenants = server_advice(effective), spec.tenants
    if tenants is not None and tenants.delivery is Delivery.CREDENTIALS and effective.auth is not None:
        advice += _handed_over(effective, custom_cloud)
    return advice


def _handed_over(effective: EffectiveSettings, custom_cloud: Cloud | None) -> Iterator[Advice]:
    field = "tenants.delivery"
    yield Advice(field, f"{field} Credentials gives every allowed namespace a copy of this login")
    if isinstance(effective.auth, OAuth2):
        for scope in default_scopes(effective.provider, effective.auth, custom_cloud=custom_cloud):
            if scope in BEYOND_SENDING:
                text = f"the access token's scope {scope} {BEYOND_SENDING[scope]}, and so may every such namespace"
                yield Advice(field, text)


def accept_tenant(
    spec: MailServerSettingsSpec,
    system: SystemSettings | None,
    *,
    name: str,
    generation: int,
    namespace: Namespace,
    operator_namespace: str,
) -> tuple[Finding, EffectiveSettings | None]:
    """A tenant's settings in force and what is to be said of them.

    Args:
        spec: the tenant's.
        system: the cluster object that it inherits from; None: there is none, or it inherits from none.
        name: of the tenant's object.
        generation: of the tenant's object.
        namespace: the tenant's.
        operator_namespace: whose tenants never inherit.
    """
    if not spec.inherits:
        effective = own_settings(spec, source=Source.TENANT, name=name, generation=generation)
        return _accepted(server_advice(effective)), effective
    if system is None:
        return failed(Reason.SYSTEM_SETTINGS_NOT_FOUND, _not_found(spec)), None
    if system.effective is None:
        return failed(
            Reason.SYSTEM_SETTINGS_NOT_ACCEPTED,
            f"The system's settings {system.name!r} are not accepted; their own conditions say why",
        ), None
    if not system.admits(namespace, operator_namespace=operator_namespace):
        return failed(
            Reason.NOT_ALLOWED,
            f"The system's settings {system.name!r} do not admit the namespace {namespace.name!r}; "
            "ask for it in their tenants, or set a server of your own",
        ), None
    allowed_from = system.tenants.allowed_from if system.tenants else None
    inherited = inherited_settings(system.effective, spec, allowed_from=allowed_from, namespace=namespace.name)
    if isinstance(inherited, Finding):
        return inherited, None
    unpermitted = check_policy(spec, system.effective, system.tenants, namespace.name)
    return (_accepted([]), inherited) if unpermitted is None else (unpermitted, None)


def _not_found(spec: MailServerSettingsSpec) -> str:
    return (
        f"There is no ClusterMailServerSettings {spec.system_settings_name!r} to inherit from; "
        "ask the cluster's administrator for it, or set a server of your own"
    )


def server_advice(effective: EffectiveSettings) -> list[Advice]:
    """What settings with a server of their own are warned of, at either level."""
    server, provider = effective.server, PROVIDERS[effective.provider]
    mode, skip = "connection.tls.mode", "connection.tls.insecureSkipVerify"
    secret = _SECRET[type(effective.auth)]
    candidates = (
        (
            isinstance(effective.auth, BasicAuth) and provider.basic_warning is not None,
            Advice("auth.basic", provider.basic_warning or ""),
        ),
        (
            effective.auth is not None and server.tls_mode is TlsMode.DISABLED,
            Advice(mode, f"{mode} Disabled sends the {secret} in the clear"),
        ),
        (
            server.tls_insecure_skip_verify,
            Advice(skip, f"{skip} lets anyone between here and the server read the {secret}"),
        ),
    )
    return [advice for applies, advice in candidates if applies]


def _accepted(advice: Iterable[Advice], notes: Iterable[str] = ()) -> Finding:
    sentences = ["The settings are complete and consistent", *notes, *(f"Warning: {each.text}" for each in advice)]
    return passed(Reason.ACCEPTED, " ".join(f"{sentence}." for sentence in sentences))
