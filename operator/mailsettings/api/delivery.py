"""What delivered Secrets hold."""

from enum import StrEnum


class Delivery(StrEnum):
    """What a delivered Secret holds."""

    CREDENTIALS = "Credentials"
    """The login at the mail server."""
    RELAY = "Relay"
    """A login at the relay."""
