"""What a check found: the status, reason and message of a condition, before it has a history."""

from dataclasses import dataclass

from mailsettings.api.conditions import Reason


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer."""

    status: bool | None
    """None: not known yet."""
    reason: Reason
    message: str

    @property
    def holds(self) -> bool:
        """Whether the check passed."""
        return self.status is True


def passed(reason: Reason, message: str) -> Finding:
    """The check passed."""
    return Finding(True, reason, message)


def failed(reason: Reason, message: str) -> Finding:
    """The check failed."""
    return Finding(False, reason, message)


def unknown(reason: Reason, message: str) -> Finding:
    """The check has not run, or could not."""
    return Finding(None, reason, message)
