"""The operator's own configuration, from its environment."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from mailsettings.api import names
from mailsettings.api.identity import Cloud
from mailsettings.api.patterns import HTTPS_URI_PATTERN, SCOPE_PATTERN
from mailsettings.api.scalars import NamespaceName
from mailsettings.core.documentation import DEFAULT_URL, documentation_url
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.lease import Terms

PREFIX: Final = "MAILSETTINGS_"


def _readable(path: str) -> str:
    if path:
        try:
            Path(path).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot be read: {type(error).__name__}") from None
    return path


def _external(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not (parts.scheme == "https" or is_local) or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be https://HOST or https://HOST:PORT, without a path")
    return url.rstrip("/")


def _authority(url: str) -> str:
    """Without the slash at its end: the directory follows."""
    if url and (re.fullmatch(HTTPS_URI_PATTERN, url) is None or "?" in url):
        raise ValueError("must be an https URL without a query")
    return url.rstrip("/")


def _scopes(text: str) -> str:
    if not all(re.fullmatch(SCOPE_PATTERN, scope) for scope in text.split()):
        raise ValueError("must be scopes, separated by blanks")
    return text


class Config(BaseModel):
    """What an administrator sets on the Deployment. Each field is the variable of its name behind `MAILSETTINGS_`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)

    namespace: Annotated[str, Field(min_length=1, max_length=63)] = names.OPERATOR_NAMESPACE
    """The operator's own namespace: where the cluster objects' Secrets and ConfigMaps are."""
    egress_allow: str = ""
    """Addresses that settings may name although the egress policy denies them by default."""
    egress_deny: str = ""
    """Addresses that settings may not name, whatever else holds: the cluster's own ranges, where they are public."""
    egress_smtp_ports: str = ""
    """Ports that settings may name beside 25, 465, 587 and 2525."""
    egress_proxies: str = ""
    """Proxies that tenants may name in connection.proxy, as HOST:PORT, separated by commas or blanks."""
    require_secret_label: bool = False
    """Refuse referenced Secrets that are not labelled mailsettings.dev/referable: "true"."""
    cluster_name: Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """What test mails call the cluster. When empty, the first part of the uid of the namespace kube-system."""
    probe_deadline_seconds: Annotated[int, Field(ge=1, le=600)] = 60
    """How long a whole probe may take."""
    probe_limit: Annotated[int, Field(ge=1, le=1000)] = 16
    """How many probes may run at a time."""
    check_sender: bool = False
    """Look at the DNS of mailFrom's domain in each probe that passes, and warn where SPF, DMARC or MX are amiss."""
    test_limit: Annotated[int, Field(ge=1, le=100)] = 8
    """How many of those probes may be MailServerTests; of one namespace two at most."""
    test_mails_per_hour: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many test mails may be sent in an hour for the objects of one namespace: probes and MailServerTests."""
    recipient_mails_per_hour: Annotated[int, Field(ge=2, le=2000, validate_default=True)] = 60
    """How many may be sent in an hour to one address, for all tenants together; at least twice those of a namespace."""
    oauth2_ca_file: Annotated[str, AfterValidator(_readable)] = ""
    """A file of PEM certificates that identity providers are trusted by, beside the public authorities."""
    oauth2_token_file: Annotated[str, AfterValidator(_readable)] = ""
    """A projected service-account token of the operator's own, for clientAuth.federation of cluster objects."""
    oauth2_deadline_seconds: Annotated[int, Field(ge=1, le=120)] = 20
    """How long a request for a token may take as a whole. After a crash it is repeated 15 seconds later than that."""
    oauth2_limit: Annotated[int, Field(ge=1, le=16)] = 8
    """How many tokens may be asked for at a time."""
    oauth2_cloud_authority: Annotated[str, AfterValidator(_authority)] = ""
    """The cloud Custom of Office365: the https URL before the directory, such as https://login.cloud.example."""
    oauth2_cloud_delegated_scopes: Annotated[str, AfterValidator(_scopes)] = ""
    """The scopes there for a person's mailbox, separated by blanks."""
    oauth2_cloud_application_scopes: Annotated[str, AfterValidator(_scopes)] = ""
    """The scopes there for grant ClientCredentials, separated by blanks; at Microsoft's one that ends in /.default."""
    oauth2_revoke: bool = False
    """Revoke refresh tokens at the provider when settings are deleted. It takes a right: manifests/components."""
    external_url: Annotated[str, AfterValidator(_external)] = ""
    """Where browsers reach the operator: https://consent.example.com. Only then are its consent pages served."""
    consent_listen: Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")] = "0.0.0.0:8081"
    """Where the consent pages are served: HTTP without TLS, which whatever stands in front has to add."""
    relay_namespace: NamespaceName = names.RELAY_NAMESPACE
    """The relay's namespace: where its Service, its certificate and what it is told are."""
    relay_address: Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9.-]+:[0-9]{1,5}$")] = ""
    """Where clients find the relay, as HOST:PORT. When empty its Service: mailsettings-relay.NAMESPACE.svc:587."""
    relay_audit_recipients: bool = False
    """Have the relay's audit lines name recipients in full, not only how many there are."""
    leader_election: bool = False
    """Act only while holding the Lease mailsettings-operator: for several replicas, as in the manifests."""
    lease_seconds: Annotated[int, Field(ge=3, le=300)] = 15
    """How long the Lease lasts: so long after a crash of the active replica another one takes over."""
    pod_name: Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9.-]*$")] = ""
    """What this replica calls itself in the Lease, in claims and in events. When empty, the name of its host."""
    docs_url: Annotated[str, AfterValidator(documentation_url)] = DEFAULT_URL
    """The URL at which this folder docs is published: links in conditions, events, pages and diagnoses begin so."""
    pod_uid: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9-]*$")] = ""
    """The uid of the relay's Pod, with which its report to the operator goes."""
    workers: Annotated[int, Field(ge=1, le=64)] = 16
    """How many objects are reconciled at a time."""
    log_level: Annotated[str, BeforeValidator(str.upper), Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    @field_validator("recipient_mails_per_hour")
    @classmethod
    def _no_namespace_uses_it_up(cls, value: int, info: ValidationInfo) -> int:
        """In an hour that begins with any mail, one namespace sends fewer than twice as many as its own bound says."""
        if value < 2 * info.data.get("test_mails_per_hour", 0):
            raise ValueError(
                f"must be at least twice {PREFIX}TEST_MAILS_PER_HOUR, or one namespace alone could keep test mails "
                "from an address"
            )
        return value

    @property
    def probe_deadline(self) -> timedelta:
        """How long a whole probe may take."""
        return timedelta(seconds=self.probe_deadline_seconds)

    @property
    def lease_terms(self) -> Terms | None:
        """Under which terms the Lease is held; None: nobody is elected."""
        return Terms(self.lease_seconds) if self.leader_election else None

    @property
    def oauth2_deadline(self) -> timedelta:
        """How long a request for a token may take."""
        return timedelta(seconds=self.oauth2_deadline_seconds)

    @property
    def oauth2_ca(self) -> Path | None:
        """Whom identity providers are trusted by beside the public authorities."""
        return Path(self.oauth2_ca_file) if self.oauth2_ca_file else None

    @property
    def oauth2_token(self) -> Path | None:
        """Where the operator's own token is."""
        return Path(self.oauth2_token_file) if self.oauth2_token_file else None

    @property
    def oauth2_cloud(self) -> Cloud | None:
        """The cloud that settings name `Custom`."""
        if not self.oauth2_cloud_authority:
            return None
        return Cloud(
            token_uri=self.oauth2_cloud_authority,
            delegated_scopes=tuple(self.oauth2_cloud_delegated_scopes.split()),
            application_scopes=tuple(self.oauth2_cloud_application_scopes.split()),
        )

    @property
    def egress(self) -> EgressPolicy:
        """Where the operator may connect to.

        Raises:
            ValueError: an entry cannot be read; the message names it.
        """
        return EgressPolicy.parse(
            allow=self.egress_allow,
            deny=self.egress_deny,
            smtp_ports=self.egress_smtp_ports,
            proxies=self.egress_proxies,
        )

    @property
    def relay_at(self) -> tuple[str, int]:
        """Host and port of the relay."""
        if not self.relay_address:
            return f"{names.RELAY_SERVICE}.{self.relay_namespace}.svc", names.RELAY_PORT
        host, _, port = self.relay_address.rpartition(":")
        return host, int(port)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The configuration that an environment holds; unset and empty variables leave the defaults.

        Raises:
            pydantic.ValidationError: a value cannot be used.
        """
        values: dict[str, Any] = {
            field: environment[f"{PREFIX}{field.upper()}"]
            for field in cls.model_fields
            if environment.get(f"{PREFIX}{field.upper()}")
        }
        return cls.model_validate(values)
