"""Metrics of a replica, as Prometheus reads them. No label names a tenant, an address or a mail server.

Whoever can reach the port can read them; what concerns single tenants is in the status of their settings.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from mailsettings.core.relay.audit import AuditRecord, Outcome
from mailsettings.core.relay.faults import RelayFault
from mailsettings.core.relay.policy import Rule

PREFIX: Final = "mailsettings_relay"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """A sink that counts for Prometheus."""

    def __init__(self) -> None:
        """Everything is 0, and there: an alert can ask for an increase from the beginning."""
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        messages = Counter(f"{PREFIX}_messages", "Messages, by what became of them.", ["outcome"], registry=registry)
        denials = Counter(f"{PREFIX}_denials", "Messages denied, by the rule.", ["rule"], registry=registry)
        faults = Counter(f"{PREFIX}_faults", "Messages not passed on, by the reason.", ["fault"], registry=registry)
        logins = Counter(f"{PREFIX}_logins", "Logins of clients.", ["result"], registry=registry)
        self._messages = {each: messages.labels(str(each)) for each in Outcome}
        self._denials = {str(each): denials.labels(str(each)) for each in Rule}
        self._faults = {str(each): faults.labels(str(each)) for each in RelayFault}
        self._logins = {accepted: logins.labels("accepted" if accepted else "refused") for accepted in (True, False)}
        self._octets = Counter(f"{PREFIX}_accepted_octets", "Octets of accepted messages.", registry=registry)
        self._upstream = Counter(
            f"{PREFIX}_upstream_failures",
            "Connections to mail servers that failed, by the cause.",
            ["cause"],
            registry=registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}_message_seconds",
            "From MAIL to the last reply, of accepted messages.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._upstream_seconds = Histogram(
            f"{PREFIX}_upstream_seconds",
            "Of that, waiting for the mail server's answer to the whole message.",
            buckets=_SECONDS,
            registry=registry,
        )

    def message(self, record: AuditRecord) -> None:
        """A message has come to its end."""
        self._messages[record.outcome].inc()
        if record.rule in self._denials:
            self._denials[record.rule].inc()
        if record.fault in self._faults:
            self._faults[record.fault].inc()
        if record.outcome is Outcome.ACCEPTED:
            self._octets.inc(record.octets)
            self._seconds.observe(record.duration_s)
            self._upstream_seconds.observe(record.upstream_s)

    def login(self, username: str, *, accepted: bool) -> None:  # noqa: ARG002 - the interface's
        """Somebody has tried to log in."""
        self._logins[accepted].inc()

    def upstream_failed(self, credential: str, reason: str) -> None:  # noqa: ARG002 - the interface's
        """There is no connection to a mail server."""
        self._upstream.labels(reason).inc()

    def watch(self, name: str, text: str, value: Callable[[], int]) -> None:
        """Shows a number as it is whenever somebody looks.

        Args:
            name: Of the metric, without the prefix.
            text: What it says.
            value: Gives it.
        """
        Gauge(f"{PREFIX}_{name}", text, registry=self._registry).set_function(value)

    def page(self) -> tuple[bytes, str]:
        """All of them, and the content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
