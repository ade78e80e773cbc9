"""The OAuth2 grants that settings may name."""

from enum import StrEnum
from typing import Final


class Grant(StrEnum):
    """How the operator comes to tokens."""

    CLIENT_CREDENTIALS = "ClientCredentials"
    SERVICE_ACCOUNT = "ServiceAccount"
    REFRESH_TOKEN = "RefreshToken"
    AUTHORIZATION_CODE = "AuthorizationCode"
    DEVICE_CODE = "DeviceCode"


CONSENT_GRANTS: Final = frozenset({Grant.AUTHORIZATION_CODE, Grant.DEVICE_CODE})
"""Those in which a person is asked."""
