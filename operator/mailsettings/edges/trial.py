"""A probe, and before it, where settings are tried that are not saved, the token that it is to present."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

from mailsettings.core.egress import EgressPolicy
from mailsettings.core.oauth2 import trial
from mailsettings.core.oauth2.request import Token, TokenRequest
from mailsettings.core.probe import (
    Permit,
    ProbeProgress,
    ProbeRequest,
    ProbeResult,
    Progress,
    Stage,
    StageTime,
    untold,
)
from mailsettings.core.server import Source
from mailsettings.edges import smtp
from mailsettings.edges.oauth2.tokens import TokenError

Obtain = Callable[[TokenRequest, Source], Awaitable[Token]]
"""Asks a provider for a token, within a deadline of its own."""


async def probe(
    request: ProbeRequest,
    progress: Progress = untold,
    *,
    obtain: Obtain,
    permit: Permit,
    policy: EgressPolicy,
    deadline: timedelta,
) -> ProbeResult:
    """`smtp.probe`, with the token that the request wishes for, and what DNS says of the sender if that is asked.

    Nothing of the token is kept.

    Args:
        request: What to try.
        progress: Is told how far it has come.
        obtain: Gets the token.
        permit: Is asked right before a test mail.
        policy: Where the mail server may be.
        deadline: The bound for the probe, beside that for the token.
    """
    wish = request.wish
    dialogue = partial(_dialogue, permit=permit, policy=policy, deadline=deadline)
    if wish is None:
        return await dialogue(request, progress)
    time = asyncio.get_running_loop().time
    began_s = time()
    progress(ProbeProgress(Stage.TOKEN))
    try:
        token = await obtain(wish.request, request.level)
    except TokenError as error:
        return trial.without_token(error.fault, timedelta(seconds=time() - began_s))
    took = timedelta(seconds=time() - began_s)

    def told(later: ProbeProgress) -> None:
        progress(replace(later, stages=(StageTime(Stage.TOKEN, took), *later.stages)))

    return trial.after_token(await dialogue(trial.with_token(request, wish, token), told), took)


async def _dialogue(
    request: ProbeRequest, progress: Progress, *, permit: Permit, policy: EgressPolicy, deadline: timedelta
) -> ProbeResult:
    result = await smtp.probe(request, progress, permit=permit, policy=policy, deadline=deadline)
    if request.sender is None or result.failure is not None:
        return result
    from mailsettings.edges import sender_dns  # noqa: PLC0415 - few ask for it, and it takes time and memory

    return replace(result, warnings=await sender_dns.sender_warnings(request.sender))
