"""`spec.auth`: how to log in."""

from mailsettings.api.model import ApiModel, Rule
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.references import SecretKeyRef
from mailsettings.api.scalars import Username


class BasicAuth(ApiModel):
    """A user name and a password."""

    username: Username | None = None
    """The user name. Leave it out where the provider has a fixed one (SendGrid: apikey)."""
    username_secret_ref: SecretKeyRef | None = None
    """A Secret that holds the user name."""
    password_secret_ref: SecretKeyRef
    """A Secret that holds the password, app password or API key."""

    rules = (
        Rule(
            cel="!(has(self.username) && has(self.usernameSecretRef))",
            holds=lambda s: s.username is None or s.username_secret_ref is None,
            message="auth.basic: set username or usernameSecretRef, not both",
        ),
    )


class Auth(ApiModel):
    """How to log in. When absent the server wants no login."""

    basic: BasicAuth | None = None
    """A user name and a password."""
    oauth2: OAuth2 | None = None
    """Access tokens instead of a password. The operator gets them, renews them and delivers them."""

    rules = (
        Rule(
            cel="has(self.basic) != has(self.oauth2)",
            holds=lambda s: (s.basic is None) != (s.oauth2 is None),
            message="auth: set exactly one of basic and oauth2",
        ),
    )
