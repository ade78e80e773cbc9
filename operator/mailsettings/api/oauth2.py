"""`spec.auth.oauth2`: how to log in with access tokens, which the operator gets and renews."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mailsettings.api.grants import Grant
from mailsettings.api.identity import CUSTOM_CLOUD
from mailsettings.api.model import UNIQUE, ApiModel, Lax, Rule
from mailsettings.api.providers import PROVIDERS
from mailsettings.api.references import SecretKeyRef, SecretRef
from mailsettings.api.scalars import Audience, ClientId, DirectoryId, HttpsUri, Scope, Username, lower_ascii

CLOUDS: Final = (
    *dict.fromkeys(cloud for provider in PROVIDERS.values() if provider.identity for cloud in provider.identity.clouds),
    CUSTOM_CLOUD,
)
SHARED_DIRECTORIES: Final = ("common", "organizations", "consumers")
"""Microsoft's names for "whichever directory": an account of any of them would do."""


def _known_cloud(name: str) -> str:
    if name not in CLOUDS:
        raise PydanticCustomError("enum", "must be one of {names}", {"names": ", ".join(CLOUDS)})
    return name


CloudName = Annotated[str, AfterValidator(_known_cloud), Field(json_schema_extra={"enum": [*CLOUDS]})]


class Federation(ApiModel):
    """The operator's own service-account token, which the provider has been told to trust."""

    audience: Audience
    """Whom the token is meant for, as the provider wants it; Microsoft: api://AzureADTokenExchange. The operator's
    token must be of this audience."""


class SecretMethod(StrEnum):
    """How the client secret is sent. Source: RFC 6749 §2.3.1."""

    BASIC = "Basic"
    POST = "Post"


class ClientAuth(ApiModel):
    """How the client proves to the provider who it is."""

    secret_ref: SecretKeyRef | None = None
    """A Secret that holds the client secret: its value, not its ID."""
    secret_method: Annotated[SecretMethod | None, Lax] = None
    """Custom only, with secretRef: Basic sends the client secret in the Authorization header, which every provider has
    to take, Post in the request's body, which some demand. When absent Basic."""
    certificate_ref: SecretRef | None = None
    """A Secret of type kubernetes.io/tls, with tls.crt and tls.key: assertions are signed with the key."""
    federation: Federation | None = None
    """The operator's own service-account token is the proof; there is no secret to keep."""

    rules = (
        Rule(
            cel="[has(self.secretRef), has(self.certificateRef), has(self.federation)].filter(set, set).size() == 1",
            holds=lambda s: [s.secret_ref, s.certificate_ref, s.federation].count(None) == 2,
            message="auth.oauth2.clientAuth: set exactly one of secretRef, certificateRef and federation",
        ),
        Rule(
            cel="!has(self.secretMethod) || has(self.secretRef)",
            holds=lambda s: s.secret_method is None or s.secret_ref is not None,
            message="auth.oauth2.clientAuth.secretMethod: only a client secret can be sent in two ways; remove it",
        ),
    )


def _only_with(grant: Grant, field: str, alias: str) -> Rule:
    return Rule(
        cel=f"(self.grant == '{grant}') == has(self.{alias})",
        holds=lambda s: (s.grant is grant) == (getattr(s, field) is not None),
        message=f"auth.oauth2.{alias}: grant {grant} needs it, and no other grant takes it",
    )


class OAuth2(ApiModel):
    """Access tokens instead of a password. The operator gets them, renews them and delivers them."""

    username: Username
    """The mailbox that mail is sent with. It may differ from mailFrom where the mailbox may send as that."""
    grant: Annotated[Grant, Lax]
    """How the operator comes to tokens: ClientCredentials, the application is the account; ServiceAccount, Google's,
    which the domain lets act for the mailbox; RefreshToken, one that was got elsewhere. There is no Password: that
    grant hands the account's password to the client, fails with every second factor, and RFC 9700 forbids it."""
    client_id: Annotated[ClientId | None, Field(alias="clientID")] = None
    """The client (application) that is registered at the provider. Grant ServiceAccount has it in its key."""
    client_auth: ClientAuth | None = None
    """How the client proves who it is. When absent it is a public client, which has no secret."""
    directory_id: Annotated[DirectoryId | None, Field(alias="directoryID")] = None
    """Office365 only: the directory (tenant) ID, or one of the directory's domains."""
    cloud: CloudName | None = None
    """Office365 only: which of Microsoft's clouds the directory is in. When absent Public. Custom is one that the
    operator's administrator has defined; its mail server is in connection.host."""
    token_uri: Annotated[HttpsUri | None, Field(alias="tokenURI")] = None
    """The token endpoint. Needed for Custom; Google's and Microsoft's are known."""
    scopes: Annotated[list[Scope], Field(max_length=32), *UNIQUE] | None = None
    """What the token permits. When absent what the provider's template says; for Custom nothing is asked for."""
    service_account_key_ref: SecretKeyRef | None = None
    """Grant ServiceAccount: a Secret that holds the service account's key file, in JSON."""
    refresh_token_secret_ref: SecretKeyRef | None = None
    """Grant RefreshToken: a Secret that holds the first refresh token. Later ones are kept by the operator; it comes
    back to this Secret only when its content changes."""

    rules = (
        Rule(
            cel=f"(self.grant == '{Grant.SERVICE_ACCOUNT}') != has(self.clientID)",
            holds=lambda s: (s.grant is Grant.SERVICE_ACCOUNT) != (s.client_id is not None),
            message="auth.oauth2.clientID: grant ServiceAccount has it in its key, every other grant needs it",
        ),
        Rule(
            cel=f"self.grant == '{Grant.CLIENT_CREDENTIALS}' ? has(self.clientAuth) : "
            f"(self.grant != '{Grant.SERVICE_ACCOUNT}' || !has(self.clientAuth))",
            holds=lambda s: (
                s.client_auth is not None
                if s.grant is Grant.CLIENT_CREDENTIALS
                else s.grant is not Grant.SERVICE_ACCOUNT or s.client_auth is None
            ),
            message="auth.oauth2.clientAuth: grant ClientCredentials needs it, grant ServiceAccount has it in its key",
        ),
        _only_with(Grant.SERVICE_ACCOUNT, "service_account_key_ref", "serviceAccountKeyRef"),
        _only_with(Grant.REFRESH_TOKEN, "refresh_token_secret_ref", "refreshTokenSecretRef"),
        Rule(
            cel=f"!has(self.directoryID) || !(self.directoryID.lowerAscii() in {[*SHARED_DIRECTORIES]})",
            holds=lambda s: lower_ascii(s.directory_id or "") not in SHARED_DIRECTORIES,
            message=f"auth.oauth2.directoryID: {', '.join(SHARED_DIRECTORIES)} stand for any directory; name your own",
        ),
    )
