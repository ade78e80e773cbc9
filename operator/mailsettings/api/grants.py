"""The OAuth2 grants that settings may name."""

from enum import StrEnum
from typing import Final


class Grant(StrEnum):
    """How the operator comes to tokens."""

    AUTHORIZATION_CODE = "AuthorizationCode"
    DEVICE_CODE = "DeviceCode"
    CLIENT_CREDENTIALS = "ClientCredentials"
    SERVICE_ACCOUNT = "ServiceAccount"
    REFRESH_TOKEN = "RefreshToken"
    PASSWORD = "Password"
    """Refused by a rule of its own, which says why; no settings that are accepted have it."""


CONSENT_GRANTS: Final = (Grant.AUTHORIZATION_CODE, Grant.DEVICE_CODE)
"""Those that need a person, once, who logs in and consents."""

REFRESHED_GRANTS: Final = (*CONSENT_GRANTS, Grant.REFRESH_TOKEN)
"""Those whose tokens are renewed by refresh tokens."""
