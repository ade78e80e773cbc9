"""From a provider and a cloud to what a token request needs of them."""

from typing import Final
from urllib.parse import quote

from mailsettings.api.identity import CUSTOM_CLOUD, Cloud, Family
from mailsettings.api.providers import PROVIDERS
from mailsettings.core.oauth2.request import AuthorizationCode, DeviceCode, Grant, RefreshToken


def cloud_of(provider: str, name: str | None = None, *, custom: Cloud | None = None) -> Cloud:
    """A provider's cloud.

    Args:
        provider: A key of `PROVIDERS`.
        name: The cloud; None: the provider's default.
        custom: What the name `Custom` means.

    Raises:
        LookupError: The provider knows no OAuth2, or not in this cloud.
    """
    identity = PROVIDERS[provider].identity
    if identity is None:
        raise LookupError(f"{provider} knows no OAuth2")
    clouds = {**identity.clouds, **({CUSTOM_CLOUD: custom} if custom is not None else {})}
    return clouds[name] if name is not None else next(iter(clouds.values()))


def endpoint_of(family: Family, cloud: Cloud, directory: str = "") -> str:
    """`TokenRequest.endpoint` in a cloud; the directory is Microsoft's."""
    if family is not Family.MICROSOFT:
        return cloud.token_uri
    return f"{cloud.token_uri}/{quote(directory, safe='')}"


def authorization_endpoint_of(family: Family, cloud: Cloud, directory: str = "") -> str:
    """`AuthorizationRequest.endpoint` in a cloud; the directory is Microsoft's.

    Source: Microsoft identity platform, authorization code flow.
    """
    if family is not Family.MICROSOFT:
        return cloud.authorization_uri
    return f"{endpoint_of(family, cloud, directory)}/oauth2/v2.0/authorize"


_DELEGATED: Final[frozenset[type[Grant]]] = frozenset({RefreshToken, AuthorizationCode, DeviceCode})


def scopes_of(cloud: Cloud, grant: type[Grant]) -> tuple[str, ...]:
    """The scopes to ask for where the spec names none."""
    return cloud.delegated_scopes if grant in _DELEGATED else cloud.application_scopes
