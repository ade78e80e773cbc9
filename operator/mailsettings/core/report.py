"""The status, put together from what was found."""

from typing import Final

from mailsettings.api.auth import BasicAuth
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.status import Effective
from mailsettings.core.effective import EffectiveSettings

_AUTH: Final = {type(None): "None", BasicAuth: "Basic", OAuth2: "OAuth2"}


def effective_status(effective: EffectiveSettings, *, inherited: bool = False) -> Effective:
    """The settings in force, for the status.

    Args:
        effective: the settings.
        inherited: whether they are another object's, whose proxy is nobody's business here.
    """
    proxy = None if inherited else effective.server.proxy
    return Effective(
        source=str(effective.source),
        settings_name=effective.settings_name,
        settings_generation=effective.settings_generation,
        provider=effective.provider,
        mail_from=effective.mail_from,
        host=effective.server.host,
        port=effective.server.port,
        protocol=effective.server.protocol,
        tls=str(effective.server.tls_mode),
        auth=_AUTH[type(effective.auth)],
        proxy=proxy.url if proxy else None,
    )
