"""Times as Kubernetes writes them: UTC, whole seconds."""

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """`2026-11-22T16:40:00Z`. Source: RFC 3339, as metav1.Time has it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The moment that `format_time` wrote.

    Raises:
        ValueError: it is not such a text.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
