"""The status of both kinds, as the operator reports it."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mailsettings.api.conditions import explained
from mailsettings.api.probe import ProbeMode

Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int32"})]
Generation = Annotated[int, Field(json_schema_extra={"format": "int64"})]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""UTC, whole seconds: `2026-11-22T16:40:00Z`."""


class StatusModel(BaseModel):
    """A part of a status."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )

    def document(self) -> dict[str, Any]:
        """The part as JSON has it, without absent fields."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


class Condition(StatusModel):
    """One aspect of the current state."""

    type: Annotated[str, Field(max_length=316)]
    """What the condition is about."""
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    """True, False or Unknown."""
    reason: Annotated[str, Field(max_length=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """Why, as one word of a closed list."""
    message: Annotated[str, Field(max_length=32768)]
    """Why, for a person, and what to do."""
    last_transition_time: Time
    """When the status last changed."""
    observed_generation: Generation
    """The metadata.generation that the condition speaks of."""


class Effective(StatusModel):
    """The settings in force, after levels and templates."""

    source: str
    """System or Tenant: the level that the server and the credentials come from."""
    settings_name: str
    """The object that they come from."""
    settings_generation: Generation
    """That object's metadata.generation."""
    provider: str
    """Whose server it is."""
    mail_from: str
    """The sender."""
    host: str
    """The server's host."""
    port: Count
    """The server's port."""
    protocol: str
    """smtp, or smtps for implicit TLS."""
    tls: str
    """Disabled, StartTLS or Implicit."""
    auth: str
    """None, Basic or OAuth2."""
    proxy: str | None = None
    """The object's own proxy: http://proxy.acme.example:3128; absent without one, and for what is inherited."""


class Binding(StatusModel):
    """The delivered Secret, where Service Binding tools look for it."""

    name: str
    """The Secret's name."""


class FailureStatus(StatusModel):
    """Why something failed, and what to do about it."""

    cause: str
    """The condition's reason: the cause by the name that docs/troubleshooting.md has it under, where it is one."""
    message: str
    """What happened."""
    remedy: str | None = None
    """What to do."""
    docs: str | None = None
    """Where the documentation tells of the cause; absent where it tells of the operator itself."""
    transient: bool = False
    """Whether it may pass without anybody's doing."""

    @property
    def explained(self) -> str:
        """All of it in the words of a condition."""
        return explained(self.message, self.remedy, self.docs)


class ProbeFailureStatus(FailureStatus):
    """Why the last probe failed."""

    stage: str
    """The step of the SMTP dialogue: resolve, proxy, connect, greeting, tls, ehlo, auth, mail, rcpt or data; or token,
    where an access token had to be got first."""
    code: Count | None = None
    """The server's reply code, where it answered."""
    enhanced_code: str | None = None
    """The server's enhanced status code (RFC 3463), where it gave one."""


class StageStatus(StatusModel):
    """A stage of the last probe."""

    name: str
    """resolve, proxy, connect, greeting, tls, ehlo, auth, mail, rcpt or data. With implicit TLS tls includes the
    greeting. Before them token, where settings are tried that are not saved."""
    duration: str
    """How long it took, in milliseconds: 12ms."""


class CertificateStatus(StatusModel):
    """A certificate."""

    subject: str
    """Whose it is."""
    issuer: str
    """Who has issued it."""
    expires_at: Time
    """When it ends."""


class ProbedServer(StatusModel):
    """What the server has shown of itself."""

    tls_version: str | None = None
    """The TLS version: TLSv1.3; absent where nothing was encrypted."""
    cipher: str | None = None
    """The cipher, by OpenSSL's name."""
    certificate: CertificateStatus | None = None
    """The certificate of the server's chain that ends first, usually its own."""
    mechanisms: Annotated[list[str], Field(max_length=16)] | None = None
    """What the server offers to log in with."""
    size: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = None
    """How many bytes a message may have, where the server says so."""


class ProbeStatus(StatusModel):
    """The last probe and the next."""

    mode: ProbeMode
    """How far the last probe went."""
    last_probe_time: Time
    """When the last probe ended."""
    last_success_time: Time | None = None
    """When a probe last passed."""
    next_probe_time: Time | None = None
    """When the next probe is due; absent while nothing but a change or a request leads to one."""
    duration: str
    """How long the last probe took, in milliseconds: 182ms."""
    consecutive_failures: Count
    """How many probes in a row have failed."""
    last_handled_request: str | None = None
    """The value of the annotation mailsettings.dev/probe-requested-at that was last acted on."""
    fingerprint: str
    """A keyed digest of what was tested. When it no longer fits, the settings are tested anew."""
    generation: Generation
    """The metadata.generation that was tested."""
    token: str | None = None
    """Which OAuth2 token was presented, by a name that tells nothing else."""
    failure: ProbeFailureStatus | None = None
    """Why the last probe failed; absent when it passed."""
    warnings: Annotated[list[str], Field(max_length=8)] | None = None
    """What DNS says of the sender's domain that may keep mail from being delivered, where the operator looks at it."""
    message_id: Annotated[str | None, Field(alias="messageID")] = None
    """The Message-ID of the test mail, by which it can be found in mailboxes and in the server's log."""
    server: ProbedServer | None = None
    """What the server has shown of itself; absent where the probe did not come so far."""
    stages: Annotated[list[StageStatus], Field(max_length=10)] | None = None
    """How long the last probe's stages took, in their order."""


class TestMailsStatus(StatusModel):
    """How many test mails have been sent lately, so that no loop can flood a mailbox."""

    __test__: ClassVar[bool] = False
    since: Time
    """When the hour began that is counted."""
    sent: Count
    """How many sendings have begun in it."""


class TokenState(StrEnum):
    """What has become of the OAuth2 token."""

    NOT_GENERATED = "NotGenerated"
    GENERATED = "Generated"
    EXPIRING = "Expiring"
    EXPIRED = "Expired"
    REVOKED = "Revoked"


class OAuth2Failure(FailureStatus):
    """Why the token could not be renewed, and what has to survive a restart of the operator."""

    transient: bool
    """Whether the token is as good as before: the provider could not be asked."""
    time: Time
    """When the last attempt failed."""
    retry_at: Time | None = None
    """When the next attempt is made, unless something changes before; absent where a person has to make it."""
    consecutive_failures: Count
    """How many attempts in a row have failed."""
    attempt: str
    """A keyed digest of what was attempted. When it no longer fits, the next attempt is made at once."""
    token: str | None = None
    """Which token was held then, by a name that tells nothing else. When another is held, the failure is past."""
    request: str | None = None
    """The value of the annotation mailsettings.dev/rotate-requested-at that was last acted on, in vain."""


class WarningCause(StrEnum):
    """What will run out."""

    REFRESH_TOKEN = "RefreshToken"
    CLIENT_SECRET = "ClientSecret"
    CLIENT_CERTIFICATE = "ClientCertificate"
    SERVICE_ACCOUNT_KEY = "ServiceAccountKey"


class OAuth2Warning(StatusModel):
    """Something that ends the renewal of tokens unless a person acts in time."""

    cause: WarningCause
    """RefreshToken, ClientSecret, ClientCertificate or ServiceAccountKey."""
    expires_at: Time | None = None
    """When it runs out; absent where the annotation that should say so cannot be read."""
    message: str
    """What happens and what to do."""


MAX_SCOPES: Final = 64
"""Of a token, that are kept and told; a provider may grant more than it was asked for."""


class OAuth2Status(StatusModel):
    """The OAuth2 token."""

    token_state: TokenState
    """NotGenerated, Generated, Expiring (soon and not being renewed, or its renewal fails), Expired or Revoked."""
    account: str
    """The mailbox that the token is for."""
    authorize_url: Annotated[str | None, Field(alias="authorizeURL")] = None
    """Where a person consents, in a browser. It stays the same as long as the object lives."""
    redirect_uri: Annotated[str | None, Field(alias="redirectURI")] = None
    """What has to be registered at the provider, for the client, as a redirect URI of the type Web."""
    scopes: Annotated[list[str], Field(max_length=MAX_SCOPES)] | None = None
    """What the token permits."""
    access_token_expires_at: Time | None = None
    """When the access token runs out."""
    refresh_token_expires_at: Time | None = None
    """When the refresh token runs out, as far as the provider says so or has documented it."""
    last_refresh_time: Time | None = None
    """When the token was got."""
    next_refresh_time: Time | None = None
    """When it is to be renewed, and until that has succeeded, was; absent where it is renewed ahead of its time."""
    last_handled_request: str | None = None
    """The value of the annotation mailsettings.dev/rotate-requested-at that was last acted on, with success or not."""
    warnings: Annotated[list[OAuth2Warning], Field(max_length=8)] | None = None
    """What runs out soon; absent while nothing does."""
    failure: OAuth2Failure | None = None
    """Why the last attempt failed; absent when it did not."""


class TenantFailure(StatusModel):
    """A namespace that provision Always cannot serve."""

    namespace: str
    """The namespace."""
    reason: str
    """Why, as one word of a closed list."""


class TenantsStatus(StatusModel):
    """Who uses the cluster object."""

    allowed: Count
    """How many namespaces may use these settings."""
    inheriting: Count
    """How many namespaces do: with a MailServerSettings that inherits, or by provision Always."""
    failures: Annotated[list[TenantFailure], Field(max_length=10)] | None = None
    """Namespaces that provision Always cannot serve, at most ten of them."""


class ReportedStatus(StatusModel):
    """What every kind reports."""

    observed_generation: Generation = -1
    """The metadata.generation that the operator has acted on; -1 before it has seen the object."""
    conditions: (
        Annotated[
            list[Condition],
            Field(
                max_length=16,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                },
            ),
        ]
        | None
    ) = None
    """The state in parts."""


class ServerStatus(ReportedStatus):
    """What both kinds of settings report."""

    effective: Effective | None = None
    """The settings in force."""
    oauth2: OAuth2Status | None = None
    """The OAuth2 token."""
    probe: ProbeStatus | None = None
    """The last probe and the next."""
    test_mails: TestMailsStatus | None = None
    """How many test mails were sent lately."""


class MailServerSettingsStatus(ServerStatus):
    """The status of a MailServerSettings."""

    binding: Binding | None = None
    """The delivered Secret (Service Binding specification, Provisioned Service)."""


class ClusterMailServerSettingsStatus(ServerStatus):
    """The status of a ClusterMailServerSettings."""

    tenants: TenantsStatus | None = None
    """Who uses these settings."""
