"""Tries OAuth2 settings that are not saved: a token that is got for one probe and kept nowhere. Pure."""

from dataclasses import replace
from datetime import timedelta

from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.request import Token
from mailsettings.core.oauth2.subject import TokenSubject
from mailsettings.core.probe import ProbeFailure, ProbeRequest, ProbeResult, Stage, StageTime, TokenWish
from mailsettings.core.server import BearerToken


def token_wish(subject: TokenSubject) -> TokenWish:
    """What a probe of these settings is to ask a token with.

    Raises:
        ValueError: The settings say what `api.trial` refuses.
    """
    return TokenWish(subject.oauth2.username, subject.request(subject.refresh_token(None), _federation))


def _federation(_audience: str) -> str:
    raise ValueError("a trial never sends the operator's own token")


def with_token(request: ProbeRequest, wish: TokenWish, token: Token) -> ProbeRequest:
    """The probe with the token that was got for it."""
    return replace(request, credentials=BearerToken(wish.username, token.access_token), wish=None)


def without_token(fault: TokenFault, took: timedelta) -> ProbeResult:
    """The end of a probe that has got no token."""
    failure = ProbeFailure(
        Stage.TOKEN,
        fault.reason,
        fault.happened,
        remedy=fault.remedy,
        docs=fault.docs,
        is_transient=fault.is_transient,
    )
    return ProbeResult(took, failure, stages=(StageTime(Stage.TOKEN, took),))


def after_token(result: ProbeResult, took: timedelta) -> ProbeResult:
    """The result of a probe with the time that its token has taken."""
    return replace(result, duration=result.duration + took, stages=(StageTime(Stage.TOKEN, took), *result.stages))
