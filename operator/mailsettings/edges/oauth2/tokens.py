"""Gets tokens from identity providers: the synchronous libraries in threads, their connections through the policy."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class IdentityProviders:
    """Whoever gives tokens, as the operator's configuration lets them be reached."""

    policy: EgressPolicy
    """Which addresses may be connected to; for https on port 443 whatever its purpose is."""
    trust: Callable[[], str | None]
    """Gives the PEM certificates to trust instead of the public authorities; None: those."""
    deadline: timedelta
    """How long a call may take, waiting for a thread included."""

    async def obtain(self, request: TokenRequest, level: Source, since_s: float | None = None) -> Token:
        """A token, by one call that is never repeated here.

        A provider may have replaced the refresh token as soon as the call has begun: cancelling this coroutine does
        not end the call, and its answer is lost. Whoever may be cancelled shields it.

        Args:
            request: What to ask.
            level: Whose settings name the provider.
            since_s: From when on the deadline counts, by the monotonic clock; None: from now. Past it nothing more is
                sent.

        Raises:
            TokenError: There is no token.
        """

        def call(client: ProviderClient) -> Token:
            issued_at = datetime.now(UTC)
            return parse_token(_ask(request, client), request, issued_at=issued_at)

        return await self._asked(call, request, level, since_s)

    async def authorize_device(self, request: DeviceAuthorizationRequest, level: Source) -> DeviceAuthorization:
        """The codes with which a person consents on another device, by one call that is never repeated here.

        The token is asked for with `obtain` and the grant `DeviceCode`, one request for each call.

        Raises:
            TokenError: There are no codes.
        """

        def call(client: ProviderClient) -> DeviceAuthorization:
            asked_at = datetime.now(UTC)
            return parse_device_authorization(_ask_device(request, client), asked_at=asked_at)

        return await self._asked(call, request, level)

    async def revoke(self, request: RevocationRequest, level: Source) -> Failure | None:
        """Ends a refresh token, by one call; why it may be good still, or None: it is not."""

        def call(client: ProviderClient) -> None:
            _revoke(request, client)

        try:
            await self._called(call, request, level)
        except FailureError as error:
            return error.failure
        return None

    async def _asked(
        self,
        call: Callable[[ProviderClient], T],
        request: TokenRequest | DeviceAuthorizationRequest,
        level: Source,
        since_s: float | None = None,
    ) -> T:
        """What a call gives.

        Raises:
            TokenError: It failed.
        """
        try:
            return await self._called(call, request, level, since_s)
        except FailureError as error:
            failure = error.failure
        # Outside of the handler: what the libraries and OpenSSL said stays out of tracebacks.
        raise TokenError(diagnose(failure, request, deadline=self.deadline))

    async def _called(
        self,
        call: Callable[[ProviderClient], T],
        request: TokenRequest | DeviceAuthorizationRequest | RevocationRequest,
        level: Source,
        since_s: float | None = None,
    ) -> T:
        """What a call gives, made in a thread with a client of its own for the endpoint's host and the proxy.

        Raises:
            FailureError: It failed.
        """
        ends_at = Deadline((time.monotonic() if since_s is None else since_s) + self.deadline.total_seconds())
        policy = replace(self.policy, purpose=OAUTH2)
        loop = asyncio.get_running_loop()

        def connect(host: str, port: int, within_s: float) -> socket.socket:
            within = min(CONNECT_LIMIT, timedelta(seconds=within_s))
            attempt = network.connect(host, port, level=level, policy=policy, within=within, proxy=request.proxy)
            return _in_loop(attempt, loop, within_s)

        client = ProviderClient(request.endpoint, connect=connect, ca_bundle=self.trust(), deadline=ends_at)
        return await _in_thread(lambda: call(client), self.deadline)


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
