"""Gets tokens from identity providers: the synchronous libraries in threads, their connections through the policy."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from mailsettings.api.identity import Family
from mailsettings.core.egress import OAUTH2, EgressPolicy
from mailsettings.core.oauth2.answers import parse_device_authorization, parse_token
from mailsettings.core.oauth2.faults import Failure, FailureKind, TokenFault, diagnose
from mailsettings.core.oauth2.request import (
    DeviceAuthorization,
    DeviceAuthorizationRequest,
    RevocationRequest,
    Token,
    TokenRequest,
)
from mailsettings.core.server import Source
from mailsettings.edges import network
from mailsettings.edges.oauth2 import custom
from mailsettings.edges.oauth2.http import Deadline, FailureError, ProviderClient

MAX_THREADS: Final = 16
"""How many calls run at once. A call whose provider never answers holds a thread until its deadline."""

CONNECT_LIMIT: Final = timedelta(seconds=10)
"""Of the look-up, and of the connect, so that a dead address leaves time to say so."""

_THREADS: Final = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="oauth2")

T = TypeVar("T")


class TokenError(Exception):
    """There is no token; `fault` says why."""

    def __init__(self, fault: TokenFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


async def obtain(
    request: TokenRequest,
    *,
    policy: EgressPolicy,
    level: Source,
    ca_bundle: str | None,
    deadline: timedelta,
    since_s: float | None = None,
) -> Token:
    """A token, by one call that is never repeated here.

    A provider may have replaced the refresh token as soon as the call has begun: cancelling this coroutine does not
    end the call, and its answer is lost. Whoever may be cancelled shields it.

    Args:
        request: What to ask.
        policy: Which addresses may be connected to; for https on port 443 whatever its purpose is.
        level: Whose settings name the provider.
        ca_bundle: PEM certificates to trust instead of the public authorities.
        deadline: How long all of it may take, waiting for a thread included.
        since_s: From when on, by the monotonic clock; None: from now. Past the deadline nothing more is sent.

    Raises:
        TokenError: There is no token.
    """

    def call(client: ProviderClient) -> Token:
        issued_at = datetime.now(UTC)
        return parse_token(_ask(request, client), request, issued_at=issued_at)

    return await _asked(
        call, request, policy=policy, level=level, ca_bundle=ca_bundle, deadline=deadline, since_s=since_s
    )


async def authorize_device(
    request: DeviceAuthorizationRequest,
    *,
    policy: EgressPolicy,
    level: Source,
    ca_bundle: str | None,
    deadline: timedelta,
) -> DeviceAuthorization:
    """The codes with which a person consents on another device, by one call that is never repeated here.

    The token is asked for with `obtain` and the grant `DeviceCode`, one request for each call. The arguments are those
    of `obtain`.

    Raises:
        TokenError: There are no codes.
    """

    def call(client: ProviderClient) -> DeviceAuthorization:
        asked_at = datetime.now(UTC)
        return parse_device_authorization(_ask_device(request, client), asked_at=asked_at)

    return await _asked(call, request, policy=policy, level=level, ca_bundle=ca_bundle, deadline=deadline)


async def revoke(
    request: RevocationRequest, *, policy: EgressPolicy, level: Source, ca_bundle: str | None, deadline: timedelta
) -> Failure | None:
    """Ends a refresh token, by one call; why it may be good still, or None: it is not.

    The arguments are those of `obtain`.
    """

    def call(client: ProviderClient) -> None:
        _revoke(request, client)

    try:
        await _called(call, request, policy=policy, level=level, ca_bundle=ca_bundle, deadline=deadline)
    except FailureError as error:
        return error.failure
    return None


# The providers' libraries are imported when they are needed: together they take 8 MB and a quarter of a second.


def _ask(request: TokenRequest, client: ProviderClient) -> Mapping[str, Any]:
    match request.family:
        case Family.MICROSOFT:
            from mailsettings.edges.oauth2 import microsoft  # noqa: PLC0415

            return microsoft.ask(request, client)
        case Family.GOOGLE:
            from mailsettings.edges.oauth2 import google  # noqa: PLC0415

            return google.ask(request, client)
        case Family.CUSTOM:
            return custom.ask(request, client)


def _ask_device(request: DeviceAuthorizationRequest, client: ProviderClient) -> Mapping[str, Any]:
    if request.family is Family.MICROSOFT:
        from mailsettings.edges.oauth2 import microsoft  # noqa: PLC0415

        return microsoft.ask_device(request, client)
    return custom.ask_device(request, client)


def _revoke(request: RevocationRequest, client: ProviderClient) -> None:
    if request.family is Family.GOOGLE:
        from mailsettings.edges.oauth2 import google  # noqa: PLC0415

        google.revoke(request, client)
    else:
        custom.revoke(request, client)


async def _asked(
    call: Callable[[ProviderClient], T],
    request: TokenRequest | DeviceAuthorizationRequest,
    *,
    policy: EgressPolicy,
    level: Source,
    ca_bundle: str | None,
    deadline: timedelta,
    since_s: float | None = None,
) -> T:
    """What a call gives.

    Raises:
        TokenError: It failed.
    """
    try:
        return await _called(
            call,
            request,
            policy=policy,
            level=level,
            ca_bundle=ca_bundle,
            deadline=deadline,
            since_s=since_s,
        )
    except FailureError as error:
        failure = error.failure
    # Outside of the handler: what the libraries and OpenSSL said stays out of tracebacks.
    raise TokenError(diagnose(failure, request, deadline=deadline))


async def _called(
    call: Callable[[ProviderClient], T],
    request: TokenRequest | DeviceAuthorizationRequest | RevocationRequest,
    *,
    policy: EgressPolicy,
    level: Source,
    ca_bundle: str | None,
    deadline: timedelta,
    since_s: float | None = None,
) -> T:
    """What a call gives, made in a thread with a client of its own for the endpoint's host and the proxy.

    Raises:
        FailureError: It failed.
    """
    ends_at = Deadline((time.monotonic() if since_s is None else since_s) + deadline.total_seconds())
    provider_policy = replace(policy, purpose=OAUTH2)
    loop = asyncio.get_running_loop()

    def connect(host: str, port: int, within_s: float) -> socket.socket:
        within = min(CONNECT_LIMIT, timedelta(seconds=within_s))
        attempt = network.connect(host, port, level=level, policy=provider_policy, within=within, proxy=request.proxy)
        return _in_loop(attempt, loop, within_s)

    client = ProviderClient(request.endpoint, connect=connect, ca_bundle=ca_bundle, deadline=ends_at)
    return await _in_thread(lambda: call(client), deadline)


async def _in_thread(call: Callable[[], T], within: timedelta) -> T:
    """The result of a call that bounds itself in time once it runs; one that does not begin in time is not made."""
    future = _THREADS.submit(call)
    result = asyncio.wrap_future(future)
    await asyncio.wait({result}, timeout=within.total_seconds())
    if not result.done() and future.cancel():
        raise FailureError(FailureKind.BUSY)
    return await result


def _in_loop(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, within_s: float) -> T:
    """The result of a coroutine that runs in the event loop, for one of the threads.

    Raises:
        TimeoutError: It took too long and was cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(within_s)
    except TimeoutError:
        future.cancel()
        raise
