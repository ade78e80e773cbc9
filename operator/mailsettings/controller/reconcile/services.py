"""What the reconcilers share: the state, the edges and the queue."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from mailsettings.api.identity import Cloud
from mailsettings.controller.consents import ConsentRunner
from mailsettings.controller.deliveries import Deliveries
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.events import EventRecorder
from mailsettings.controller.keys import Key
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.probes import ProbeRunner
from mailsettings.controller.relay import Relay
from mailsettings.controller.relay_reports import RelayReports
from mailsettings.controller.renewals import TokenRenewer
from mailsettings.controller.revocations import TokenRevoker
from mailsettings.controller.store import Store
from mailsettings.core.digest import Digester
from mailsettings.core.oauth2.state import Flows
from mailsettings.edges.consents import ConsentStore
from mailsettings.edges.kubernetes import KubernetesApi
from mailsettings.edges.relay_certificate import RelayCertificates
from mailsettings.edges.slots import LeasedSlots
from mailsettings.edges.token_store import TokenStore


@dataclass(frozen=True, slots=True)
class Services:
    """Made once, at the start."""

    api: KubernetesApi
    store: Store
    digest: Digester
    deliveries: Deliveries
    probes: ProbeRunner
    mail_tests: MailTests
    probe_deadline: timedelta
    """How long a probe may take."""
    token_deadline: timedelta
    """How long it may take to get a token."""
    tokens: TokenStore
    renewals: TokenRenewer
    revocations: TokenRevoker
    consents: ConsentStore
    consenting: ConsentRunner
    flows: Flows
    events: EventRecorder
    echoes: Echoes
    enqueue: Callable[[Key], None]
    enqueue_many: Callable[[Iterable[Key]], None]
    """Has a key reconciled as soon as possible."""
    enqueue_after: Callable[[Key, float], None]
    """Has a key reconciled after so many seconds at the latest."""
    operator_namespace: str
    cluster_name: str
    """What test mails call the cluster; empty: by its identity."""
    checks_sender: bool
    """Whether DNS is asked about senders' domains."""
    external_url: str
    """Where browsers reach the operator; empty: nowhere."""
    require_secret_label: bool
    custom_cloud: Cloud | None
    """The cloud that the administrator has defined."""
    relay: Relay
    slots: LeasedSlots
    reports: RelayReports
    certificates: RelayCertificates
    revokes_tokens: bool
    """Whether refresh tokens are revoked when their settings are deleted."""
