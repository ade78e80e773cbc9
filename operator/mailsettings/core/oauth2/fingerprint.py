"""Which configuration a token belongs to: when this changes the token is dropped, and by nothing else."""

from typing import Final

from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.providers import PROVIDERS
from mailsettings.core.digest import checksum

NO_CLOUD: Final = ""


def fingerprint(provider: str, oauth2: OAuth2) -> str:
    """The fingerprint of what a token was got for.

    It holds what the settings say themselves. What templates and the operator's configuration fill in may change with
    an upgrade, and a client secret is changed because it ages: neither makes a token somebody else's. Nor does another
    key of the operator's: all of this is public.

    Args:
        provider: Whose server it is.
        oauth2: The settings.
    """
    said = {
        "provider": provider,
        "grant": oauth2.grant,
        "client": oauth2.client_id,
        "directory": oauth2.directory_id,
        "cloud": oauth2.cloud or _default_cloud(provider),
        "username": oauth2.username,
        "authorization-uri": oauth2.authorization_uri,
        "device-authorization-uri": oauth2.device_authorization_uri,
        "token-uri": oauth2.token_uri,
        "scopes": None if oauth2.scopes is None else sorted(oauth2.scopes),
    }
    # Without what is absent, so that a field that a later version adds changes nothing.
    return checksum({name: value for name, value in said.items() if value is not None})


def _default_cloud(provider: str) -> str:
    """So that naming the default drops nothing."""
    identity = PROVIDERS[provider].identity
    return next(iter(identity.clouds), NO_CLOUD) if identity else NO_CLOUD
