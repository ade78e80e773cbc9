"""When a token is renewed. Pure: the same token, time and seed always give the same answer."""

from datetime import datetime, timedelta
from typing import Final

from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.request import Token
from mailsettings.core.schedule import share

FRESH: Final = timedelta(minutes=10)
"""What a delivered access token has left at least."""

AHEAD: Final = timedelta(minutes=15)
"""How long before its expiry a token is renewed at the latest, so that a few attempts fit before `FRESH` is broken."""

JITTER: Final = 0.1
"""How far, as a share, times are moved so that the renewals of many objects do not meet."""

FIRST_RETRY: Final = timedelta(seconds=5)
MAX_RETRY: Final = timedelta(minutes=15)
FIRST_RETRY_AFTER_REFUSAL: Final = timedelta(minutes=10)
"""Providers lock clients out that repeat a refused request; and waiting does not mend what needs a person."""
MAX_RETRY_AFTER_REFUSAL: Final = timedelta(hours=6)


def is_fresh(token: Token, now: datetime) -> bool:
    """Whether an application can still be given this token: ten minutes left, or half its life if that is less."""
    return token.expires_at - now >= min(FRESH, token.life / 2)


def renew_at(token: Token, *, seed: str) -> datetime:
    """When to renew a token: at the earlier of half its life and 15 minutes left.

    Of a life below 22.5 minutes a third is used, whatever is left then: 15 minutes would be most of it or more, and
    half of it leaves no time for a second attempt before the token stops being fresh. Where the refresh token lives
    shorter than that, half of its life is all the time there is.

    Args:
        token: The token.
        seed: What the jitter depends on, such as the object's uid. It moves the time ahead, never back.
    """
    used = min(token.life / 2, max(token.life - AHEAD, token.life / 3))
    if token.refresh_token_expires_at is not None:
        used = max(timedelta(), min(used, (token.refresh_token_expires_at - token.issued_at) / 2))
    return token.issued_at + used * (1 - JITTER * share(f"{seed}/renewal"))


def retry_delay(fault: TokenFault, *, consecutive_failures: int, seed: str) -> timedelta:
    """How long to wait after a failed renewal.

    Args:
        fault: The last failure.
        consecutive_failures: How many renewals in a row have failed, the last one included.
        seed: What the jitter depends on. It makes the wait longer, never shorter than the provider asks for.
    """
    first, most = (
        (FIRST_RETRY, MAX_RETRY) if fault.is_transient else (FIRST_RETRY_AFTER_REFUSAL, MAX_RETRY_AFTER_REFUSAL)
    )
    doublings = min(consecutive_failures - 1, 20)
    delay: timedelta = max(min(most, first * 2**doublings), fault.retry_after or timedelta())
    return delay * (1 + JITTER * share(f"{seed}/{consecutive_failures}"))
