"""The kind `MailServerTest`: a test that a person or a pipeline asks for."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mailsettings.api import names
from mailsettings.api.model import ApiModel, Lax, Rule
from mailsettings.api.probe import ProbeMode
from mailsettings.api.provider_rules import provider_rules
from mailsettings.api.scalars import WHOLE, Address, Mailbox, ObjectName
from mailsettings.api.spec import NAMES_SERVER_CEL, MailServer
from mailsettings.api.status import (
    Dialogue,
    Effective,
    ProbedServer,
    ProbeFailureStatus,
    ReportedStatus,
    StageStatus,
    Time,
)
from mailsettings.api.trial import trial_rules

DEFAULT_TTL_SECONDS: Final = 3600
MIN_TTL_SECONDS: Final = 60
MAX_TTL_SECONDS: Final = 7 * 24 * 3600
MODES: Final = (ProbeMode.CONNECT, ProbeMode.AUTHENTICATE, ProbeMode.SEND)


class SettingsKind(StrEnum):
    """Which settings a test may name."""

    TENANT = names.TENANT_KIND
    CLUSTER = names.CLUSTER_KIND


class SettingsRef(ApiModel):
    """Settings in the test's own namespace, or the system's."""

    kind: Annotated[SettingsKind | None, Lax] = None
    """MailServerSettings, which it is when absent, or ClusterMailServerSettings. Those are tested in the operator's
    namespace only: elsewhere test a MailServerSettings that uses them."""
    name: ObjectName
    """Their name."""


class InlineSettings(MailServer):
    """A mail server that is tried before it is saved. Its Secrets and ConfigMaps are in the test's namespace."""

    mail_from: Mailbox
    """The sender, as an address or as a name and an address: Acme <no-reply@acme.example>."""

    rules = (
        *provider_rules(),
        Rule(
            cel=NAMES_SERVER_CEL,
            holds=lambda s: s.names_server,
            message="settings.connection.host: set it, or a provider whose template has one",
        ),
        *trial_rules("settings.", "save the settings, and name them in settingsRef"),
    )


def _tests_something(mode: ProbeMode) -> ProbeMode:
    if mode not in MODES:
        raise PydanticCustomError("enum", "must be one of {names}", {"names": ", ".join(MODES)})
    return mode


_Mode = Annotated[ProbeMode, Lax, AfterValidator(_tests_something), Field(json_schema_extra={"enum": [*MODES]})]


class MailServerTestSpec(ApiModel):
    """What is to be tested, and how far. It cannot be changed: a test runs once."""

    settings_ref: SettingsRef | None = None
    """The settings to test, as they are in force: their own server, or the system's that they inherit."""
    settings: InlineSettings | None = None
    """A server to try. Whoever creates such a test must be allowed to get Secrets in the namespace. An OAuth2 token is
    got for the test alone and kept nowhere."""
    mode: _Mode | None = None
    """Connect stops after the greeting, TLS and EHLO; Authenticate logs in too; Send delivers a test mail. When absent
    Send if there is a recipient, else Authenticate, or Connect where there is no auth."""
    recipient: Address | None = None
    """Who gets the test mail. With inherited settings only whom the system's tenants.testRecipients permit; a test of a
    ClusterMailServerSettings itself, which there is in the operator's namespace only, may name anybody."""
    ttl_seconds_after_finished: (
        Annotated[
            int,
            Field(ge=MIN_TTL_SECONDS, le=MAX_TTL_SECONDS, json_schema_extra={"format": "int32"}),
            WHOLE,
        ]
        | None
    ) = None
    """How long the test is kept after its end, in seconds: from a minute to seven days. When absent an hour."""

    rules = (
        Rule(
            cel="has(self.settingsRef) != has(self.settings)",
            holds=lambda s: (s.settings_ref is None) != (s.settings is None),
            message="set exactly one of settingsRef and settings",
        ),
        Rule(
            cel="(has(self.mode) ? self.mode == 'Send' : has(self.recipient)) == has(self.recipient)",
            holds=lambda s: s.mode in (None, ProbeMode.SEND) if s.recipient else s.mode is not ProbeMode.SEND,
            message="recipient: mode Send needs an address that the test mail goes to, and the other modes take none",
        ),
        Rule(
            cel="self == oldSelf",
            # The models see one version only.
            holds=lambda _: True,
            message=f"a {names.TEST_KIND} runs once and cannot be changed; create another one",
        ),
    )

    @property
    def ttl_seconds(self) -> int:
        """How long the test is kept after its end."""
        return self.ttl_seconds_after_finished or DEFAULT_TTL_SECONDS


class MailServerTestStatus(ReportedStatus):
    """How far the test has come, and how it ended."""

    mode: ProbeMode | None = None
    """How far the test goes."""
    effective: Effective | None = None
    """The settings that are tested."""
    start_time: Time | None = None
    """When the test began."""
    attempt: str | None = None
    """A random name, by which an operator knows a test that it has begun itself."""
    completion_time: Time | None = None
    """When it ended, for whatever reason."""
    duration: str | None = None
    """How long the dialogue with the server took, in milliseconds: 182ms."""
    failure: ProbeFailureStatus | None = None
    """Where the dialogue with the server failed; absent when it passed, or did not take place."""
    stage: str | None = None
    """The stage that goes on now; absent before and after the dialogue, and where it is over within moments."""
    stages: Annotated[list[StageStatus], Field(max_length=11)] | None = None
    """The stages that the dialogue has come to, in their order, each with its time."""
    server: ProbedServer | None = None
    """What the server has shown of itself; absent where the test did not come so far."""
    warnings: Annotated[list[str], Field(max_length=8)] | None = None
    """What DNS says of the sender's domain that may keep mail from being delivered, where the operator looks at it."""
    message_id: Annotated[str | None, Field(alias="messageID")] = None
    """The Message-ID of the test mail, by which it can be found in mailboxes and in the server's log."""
    dialogue: Dialogue | None = None
    """What was said, line by line, without logins and without the mail: C: by the operator, S: by the server."""
