"""The probe: one SMTP dialogue with a mail server, as far as its mode says."""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Any, Final, TypeVar, cast

import aiosmtplib

from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core import sasl
from mailsettings.core.diagnosis import Fault, FaultKind, diagnose, fault_of
from mailsettings.core.dialogue import DATA, Said, is_quickly_shown, shown
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.message import compose
from mailsettings.core.probe import (
    Hold,
    Line,
    Permit,
    ProbeFailure,
    ProbeProgress,
    ProbeRequest,
    ProbeResult,
    Progress,
    ServerFacts,
    Speaker,
    Stage,
    StageTime,
    TestMail,
    freely,
    untold,
)
from mailsettings.core.server import BearerToken, Credentials, Login, Server
from mailsettings.edges import network
from mailsettings.edges.tls import CaBundleError, refused_chain, sent_chain, tls_context, trusted_chain

EHLO_NAME: Final = "[127.0.0.1]"
"""How the client names itself: an address literal (RFC 5321 §4.1.3) that is the same everywhere.

The machine's own name or address would tell every server about the inside of the cluster, a Pod's name is no FQDN
(Postfix: reject_non_fqdn_helo_hostname), and a made-up name does not resolve (reject_unknown_helo_hostname); a literal
passes all three checks. Widely used mail clients introduce themselves with this very one, so servers know it.
"""

QUIT_TIMEOUT: Final = timedelta(seconds=2)
"""How long the answer to QUIT is waited for at most: the verdict is known by then."""

TLS_ANSWER_TIMEOUT: Final = timedelta(seconds=1)
"""How long an answer to TLS is waited for at most, where a server has sent no greeting in its time."""

MAX_MECHANISMS: Final = 16
"""Of those that a server offers, so many are kept."""


async def probe(
    request: ProbeRequest,
    progress: Progress = untold,
    *,
    permit: Permit,
    policy: EgressPolicy,
    deadline: timedelta,
    ehlo_name: str = EHLO_NAME,
) -> ProbeResult:
    """Tries the settings against the real server.

    Every failure of the server, the network or the settings is in the result; nothing is tried twice.

    Args:
        request: What to try.
        progress: Is told how far it has come.
        permit: Is asked when the server has taken the recipient, right before the test mail.
        policy: Where connections may go.
        deadline: The bound for the whole, beside the server's timeout for each step.
        ehlo_name: How to introduce oneself.
    """
    clock = _Clock(progress)
    dialogue = _Dialogue(request, policy, ehlo_name, clock, permit)
    fault = await _fault_of(dialogue, deadline)
    stages, duration = clock.stages, clock.elapsed
    # Servers decide how much there is to be understood, and searched for secrets: not in the event loop.
    return ProbeResult(
        duration,
        None if fault is None else await asyncio.to_thread(diagnose, fault, request),
        stages=stages,
        server=dialogue.facts,
        message_id=dialogue.message_id,
        hold=dialogue.hold,
        dialogue=await _shown(dialogue.said, request),
    )


async def _shown(said: Sequence[Said], request: ProbeRequest) -> tuple[Line, ...]:
    """What was said, fit to be shown: where it is as short as usual at once, since a thread may wait for 5 ms."""
    if is_quickly_shown(said, request):
        return shown(said, request)
    return await asyncio.to_thread(shown, said, request)


class OpenFailedError(Exception):
    """A connection could not be opened; the failure holds no secret."""

    def __init__(self, failure: ProbeFailure, *, token_refused: bool) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.token_refused = token_refused
        """Whether the server did not take the access token: another one may do."""


async def open_client(
    request: ProbeRequest, *, policy: EgressPolicy, deadline: timedelta, ehlo_name: str = EHLO_NAME
) -> aiosmtplib.SMTP:
    """A client that is connected, and logged in where the request has a login.

    Args:
        request: Where to connect to, and as whom; its mode is no matter.
        policy: Where connections may go.
        deadline: The bound for the whole.
        ehlo_name: How to introduce oneself.

    Raises:
        OpenFailedError: There is no connection, or the server does not take the login.
    """
    dialogue = _Dialogue(replace(request, mode=ProbeMode.AUTHENTICATE), policy, ehlo_name, _Clock(untold), freely)
    limit = asyncio.timeout(deadline.total_seconds())
    try:
        async with limit:
            return await dialogue.open()
    except _FAILURES as error:
        expired = limit.expired() and dialogue.refusal is None
        fault = Fault(dialogue.stage, FaultKind.DEADLINE) if expired else _translate(error, dialogue.stage)
        refused = isinstance(error, _TokenRefusedError)
        raise OpenFailedError(diagnose(fault, request), token_refused=refused) from None


class _Clock:
    """Times the stages."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._time = asyncio.get_running_loop().time
        self._started = self._turned = self._time()
        self._stage: Stage | None = None
        self._durations_s: dict[Stage, float] = {}

    @property
    def elapsed(self) -> timedelta:
        """Since the beginning."""
        return timedelta(seconds=self._time() - self._started)

    @property
    def stages(self) -> tuple[StageTime, ...]:
        """How long each has taken."""
        self.enter(None)
        return self._so_far

    def enter(self, stage: Stage | None) -> None:
        """Ends a stage and begins another; None: no time counts from now on."""
        now = self._time()
        if self._stage is not None:
            self._durations_s[self._stage] += now - self._turned
        if stage is not None:
            if self._progress is not untold:
                self._progress(ProbeProgress(stage, self._so_far))
            self._durations_s.setdefault(stage, 0.0)
        self._stage, self._turned = stage, now

    @property
    def _so_far(self) -> tuple[StageTime, ...]:
        return tuple(StageTime(stage, timedelta(seconds=lasted)) for stage, lasted in self._durations_s.items())


async def _fault_of(dialogue: "_Dialogue", deadline: timedelta) -> Fault | None:
    limit = asyncio.timeout(deadline.total_seconds())
    try:
        async with limit:
            await dialogue.run()
    except _FAILURES as error:
        if dialogue.passed:  # only the goodbye failed
            return None
        dialogue.look_at_refused(error)
        if limit.expired() and dialogue.refusal is None:
            return Fault(dialogue.stage, FaultKind.DEADLINE)
        return _translate(dialogue.refusal or error, dialogue.stage)
    return None


class _FaultFoundError(Exception):
    """The dialogue itself found that it cannot go on."""

    def __init__(self, kind: FaultKind, detail: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail


_FAILURES: Final = (_FaultFoundError, network.NetworkError, aiosmtplib.SMTPException, OSError)
"""What a dialogue can end by."""


class _TokenRefusedError(aiosmtplib.SMTPAuthenticationError):
    """The server did not take the access token."""

    def __init__(self, reply: aiosmtplib.SMTPResponse, challenge: str) -> None:
        super().__init__(reply.code, reply.message)
        self.challenge = challenge


class _Client(aiosmtplib.SMTP):
    """aiosmtplib's client, which lets go of its connection at once.

    A graceful end of TLS would wait for the peer, for half a minute after a time-out.
    """

    def __init__(self, heard: Callable[[Speaker, str, int | None], None], **options: Any) -> None:  # noqa: ANN401 - the base's
        """A client.

        Args:
            heard: Is told what each side says, and the code of a reply.
            options: As aiosmtplib has them.
        """
        super().__init__(**options)
        self._heard = heard

    def unobserved(self) -> None:
        """From now on nobody is told what is said."""
        self._heard = lambda _speaker, _text, _code: None

    def close(self) -> None:
        """Closes the connection without waiting for the peer."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()
        super().close()

    async def connect(self, **options: Any) -> aiosmtplib.SMTPResponse:  # noqa: ANN401 - the base's
        """Waits for the greeting."""
        return await self._reply(super().connect(**options))

    async def execute_command(self, *words: bytes, **options: Any) -> aiosmtplib.SMTPResponse:  # noqa: ANN401
        """Says a command and waits for its reply."""
        self._heard(Speaker.CLIENT, b" ".join(words).decode("utf-8", "replace"), None)
        return await self._reply(super().execute_command(*words, **options))

    async def starttls(self, **options: Any) -> aiosmtplib.SMTPResponse:  # noqa: ANN401
        """Turns to TLS."""
        self._heard(Speaker.CLIENT, "STARTTLS", None)
        return await self._reply(super().starttls(**options))

    async def data(self, message: str | bytes, **options: Any) -> aiosmtplib.SMTPResponse:  # noqa: ANN401
        """Says DATA and the message, of which the dialogue shows only the size."""
        self._heard(Speaker.CLIENT, DATA, None)
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        self._heard(Speaker.CLIENT, text, None)
        return await self._reply(super().data(message, **options))

    async def _reply(self, awaited: Awaitable[aiosmtplib.SMTPResponse]) -> aiosmtplib.SMTPResponse:
        try:
            reply = await awaited
        except aiosmtplib.SMTPResponseException as error:
            # The client says -1 where it cannot read what came.
            if error.code > 0:
                self._heard(Speaker.SERVER, error.message, error.code)
            else:
                self._heard(Speaker.NOTE, "[what came is no SMTP reply]", None)
            raise
        self._heard(Speaker.SERVER, reply.message, reply.code)
        return reply


_T = TypeVar("_T")
_Step = Callable[[_Client], Awaitable[None]]


class _Dialogue:
    """One connection and how far it has come."""

    def __init__(
        self, request: ProbeRequest, policy: EgressPolicy, ehlo_name: str, clock: _Clock, permit: Permit
    ) -> None:
        self._request = request
        self._server = request.server
        self._policy = policy
        self._ehlo_name = ehlo_name
        self._clock = clock
        self._permit = permit
        self._stage = Stage.CONNECT
        self.said: list[Said] = []
        self.facts = ServerFacts()
        self.message_id: str | None = None
        self.hold: Hold | None = None
        self.passed = False
        self.refusal: Exception | None = None
        """Why the dialogue ended before its goodbye, which may fail in its own way."""

    @property
    def stage(self) -> Stage:
        """The present one."""
        return self._stage

    @stage.setter
    def stage(self, stage: Stage) -> None:
        self._stage = stage
        self._clock.enter(stage)

    def _heard(self, speaker: Speaker, text: str, code: int | None) -> None:
        self.said.append(Said(speaker, text, self._clock.elapsed, code))

    async def run(self) -> None:
        """All steps that the mode wants, in order.

        Raises:
            _FaultFoundError: The server does not offer what is needed, or the CA bundle cannot be read.
            NetworkError: There is no connection.
            aiosmtplib.SMTPException: The server refused a step, broke off, was late or spoke no SMTP.
            OSError: TLS failed, or the connection broke.
        """
        steps = self._steps()
        client, connection = await self._connected()
        try:
            await self._take(steps, client)
            self.passed = True
            await self._quit(client)
        finally:
            client.close()
            connection.close()

    async def _take(self, steps: Sequence[_Step], client: _Client) -> None:
        """Takes the steps; says goodbye after one that has failed, too."""
        try:
            for step in steps:
                await step(client)
        except (_FaultFoundError, aiosmtplib.SMTPResponseException) as error:
            self.refusal = error
            await self._quit(client)
            raise

    async def open(self) -> _Client:
        """All steps that the mode wants; the connection stays open until the client is closed.

        Raises:
            _FaultFoundError, NetworkError, aiosmtplib.SMTPException, OSError: As `run`.
        """
        client, _ = await self._connected()
        try:
            for step in self._steps():
                await step(client)
        except BaseException:
            client.close()
            raise
        client.unobserved()
        return client

    async def _quit(self, client: _Client) -> None:
        """Says goodbye, politely but not for long; what becomes of it does not matter any more."""
        self._clock.enter(None)
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=QUIT_TIMEOUT.total_seconds())

    def _steps(self) -> list[_Step]:
        request = self._request
        steps: list[_Step] = [self._ehlo]
        if self._server.tls_mode is TlsMode.START_TLS:
            # What was said before TLS is forgotten, so EHLO again. Source: RFC 3207 §4.2.
            steps += [self._start_tls, self._ehlo]
        if request.mode is not ProbeMode.CONNECT and request.credentials is not None:
            steps += [partial(self._log_in, login=request.credentials)]
        if request.mode is ProbeMode.SEND:
            if request.mail is None:
                raise ValueError("a probe of mode Send needs a mail")
            steps += [partial(self._send, mail=request.mail)]
        return steps

    async def _connected(self) -> tuple[_Client, socket.socket]:
        """A client whose server has greeted, and its connection."""
        server = self._server
        context = await self._context()
        connection = await network.connect(
            server.host,
            server.port,
            level=self._request.level,
            policy=self._policy,
            within=server.timeout,
            proxy=server.proxy,
            entered=self._enter,
        )
        client = _Client(
            self._heard,
            sock=connection,
            hostname=_certified_name(server),
            local_hostname=self._ehlo_name,
            timeout=server.timeout.total_seconds(),
            use_tls=server.tls_mode is TlsMode.IMPLICIT,
            start_tls=False,  # never opportunistic: `_start_tls` does it or fails
            tls_context=context,
        )
        try:
            await self._greet(client, connection)
        except BaseException:
            client.close()
            connection.close()
            raise
        return client, connection

    def _enter(self, stage: Stage) -> None:
        self.stage = stage

    async def _context(self) -> ssl.SSLContext | None:
        server = self._server
        if server.tls_mode is TlsMode.DISABLED:
            return None
        try:
            return await asyncio.to_thread(
                tls_context,
                server.tls_min_version,
                server.ca_bundle,
                verify=not server.tls_insecure_skip_verify,
            )
        except CaBundleError as error:
            self.stage = Stage.TLS
            raise _FaultFoundError(FaultKind.CA_BUNDLE) from error

    async def _greet(self, client: _Client, connection: socket.socket) -> None:
        if self._server.tls_mode is TlsMode.IMPLICIT:
            await self._greet_over_tls(client)
            return
        self.stage = Stage.GREETING
        has_begun = False
        try:
            async with asyncio.timeout(self._server.timeout.total_seconds()):
                first = await network.peek(connection, 2)
                has_begun = True
                if _looks_like_tls(first):
                    raise _FaultFoundError(FaultKind.TLS_BYTES)
                await client.connect(timeout=None)  # that of both steps is set here
        except TimeoutError:
            if not has_begun and await _waits_for_tls(connection, _certified_name(self._server)):
                raise _FaultFoundError(FaultKind.TLS_BYTES) from None
            raise

    async def _greet_over_tls(self, client: _Client) -> None:
        self.stage = Stage.TLS
        try:
            await client.connect()
        except aiosmtplib.SMTPException as error:
            # The client wraps what the handshake raises; what it raises of its own is about the greeting.
            if isinstance(_cause(error), aiosmtplib.SMTPException):
                self.stage = Stage.GREETING
            raise
        self._look_at_tls(client)

    def _look_at_tls(self, client: _Client) -> None:
        connection = client.get_transport_info("ssl_object")
        if connection is None:
            return
        cipher = connection.cipher()
        self.facts = replace(
            self.facts,
            tls_version=connection.version(),
            cipher=cipher[0] if cipher else None,
            chain=sent_chain(connection),
            trusted=() if self._server.tls_insecure_skip_verify else trusted_chain(connection),
        )
        self._heard(Speaker.NOTE, f"[TLS: {self.facts.tls_version}, {self.facts.cipher}]", None)

    def look_at_refused(self, error: Exception) -> None:
        """Keeps the certificates over which the handshake failed, if it was that."""
        chain = refused_chain(_cause(error))
        if chain:
            self.facts = replace(self.facts, chain=chain)

    async def _ehlo(self, client: _Client) -> None:
        self.stage = Stage.EHLO
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            # A server that does not know EHLO may know HELO. Source: RFC 5321 §3.2.
            if error.code not in (500, 502):
                raise
            await client.helo()
        mechanisms = tuple(_names(client.server_auth_methods))
        self.facts = replace(self.facts, mechanisms=mechanisms, size=_size(client.esmtp_extensions.get("size", "")))

    async def _start_tls(self, client: _Client) -> None:
        self.stage = Stage.TLS
        if not client.supports_extension("starttls"):
            raise _FaultFoundError(FaultKind.STARTTLS_NOT_OFFERED)
        await client.starttls(server_hostname=_certified_name(self._server))
        self._look_at_tls(client)

    async def _log_in(self, client: _Client, login: Login) -> None:
        """Logs in once: after a failure a second mechanism would count as a second failed login.

        What is sent in the clear is sent because the settings say `Disabled`: the other modes fail without TLS.
        """
        self.stage = Stage.AUTH
        if isinstance(login, BearerToken):
            await self._present_token(client, login)
        else:
            await self._present_password(client, login)

    async def _present_password(self, client: _Client, login: Credentials) -> None:
        preference = _PREFERENCE[self._is_encrypted]
        mechanism = self._mechanism(client, lambda offered: next((m for m in preference if m in offered), None))
        await _MECHANISMS[mechanism](client, login.username, login.password)

    async def _present_token(self, client: _Client, login: BearerToken) -> None:
        mechanism = self._mechanism(client, sasl.choose)
        try:
            exchange = sasl.exchange(mechanism, login, self._server)
        except sasl.UnsendableError as error:
            raise _FaultFoundError(FaultKind.TOKEN_UNSENDABLE, str(error)) from error
        await _authenticate(client, exchange)

    @property
    def _is_encrypted(self) -> bool:
        return self._server.tls_mode is not TlsMode.DISABLED

    def _mechanism(self, client: _Client, choose: Callable[[Sequence[str]], _T | None]) -> _T:
        offered = client.server_auth_methods
        if not offered:
            after = not self._is_encrypted and client.supports_extension("starttls")
            raise _FaultFoundError(FaultKind.AUTH_AFTER_STARTTLS if after else FaultKind.AUTH_NOT_OFFERED)
        mechanism = choose(offered)
        if mechanism is None:
            raise _FaultFoundError(FaultKind.MECHANISM_UNSUPPORTED, _listed(offered))
        return mechanism

    async def _send(self, client: _Client, mail: TestMail) -> None:
        message = compose(mail, now=datetime.now(UTC), token=token_hex(16))
        self.message_id = str(message["Message-ID"])
        self.stage = Stage.MAIL
        await client.mail(parse_mailbox(mail.sender).addr_spec)
        self.stage = Stage.RCPT
        await client.rcpt(mail.recipient)
        self._clock.enter(None)  # what follows is no time of the server's
        self.hold = await self._permit(mail)
        self.stage = Stage.DATA
        if self.hold is not None:
            self.message_id = None
            fault = fault_of(self.hold)
            raise _FaultFoundError(fault.kind, fault.detail)
        await client.data(message.as_bytes())


_MECHANISMS: Final[dict[str, Callable[[_Client, str, str], Awaitable[object]]]] = {
    "plain": _Client.auth_plain,
    "login": _Client.auth_login,
    "cram-md5": _Client.auth_crammd5,
}
_PREFERENCE: Final = {True: ("plain", "login", "cram-md5"), False: ("cram-md5", "plain", "login")}
"""By whether the connection is encrypted: in the clear CRAM-MD5 at least does not show the password."""


async def _authenticate(client: _Client, exchange: sasl.Exchange) -> None:
    """Logs in by a token.

    Raises:
        _TokenRefusedError: The server did not take it; where it says why beforehand (Microsoft does not), with that.
    """
    reply = await client.execute_command(*exchange.command)
    if exchange.response is not None:
        if reply.code != aiosmtplib.SMTPStatus.auth_continue:
            raise _TokenRefusedError(reply, challenge="")
        reply = await client.execute_command(exchange.response)
    challenge = ""
    if reply.code == aiosmtplib.SMTPStatus.auth_continue:
        challenge, reply = reply.message, aiosmtplib.SMTPResponse(reply.code, "")
        # The refusal is known by now: a server that breaks off instead of uttering it changes nothing.
        with contextlib.suppress(aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            reply = await client.execute_command(exchange.acknowledgement)
    if reply.code != aiosmtplib.SMTPStatus.auth_successful:
        raise _TokenRefusedError(reply, challenge)


async def _waits_for_tls(connection: socket.socket, name: str) -> bool:
    """Whether a server that says nothing answers a TLS client's first message with TLS. Nothing else is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    try:
        async with asyncio.timeout(TLS_ANSWER_TIMEOUT.total_seconds()):
            await asyncio.get_running_loop().sock_sendall(connection, outgoing.read())
            return _looks_like_tls(await network.peek(connection, 2))
    except OSError:  # TimeoutError is one
        return False


def _certified_name(server: Server) -> str:
    """The name for SNI and for the certificate, neither of which knows the final dot of an absolute name."""
    return (server.tls_server_name or server.host).removesuffix(".")


def _looks_like_tls(first: bytes) -> bool:
    """Whether bytes begin a TLS alert or handshake record. Source: RFC 8446 §5.1."""
    return first[:1] in (b"\x15", b"\x16") and first[1:2] in (b"", b"\x03")


def _listed(mechanisms: Sequence[str]) -> str:
    return ", ".join(_names(mechanisms)[:8]) or "unknown mechanisms"


def _names(mechanisms: Sequence[str]) -> list[str]:
    """Mechanisms as a server offers them: well-formed names only (RFC 4422 §3.1), and not too many."""
    names = dict.fromkeys(name.upper() for name in mechanisms if re.fullmatch("[A-Za-z0-9_-]{1,20}", name))
    return list(names)[:MAX_MECHANISMS]


def _size(text: str) -> int | None:
    """The bound that a server states; none where it states 0. Source: RFC 1870 §3, §4."""
    return int(text) or None if re.fullmatch("[0-9]{1,18}", text) else None


def _cause(error: Exception) -> BaseException:
    """What the client wrapped in a `SMTPConnectError`, or the error itself."""
    if isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _translate(error: Exception, stage: Stage) -> Fault:
    """The fault that an exception means: the first row of `_FAULTS` of its type."""
    cause = _cause(error)
    return next(fault(cause, stage) for kind, fault in _FAULTS if isinstance(cause, kind))


def _of_reply(error: aiosmtplib.SMTPResponseException, stage: Stage) -> Fault:
    # The client says -1 where it cannot read the reply or the reply is too long, and reads `+25` as a code.
    if not 200 <= error.code <= 599:
        return Fault(stage, FaultKind.GARBAGE)
    return Fault(stage, FaultKind.REPLY, error.code, error.message)


def _of_token(error: _TokenRefusedError, stage: Stage) -> Fault:
    return replace(_of_reply(error, stage), challenge=error.challenge)


def _of_certificate(error: ssl.SSLCertVerificationError, stage: Stage) -> Fault:
    kind = _CERTIFICATE_FAULTS.get(error.verify_code, FaultKind.CERTIFICATE_UNTRUSTED)
    return Fault(stage, kind, detail=error.verify_message.rstrip("."))


def _of_tls(error: ssl.SSLError, stage: Stage) -> Fault:
    reason = getattr(error, "reason", None) or "unknown"  # those that Python code raises have none
    return Fault(stage, _TLS_FAULTS.get(reason, FaultKind.TLS_OTHER), detail=reason.replace("_", " ").lower())


def _of_unreachable(error: network.ConnectionUnreachable, stage: Stage) -> Fault:
    if isinstance(error.__cause__, ConnectionResetError):  # there is a way, and somebody at its end
        return Fault(stage, FaultKind.LOST)
    return Fault(stage, FaultKind.UNREACHABLE, detail=str(error).lower())


def _of_kind(kind: FaultKind) -> Callable[[Any, Stage], Fault]:
    return lambda _error, stage: Fault(stage, kind)


# X509_V_ERR_*; source: OpenSSL, X509_STORE_CTX_get_error(3).
_CERTIFICATE_FAULTS: Final = {
    9: FaultKind.CERTIFICATE_DATE,  # not yet valid
    10: FaultKind.CERTIFICATE_DATE,  # expired
    62: FaultKind.CERTIFICATE_NAME,  # another host name
    64: FaultKind.CERTIFICATE_NAME,  # another IP address
}
# SSL_R_*; source: OpenSSL, sslerr.h.
_TLS_FAULTS: Final = {
    "WRONG_VERSION_NUMBER": FaultKind.PLAIN_BYTES,
    "UNKNOWN_PROTOCOL": FaultKind.PLAIN_BYTES,
    "HTTP_REQUEST": FaultKind.PLAIN_BYTES,
    "PACKET_LENGTH_TOO_LONG": FaultKind.PLAIN_BYTES,
    "UNSUPPORTED_PROTOCOL": FaultKind.TLS_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": FaultKind.TLS_VERSION,
    "NO_PROTOCOLS_AVAILABLE": FaultKind.TLS_VERSION,
    "WRONG_SSL_VERSION": FaultKind.TLS_VERSION,
    "VERSION_TOO_LOW": FaultKind.TLS_VERSION,
}
_FAULTS: Final[tuple[tuple[type[Exception], Callable[[Any, Stage], Fault]], ...]] = (
    (_FaultFoundError, lambda error, stage: Fault(stage, error.kind, detail=error.detail)),
    (
        network.ResolveError,
        lambda error, _stage: Fault(
            Stage.RESOLVE, FaultKind.NAME_TEMPORARY if error.temporary else FaultKind.NAME_NOT_FOUND
        ),
    ),
    (
        network.EgressDeniedError,
        lambda error, _stage: Fault(Stage.CONNECT, FaultKind.EGRESS_DENIED, detail=error.denial.text),
    ),
    (
        network.ProxyDeniedError,
        lambda error, _stage: Fault(Stage.PROXY, FaultKind.PROXY_DENIED, detail=error.denial.text),
    ),
    (network.ProxyLoginError, lambda error, _stage: Fault(Stage.PROXY, FaultKind.PROXY_LOGIN, detail=str(error))),
    (network.ProxyError, lambda error, _stage: Fault(Stage.PROXY, FaultKind.PROXY_FAILURE, detail=str(error))),
    (network.ConnectionRefused, _of_kind(FaultKind.REFUSED)),
    (network.ConnectionTimeout, _of_kind(FaultKind.TIMEOUT)),
    (network.ConnectionUnreachable, _of_unreachable),
    (_TokenRefusedError, _of_token),
    (aiosmtplib.SMTPResponseException, _of_reply),
    (ssl.SSLCertVerificationError, _of_certificate),
    (ssl.SSLEOFError, _of_kind(FaultKind.LOST)),
    (ssl.SSLError, _of_tls),
    (TimeoutError, _of_kind(FaultKind.TIMEOUT)),  # aiosmtplib's own are TimeoutErrors too
    (ConnectionAbortedError, _of_kind(FaultKind.TIMEOUT)),  # asyncio's, when a TLS handshake takes too long
    (OSError, _of_kind(FaultKind.LOST)),  # aiosmtplib.SMTPServerDisconnected is a ConnectionError
    (aiosmtplib.SMTPException, _of_kind(FaultKind.GARBAGE)),
)
