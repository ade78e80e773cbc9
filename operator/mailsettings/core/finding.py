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
    """What happened and what to do."""
    is_transient: bool | None = None
    """Whether a failure may pass without anybody's doing; None: as the reason says."""
    remedy: str = ""
    """What to do, alone, where `message` is made of parts; else empty."""

    @property
    def needs_person(self) -> bool:
        """Whether the check failed and waiting cannot help."""
        is_transient = not self.reason.needs_person if self.is_transient is None else self.is_transient
        return self.status is False and not is_transient

    @property
    def advice(self) -> str:
        """What to do; where that is no part of its own, the whole message."""
        return self.remedy or self.message

    @property
    def holds(self) -> bool:
        """Whether the check passed."""
        return self.status is True


def passed(reason: Reason, message: str) -> Finding:
    """The check passed."""
    return Finding(True, reason, message)


def failed(reason: Reason, message: str, *, is_transient: bool | None = None, remedy: str | None = None) -> Finding:
    """The check failed."""
    return Finding(False, reason, message, is_transient, remedy or "")


def unknown(reason: Reason, message: str) -> Finding:
    """The check has not run, or could not."""
    return Finding(None, reason, message)
