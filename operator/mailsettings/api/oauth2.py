"""`spec.auth.oauth2`: how to log in with access tokens, which the operator gets and renews."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mailsettings.api.grants import CONSENT_GRANTS, REFRESHED_GRANTS, Grant
from mailsettings.api.identity import CUSTOM_CLOUD
from mailsettings.api.model import UNIQUE, ApiModel, Lax, Rule
from mailsettings.api.providers import PROVIDERS
from mailsettings.api.references import SecretKeyRef, SecretRef
from mailsettings.api.scalars import (
    Audience,
    ClaimName,
    ClientId,
    DirectoryId,
    HttpsUri,
    Scope,
    Username,
    lower_ascii,
)

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
    """In the Authorization header, which every provider must take."""
    POST = "Post"
    """In the body, which some demand."""


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


class AccountCheck(ApiModel):
    """How it is made sure that whoever consented is the account of the settings."""

    claim: ClaimName | None = None
    """The claim of the ID token that must be the user name, such as email; the scopes must hold openid."""
    skip: bool | None = None
    """True: any account will do. Mail is then sent with the mailbox of whoever consented last."""

    rules = (
        Rule(
            cel="has(self.claim) != (has(self.skip) && self.skip)",
            holds=lambda s: (s.claim is not None) != (s.skip is True),
            message="auth.oauth2.accountCheck: set either claim, or skip to true",
        ),
    )


def _origin_cel(field: str) -> str:
    return f"{field}.split('?')[0].split('/')[2].lowerAscii()"


def _origin(uri: str | None) -> str:
    """Host and port, as `HttpsUri` has them."""
    return lower_ascii((uri or "https://").split("?", maxsplit=1)[0].split("/")[2])


def _same_origin_rule(field: str, alias: str) -> Rule:
    return Rule(
        cel=f"!has(self.{alias}) || !has(self.tokenURI) || "
        f"{_origin_cel(f'self.{alias}')} == {_origin_cel('self.tokenURI')}",
        holds=lambda s: (
            getattr(s, field) is None or s.token_uri is None or _origin(getattr(s, field)) == _origin(s.token_uri)
        ),
        message=f"auth.oauth2.{alias}: it and tokenURI must be at the same host and port, so that what one gives "
        "is sent to nobody else",
    )


def _uri_rules(grant: Grant, field: str, alias: str) -> tuple[Rule, ...]:
    """Of the endpoint that a consent begins at. A foreign token endpoint would be sent the code and its verifier."""
    return (
        Rule(
            cel=f"!has(self.{alias}) || self.grant == '{grant}'",
            holds=lambda s: getattr(s, field) is None or s.grant is grant,
            message=f"auth.oauth2.{alias}: only grant {grant} takes it; remove it",
        ),
        Rule(
            cel=f"self.grant != '{grant}' || has(self.{alias}) == has(self.tokenURI)",
            holds=lambda s: s.grant is not grant or (getattr(s, field) is None) == (s.token_uri is None),
            message=f"auth.oauth2.{alias}: grant {grant} needs it together with tokenURI; set both, or neither",
        ),
        _same_origin_rule(field, alias),
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
    """How the operator comes to tokens: AuthorizationCode, a person consents in a browser; DeviceCode, a person enters
    a code at the provider, on any device; ClientCredentials, the application is the account; ServiceAccount, Google's,
    which the domain lets act for the mailbox; RefreshToken, one that was got elsewhere. Password is refused."""
    client_id: Annotated[ClientId | None, Field(alias="clientID")] = None
    """The client (application) that is registered at the provider. Grant ServiceAccount has it in its key."""
    client_auth: ClientAuth | None = None
    """How the client proves who it is. When absent it is a public client, which has no secret."""
    directory_id: Annotated[DirectoryId | None, Field(alias="directoryID")] = None
    """Office365 only: the directory (tenant) ID, or one of the directory's domains."""
    cloud: CloudName | None = None
    """Office365 only: which of Microsoft's clouds the directory is in. When absent Public. Custom is one that the
    operator's administrator has defined; its mail server is in connection.host."""
    authorization_uri: Annotated[HttpsUri | None, Field(alias="authorizationURI")] = None
    """The authorization endpoint, where a person consents. Needed for Custom; Google's and Microsoft's are known."""
    device_authorization_uri: Annotated[HttpsUri | None, Field(alias="deviceAuthorizationURI")] = None
    """The device authorization endpoint (RFC 8628). Needed for Custom; Microsoft's is known."""
    token_uri: Annotated[HttpsUri | None, Field(alias="tokenURI")] = None
    """The token endpoint. Needed for Custom; Google's and Microsoft's are known."""
    revocation_uri: Annotated[HttpsUri | None, Field(alias="revocationURI")] = None
    """Custom only: the revocation endpoint (RFC 7009). When the settings are deleted, and the operator's administrator
    has switched that on, the refresh token is revoked there. Google's is known; Microsoft has none."""
    scopes: Annotated[list[Scope], Field(max_length=32), *UNIQUE] | None = None
    """What the token permits. When absent what the provider's template says; for Custom nothing is asked for."""
    account_check: AccountCheck | None = None
    """Custom only, and needed there where a person consents: who may. Google and Microsoft name the account."""
    service_account_key_ref: SecretKeyRef | None = None
    """Grant ServiceAccount: a Secret that holds the service account's key file, in JSON."""
    refresh_token_secret_ref: SecretKeyRef | None = None
    """Grant RefreshToken: a Secret that holds the first refresh token. Later ones are kept by the operator; it comes
    back to this Secret only when its content changes."""

    rules = (
        Rule(
            cel=f"self.grant != '{Grant.PASSWORD}'",
            holds=lambda s: s.grant is not Grant.PASSWORD,
            message="auth.oauth2.grant: Password hands the account's password to the client, fails with every second "
            "factor, and RFC 9700 forbids it; use AuthorizationCode",
        ),
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
        *_uri_rules(Grant.AUTHORIZATION_CODE, "authorization_uri", "authorizationURI"),
        *_uri_rules(Grant.DEVICE_CODE, "device_authorization_uri", "deviceAuthorizationURI"),
        _same_origin_rule("revocation_uri", "revocationURI"),
        Rule(
            cel=f"!has(self.revocationURI) || self.grant in {[str(grant) for grant in REFRESHED_GRANTS]}",
            holds=lambda s: s.revocation_uri is None or s.grant in REFRESHED_GRANTS,
            message="auth.oauth2.revocationURI: this grant has no refresh token that could be revoked; remove it",
        ),
        _only_with(Grant.SERVICE_ACCOUNT, "service_account_key_ref", "serviceAccountKeyRef"),
        _only_with(Grant.REFRESH_TOKEN, "refresh_token_secret_ref", "refreshTokenSecretRef"),
        Rule(
            cel=f"!has(self.directoryID) || !(self.directoryID.lowerAscii() in {[*SHARED_DIRECTORIES]})",
            holds=lambda s: lower_ascii(s.directory_id or "") not in SHARED_DIRECTORIES,
            message=f"auth.oauth2.directoryID: {', '.join(SHARED_DIRECTORIES)} stand for any directory; name your own",
        ),
    )

    @property
    def needs_consent(self) -> bool:
        """Whether a person has to log in and consent before there is a token."""
        return self.grant in CONSENT_GRANTS
