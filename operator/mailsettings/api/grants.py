"""The OAuth2 grants that settings may name."""

from enum import StrEnum


class Grant(StrEnum):
    """How the operator comes to tokens."""

    CLIENT_CREDENTIALS = "ClientCredentials"
    SERVICE_ACCOUNT = "ServiceAccount"
    REFRESH_TOKEN = "RefreshToken"
