"""Faults, seeded one by one on real sockets, end in their cause on the object's condition, with what to do.

All objects are applied at once and looked at one by one. What no cluster can show, name servers that do not answer, is
in tests/smtp/test_name_servers.py.
"""

import base64
import contextlib
import json
import secrets
import socket
import ssl
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import pytest

from dev.cluster import Cluster
from dev.loop_thread import LoopThread
from dev.operator_process import OperatorProcess
from mailsettings.api.patterns import parse_duration
from mailsettings.core.causes.cause import Cause
from mailsettings.core.probing import TRIED_AGAIN
from mailsettings.edges.smtp import QUIT_TIMEOUT, TLS_ANSWER_TIMEOUT
from tests.cluster.conftest import server_spec
from tests.cluster.test_oauth2 import give_secret, oauth2_spec
from tests.support.identity_provider import ACCOUNT, DIRECTORY, IdentityProvider, identity_provider, key_pair
from tests.support.kube import Json, Kube, condition, reason_of
from tests.support.listening import LOOPBACK, free_port
from tests.support.proxies import Converse, scripted_proxy
from tests.support.smtp_server import (
    PASSWORD,
    Act,
    Certificate,
    MailServer,
    Peer,
    certificate,
    close,
    drip,
    expired_certificate,
    flood,
    future_certificate,
    hang,
    reset,
    say,
    say_bytes,
    scripted_server,
    self_signed_certificate,
    upgrade,
)

TIMEOUT_S: Final = 180.0
"""In which all the faults together are found, on a busy machine too."""
IMPATIENT: Final = "2s"
"""Of the faults that end with the settings' own timeout."""
PATIENT: Final = "10s"
"""Of the others."""
SCHEDULING: Final = timedelta(seconds=4)
"""How long a busy machine may keep the operator from seeing that a time is over, or that an answer is there."""

Serve = Callable[[], AbstractAsyncContextManager[int]]
"""Something that listens on the loopback; gives its port."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and what the object is to say of it."""

    name: str
    cause: Cause
    stage: str
    """Where it shows. A reset may come before it is known that the connection was made."""
    serve: Serve
    connection: Mapping[str, Any] = field(default_factory=dict)
    """Beside host and port."""
    provider: str = "Custom"
    auth: str = "basic"
    """`basic`, `oauth2` or `none`."""
    proxy: str = ""
    """The protocol of a proxy that listens there in the server's place."""
    remedy: str = ""
    """Words of it."""


# --- what listens ---


def smtp(acts: Mapping[str, Act], context: Callable[[], ssl.SSLContext] | None = None) -> Serve:
    @asynccontextmanager
    async def serve() -> AsyncIterator[int]:
        async with scripted_server(acts, implicit_tls=context() if context is not None else None) as server:
            yield server.port

    return serve


def starts_tls(made: Callable[[], Certificate]) -> Serve:
    @asynccontextmanager
    async def serve() -> AsyncIterator[int]:
        async with scripted_server({"EHLO": OFFERS_TLS, "STARTTLS": upgrade(made().context)}) as server:
            yield server.port

    return serve


def speaks_tls(made: Callable[[], Certificate]) -> Serve:
    return smtp({}, lambda: made().context)


@asynccontextmanager
async def nothing() -> AsyncIterator[int]:
    yield free_port()


@asynccontextmanager
async def filtered() -> AsyncIterator[int]:
    """A port that answers nothing, since its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def aged(newest: ssl.TLSVersion, dialogue: tuple[bytes, ...] = ()) -> Serve:
    """TLS up to this version, on a thread: asyncio's servers hang up without the alert that says why.

    Args:
        newest: The version.
        dialogue: What is said before TLS, a line for each line of the client.
    """

    @asynccontextmanager
    async def serve() -> AsyncIterator[int]:
        old = certificate(LOOPBACK).context
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ssl.TLSVersion", DeprecationWarning)
            old.set_ciphers("ALL:@SECLEVEL=0")
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = newest
        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.settimeout(0.2)
            over = threading.Event()
            thread = threading.Thread(target=_shake_hands, args=(listener, old, dialogue, over))
            thread.start()
            try:
                yield listener.getsockname()[1]
            finally:
                over.set()
                thread.join()

    return serve


def _shake_hands(
    listener: socket.socket, context: ssl.SSLContext, dialogue: tuple[bytes, ...], over: threading.Event
) -> None:
    while not over.is_set():
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.settimeout(5)
            for number, line in enumerate(dialogue):
                if number:
                    connection.recv(4096)
                connection.sendall(line)
            context.wrap_socket(connection, server_side=True)


def proxy(converse: Converse) -> Serve:
    return lambda: scripted_proxy(converse)


def http(answer: bytes) -> Serve:
    async def converse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(answer)
        await peer.gone()

    return proxy(converse)


def socks(*answers: bytes) -> Serve:
    async def converse(peer: Peer) -> None:
        for answer in answers:
            await peer.reader.read(1024)
            await peer.say(answer)
        await peer.gone()

    return proxy(converse)


async def refuses_token(peer: Peer) -> None:
    """As Google does: the reason in a challenge, then the refusal."""
    said = {"status": "400", "schemes": "Bearer", "scope": "https://mail.google.com/"}
    await _token_challenge(peer, said, "535-5.7.8 Username and Password not accepted.\n535 5.7.8  gsmtp")


async def calls_token_invalid(peer: Peer) -> None:
    """As Dovecot does, in the words of RFC 7628."""
    await _token_challenge(peer, {"status": "invalid_token"}, "535 5.7.8 Authentication failed.")


async def _token_challenge(peer: Peer, said: Mapping[str, str], refusal: str) -> None:
    """The token comes with AUTH, or after an empty challenge where it is too long for that."""
    await say("334 ")(peer)
    await peer.reader.readline()
    await say(f"334 {base64.b64encode(json.dumps(said).encode()).decode()}")(peer)
    await peer.reader.readline()
    await say(refusal)(peer)


# --- the table ---


OFFERS_TLS: Final = say("250-mail.acme.example\n250-STARTTLS\n250 AUTH PLAIN LOGIN")
OFFERS_TOKENS: Final = say("250-mail.acme.example\n250 AUTH LOGIN XOAUTH2")
SAYS_FIRST: Final = (b"220 mail ESMTP\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go ahead\r\n")
START_TLS: Final = {"tls": {"mode": "StartTLS", "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}}
IMPLICIT: Final = {"tls": {**START_TLS["tls"], "mode": "Implicit"}}
BRIEF: Final = {"timeout": IMPATIENT}

C = Cause
STEPS: Final = {
    "greeting": "greeting",
    "EHLO": "ehlo",
    "AUTH": "auth",
    "MAIL": "mail",
    "RCPT": "rcpt",
    "DATA": "data",
    ".": "data",
}
"""What a script calls each step, and the status its stage."""

NETWORK: Final = (
    Fault("a name that is not there", C.DNS_NOT_FOUND, "resolve", nothing, {"host": "mail.acme.invalid"}),
    Fault("a closed port", C.CONNECTION_REFUSED, "connect", nothing, remedy="connection.port"),
    Fault("a filtered port", C.CONNECTION_TIMEOUT, "connect", filtered, BRIEF, remedy="NetworkPolicies"),
)

BROKEN: Final = tuple(
    Fault(f"{act.__name__} at {verb}", C.SERVER_TEMPORARY, stage, smtp({verb: act}))
    for act in (reset, close)
    for verb, stage in STEPS.items()
)

SLOW: Final = tuple(
    Fault(f"{name} at {verb}", C.CONNECTION_TIMEOUT, stage, smtp({verb: act}), BRIEF)
    for name, act in (("silence", hang), ("drip", drip(b"250-and more\r\n")))
    for verb, stage in STEPS.items()
)

TLS: Final = (
    Fault(
        "StartTLS where TLS comes first", C.IMPLICIT_TLS_EXPECTED, "greeting",
        speaks_tls(lambda: certificate(LOOPBACK)), START_TLS | BRIEF, remedy="to Implicit",
    ),
    Fault(
        "no TLS where TLS comes first", C.IMPLICIT_TLS_EXPECTED, "greeting", speaks_tls(lambda: certificate(LOOPBACK)),
        BRIEF, remedy="to Implicit",
    ),
    Fault("Implicit where TLS comes later", C.START_TLS_EXPECTED, "tls", smtp({}), IMPLICIT, remedy="to StartTLS"),
    Fault(
        "no TLS where a login needs it", C.START_TLS_EXPECTED, "auth",
        smtp({"EHLO": say("250-mail.acme.example\n250 STARTTLS")}), remedy="to StartTLS",
    ),
    Fault(
        "no TLS where mail needs it", C.START_TLS_EXPECTED, "mail",
        smtp({"MAIL": say("530 5.7.0 Must issue a STARTTLS command first")}), auth="none", remedy="to StartTLS",
    ),
    Fault(
        "a version that is too old", C.TLS_PROTOCOL_VERSION, "tls", aged(ssl.TLSVersion.TLSv1_1), IMPLICIT,
        remedy="minVersion",
    ),
    Fault(
        "a version that is too old after STARTTLS", C.TLS_PROTOCOL_VERSION, "tls",
        aged(ssl.TLSVersion.TLSv1_1, SAYS_FIRST), START_TLS, remedy="minVersion",
    ),
    Fault(
        "a version below minVersion", C.TLS_PROTOCOL_VERSION, "tls", aged(ssl.TLSVersion.TLSv1_2),
        {"tls": {**IMPLICIT["tls"], "minVersion": "TLSv1.3"}}, remedy="minVersion",
    ),
    Fault("STARTTLS stripped", C.START_TLS_NOT_OFFERED, "tls", smtp({}), START_TLS),
    Fault(
        "STARTTLS refused", C.SERVER_MISCONFIGURED, "tls",
        smtp({"EHLO": OFFERS_TLS, "STARTTLS": say("454 4.7.0 TLS not available due to temporary reason")}), START_TLS,
    ),
    Fault(
        "silence after STARTTLS", C.CONNECTION_TIMEOUT, "tls", smtp({"EHLO": OFFERS_TLS, "STARTTLS": hang}),
        START_TLS | BRIEF,
    ),
    Fault("silence where TLS comes first", C.CONNECTION_TIMEOUT, "tls", smtp({"greeting": hang}), IMPLICIT | BRIEF),
    Fault("reset where TLS comes first", C.SERVER_TEMPORARY, "tls", smtp({"greeting": reset}), IMPLICIT),
    Fault(
        "plain words after STARTTLS", C.SERVER_MISCONFIGURED, "tls",
        smtp({"EHLO": OFFERS_TLS, "STARTTLS": say("220 go ahead\n454 4.3.0 no certificate loaded, sorry for that")}),
        START_TLS,
    ),
    Fault(
        "an alert", C.TLS_PROTOCOL_VERSION, "tls", smtp({"greeting": say_bytes(b"\x15\x03\x01\x00\x02\x02\x28")}),
        IMPLICIT,
    ),
    *(
        Fault(f"{name}, {mode}", cause, "tls", serve(made), connection, remedy=remedy)
        for name, cause, made, remedy in (
            ("expired", C.CERTIFICATE_EXPIRED, lambda: expired_certificate(LOOPBACK), "renewed"),
            ("not yet valid", C.CERTIFICATE_EXPIRED, lambda: future_certificate(LOOPBACK), "renewed"),
            ("self-signed", C.CERTIFICATE_UNTRUSTED, self_signed_certificate, "caBundle"),
            ("another name", C.CERTIFICATE_NAME_MISMATCH, lambda: certificate("mail.acme.example"), "serverName"),
        )
        for mode, serve, connection in (("StartTLS", starts_tls, START_TLS), ("Implicit", speaks_tls, IMPLICIT))
    ),
    Fault(
        "an authority that is not known", C.CERTIFICATE_UNTRUSTED, "tls", speaks_tls(lambda: certificate(LOOPBACK)),
        {"tls": {"mode": "Implicit"}}, remedy="caBundle",
    ),
)  # fmt: skip

OFFERS: Final = (
    Fault("no AUTH", C.AUTH_NOT_OFFERED, "auth", smtp({"EHLO": say("250 mail.acme.example")})),
    Fault(
        "no mechanism for passwords", C.AUTH_MECHANISM_UNSUPPORTED, "auth",
        smtp({"EHLO": say("250-mail.acme.example\n250 AUTH GSSAPI NTLM")}),
    ),
    Fault(
        "no mechanism for tokens", C.AUTH_MECHANISM_UNSUPPORTED, "auth",
        smtp({"EHLO": say("250-mail.acme.example\n250 AUTH LOGIN PLAIN")}), auth="oauth2",
    ),
)  # fmt: skip

NO_SMTP: Final = (
    *(
        Fault(f"{name} at {verb}", C.PROTOCOL_ERROR, STEPS[verb], smtp({verb: act}))
        for verb in ("greeting", "EHLO", "AUTH", "MAIL")
        for name, act in (
            ("binary garbage", say_bytes(b"\x00\xff\xfe\x80\r\n\x1b[2J\x07\r\n")),
            ("a line without end", flood(b"x" * 65536)),
            ("a reply without end", flood(b"250-and more\r\n" * 4096)),
        )
    ),
    Fault("a web server", C.PROTOCOL_ERROR, "greeting", smtp({"greeting": say("HTTP/1.1 400 Bad Request\n\n")})),
    Fault("a reply out of place", C.PROTOCOL_ERROR, "mail", smtp({"MAIL": say("354 go ahead")})),
)


def _replies(provider: str, *rows: tuple[str, str, Cause], auth: str = "basic") -> tuple[Fault, ...]:
    """What a provider says: the verb, the reply, its cause."""
    offer = {"EHLO": OFFERS_TOKENS} if auth == "oauth2" else {}
    return tuple(
        Fault(
            f"{provider}, {auth}: {reply}", cause, STEPS[verb], smtp({**offer, verb: say(reply)}),
            provider=provider, auth=auth,
        )
        for verb, reply, cause in rows
    )  # fmt: skip


_UNSUCCESSFUL: Final = "535 5.7.139 Authentication unsuccessful,"
_SWITCH: Final = "SmtpClientAuthentication"
_AT_OFFICE: Final = "[AB1PR00CA0001.EURPRD00.PROD.OUTLOOK.COM]"
REPLIES: Final = (
    *_replies(
        "Office365",
        ("AUTH", f"535 5.7.3 Authentication unsuccessful {_AT_OFFICE}", C.BAD_CREDENTIALS),
        (
            "AUTH",
            f"{_UNSUCCESSFUL} SmtpClientAuthentication is disabled for the Tenant. Visit "
            f"https://aka.ms/smtp_auth_disabled for more information. {_AT_OFFICE}",
            C.SMTP_AUTH_DISABLED_TENANT,
        ),
        ("AUTH", f"{_UNSUCCESSFUL} {_SWITCH} is disabled for the Mailbox.", C.SMTP_AUTH_DISABLED_MAILBOX),
        ("AUTH", f"{_UNSUCCESSFUL} basic authentication is disabled. {_AT_OFFICE}", C.BASIC_AUTH_DISABLED),
        (
            "AUTH",
            f"{_UNSUCCESSFUL} user is locked by your organization's security defaults policy. Contact your "
            "administrator.",
            C.SECURITY_DEFAULTS,
        ),
        (
            "AUTH",
            f"{_UNSUCCESSFUL} the request did not meet the criteria to be authenticated successfully. Contact your "
            "administrator.",
            C.CONDITIONAL_ACCESS,
        ),
        ("AUTH", f"{_UNSUCCESSFUL} the user credentials were incorrect. {_AT_OFFICE}", C.BAD_CREDENTIALS),
        ("AUTH", "550 5.7.30 Basic authentication is not supported for Client Submission.", C.BASIC_AUTH_DISABLED),
        ("EHLO", "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade.", C.TLS_PROTOCOL_VERSION),
        ("MAIL", "451 5.7.3 STARTTLS is required to send mail", C.START_TLS_EXPECTED),
        ("MAIL", "530 5.7.57 Client not authenticated to send mail.", C.AUTH_REQUIRED),
        (
            ".",
            "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending.",
            C.TOO_MANY_CONNECTIONS,
        ),
        ("AUTH", "454 4.7.0 Temporary authentication failure.", C.SERVER_TEMPORARY),
        (".", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", C.SENDER_NOT_ALLOWED),
        (".", "554 5.2.252 SendAsDenied; a@acme.example not allowed to send as b@acme.example", C.SENDER_NOT_ALLOWED),
        (".", "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException", C.MAILBOX_FULL),
    ),
    *_replies(
        "Office365",
        ("AUTH", f"535 5.7.3 Authentication unsuccessful {_AT_OFFICE}", C.WRONG_TOKEN_SCOPE_OR_AUDIENCE),
        ("AUTH", f"{_UNSUCCESSFUL} {_SWITCH} is disabled for the Mailbox.", C.SMTP_AUTH_DISABLED_MAILBOX),
        ("AUTH", "501 5.5.127 The token expires too soon.", C.TOKEN_EXPIRED),
        auth="oauth2",
    ),
    *_replies(
        "Google",
        (
            "AUTH",
            "534-5.7.9 Application-specific password required. For more information, go to\n"
            "534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor a640c23a62f3a-gsmtp",
            C.APP_PASSWORD_REQUIRED,
        ),
        (
            "AUTH",
            "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1> Please log in via\n"
            "534 5.7.14 your web browser and then try again.",
            C.ACCOUNT_BLOCKED,
        ),
        (
            "AUTH",
            "535-5.7.8 Username and Password not accepted. For more information, go to\n"
            "535 5.7.8  https://support.google.com/mail/?p=BadCredentials a640c23a62f3a-gsmtp",
            C.BAD_CREDENTIALS,
        ),
        ("AUTH", "421 4.7.0 Try again later, closing connection.", C.RATE_LIMITED),
        (".", "550 5.4.5 Daily user sending limit exceeded.", C.QUOTA_EXCEEDED),
        ("MAIL", "530 5.7.0 Must issue a STARTTLS command first. gsmtp", C.START_TLS_EXPECTED),
        (
            "MAIL",
            "550 5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've registered in your Workspace "
            "SMTP Relay service doesn't match",
            C.RELAY_DENIED,
        ),
    ),
    *_replies("Google", ("AUTH", "500 5.5.2 AUTH response line too long - gsmtp", C.PROTOCOL_ERROR), auth="oauth2"),
    *_replies(
        "SendGrid",
        (
            "AUTH",
            "535 Authentication failed: The provided authorization grant is invalid, expired, or revoked",
            C.BAD_CREDENTIALS,
        ),
        ("AUTH", "535 Authentication failed: Bad username / password", C.BAD_CREDENTIALS),
        ("AUTH", "451 Authentication failed: Maximum credits exceeded", C.QUOTA_EXCEEDED),
        ("MAIL", "550 Unauthenticated senders not allowed", C.AUTH_REQUIRED),
        (
            ".",
            "550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is "
            "resolved.",
            C.SENDER_NOT_VERIFIED,
        ),
    ),
    *_replies(
        "Custom",
        ("greeting", "421 4.7.0 Too many connections from your address", C.TOO_MANY_CONNECTIONS),
        ("greeting", "554 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org", C.IP_BLOCKED),
        ("AUTH", "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6", C.BAD_CREDENTIALS),
        ("AUTH", "432 4.7.12 A password transition is needed", C.BAD_CREDENTIALS),
        ("AUTH", "503 5.5.1 Error: authentication not enabled", C.AUTH_NOT_OFFERED),
        ("AUTH", "504 5.5.4 Unrecognized authentication type", C.AUTH_MECHANISM_UNSUPPORTED),
        ("AUTH", "538 5.7.11 Encryption required for requested authentication mechanism", C.START_TLS_EXPECTED),
        ("MAIL", "552 5.3.4 Message size exceeds fixed limit", C.MESSAGE_TOO_LARGE),
        ("RCPT", "450 4.2.0 <ops@acme.example>: Recipient address rejected: Greylisted, see postgrey", C.GREYLISTED),
        ("RCPT", "550 5.1.1 <ops@acme.example>: Recipient address rejected: User unknown", C.RECIPIENT_REJECTED),
        ("RCPT", "553 5.7.1 Sender address rejected: not owned by user no-reply", C.SENDER_NOT_ALLOWED),
        ("RCPT", "452 4.2.2 The recipient's mailbox is over quota", C.MAILBOX_FULL),
        (".", "550 5.7.26 Unauthenticated email from acme.example is not accepted due to its DMARC policy.",
         C.SENDER_DOMAIN_AUTH_FAILED),
        (".", "554 5.7.1 Message rejected as spam by Content Filtering.", C.CONTENT_REJECTED),
        (".", "451 4.3.5 Server configuration problem", C.SERVER_MISCONFIGURED),
    ),
    *_replies(
        "Custom",
        ("MAIL", "530 5.7.0 Authentication required", C.AUTH_REQUIRED),
        ("RCPT", "554 5.7.1 <ops@acme.example>: Relay access denied", C.RELAY_DENIED),
        auth="none",
    ),
    Fault(
        "Google, a challenge", C.WRONG_TOKEN_SCOPE_OR_AUDIENCE, "auth",
        smtp({"EHLO": OFFERS_TOKENS, "AUTH": refuses_token}), provider="Google", auth="oauth2",
    ),
    Fault(
        "Custom, a challenge", C.TOKEN_EXPIRED, "auth", smtp({"EHLO": OFFERS_TOKENS, "AUTH": calls_token_invalid}),
        auth="oauth2",
    ),
)  # fmt: skip


async def _gone(peer: Peer) -> None:
    await peer.gone()


async def _closed(peer: Peer) -> None:
    await peer.reader.read(1024)
    await peer.close()


PROXIES: Final = (
    *(
        Fault(name, cause, "proxy", serve, BRIEF, auth="none", proxy=protocol, remedy="connection.proxy")
        for name, protocol, cause, serve in (
            ("HTTP 403", "HTTP", C.PROXY_FAILURE, http(b"HTTP/1.1 403 Forbidden\r\n\r\n")),
            ("HTTP 407", "HTTP", C.PROXY_AUTH_REQUIRED, http(b"HTTP/1.1 407 Login\r\n\r\n")),
            ("HTTP 502", "HTTP", C.PROXY_FAILURE, http(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")),
            ("HTTP malformed", "HTTP", C.PROXY_FAILURE, http(b"\x00\xff\x16\x03 what?\r\n\r\n")),
            ("HTTP closed", "HTTP", C.PROXY_FAILURE, proxy(_closed)),
            ("HTTP silent", "HTTP", C.PROXY_FAILURE, proxy(_gone)),
            ("HTTP not there", "HTTP", C.PROXY_FAILURE, nothing),
            ("SOCKS no method", "SOCKS5", C.PROXY_AUTH_REQUIRED, socks(b"\x05\xff")),
            ("SOCKS malformed", "SOCKS5", C.PROXY_FAILURE, socks(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
            ("SOCKS closed", "SOCKS5", C.PROXY_FAILURE, proxy(_closed)),
            *(
                (f"SOCKS code {code}", "SOCKS5", C.PROXY_FAILURE,
                 socks(b"\x05\x00", bytes([5, code, 0, 1, *[0] * 6])))
                for code in range(1, 9)
            ),
        )
    ),
)  # fmt: skip

FAULTS: Final = (*NETWORK, *BROKEN, *SLOW, *TLS, *OFFERS, *NO_SMTP, *REPLIES, *PROXIES)
OBJECTS: Final = {f"fault-{number}": fault for number, fault in enumerate(FAULTS)}


# --- the objects ---


_PASSWORDS: Final = {"Google": "abcdefghijklmnop", "SendGrid": "SG.correct-horse-battery-staple"}
CLUSTER_KIND: Final = "ClusterMailServerSettings"
KIND: Final = "MailServerSettings"


def spec_of(name: str, fault: Fault, port: int, idp: IdentityProvider, cloud: IdentityProvider) -> Json:
    spec = oauth2_of(fault, port, idp, cloud) if fault.auth == "oauth2" else server_spec(MailServer(port=port))
    spec["provider"] = fault.provider
    spec["connection"] |= {"timeout": timeout_of(fault), **fault.connection}
    spec["probe"] = {"mode": "Send", "recipient": "ops@acme.example"}
    if fault.auth == "none":
        del spec["auth"]
    else:
        spec["auth"][fault.auth]["username"] = username_of(name, fault)
    if fault.auth == "basic":
        spec["auth"]["basic"]["passwordSecretRef"] = {"name": "smtp", "key": fault.provider}
    if fault.proxy:
        spec["connection"] |= {
            "port": 2525,
            "proxy": {"protocol": fault.proxy, "host": LOOPBACK, "port": port},
        }
    return spec


def timeout_of(fault: Fault) -> str:
    return str(fault.connection.get("timeout", PATIENT))


def username_of(name: str, fault: Fault) -> str:
    """At Office365 each has a mailbox of its own, since probes of one take turns."""
    fixed = {"SendGrid": "apikey", "Office365": f"{name}@acme.example"}
    return fixed.get(fault.provider, ACCOUNT)


def oauth2_of(fault: Fault, port: int, idp: IdentityProvider, cloud: IdentityProvider) -> Json:
    if fault.provider == "Office365":
        spec = oauth2_spec(cloud, MailServer(port=port), "ClientCredentials")
        spec["auth"]["oauth2"] |= {"directoryID": DIRECTORY, "cloud": "Custom"}
        del spec["auth"]["oauth2"]["tokenURI"]
        return spec
    grant = "ServiceAccount" if fault.provider == "Google" else "ClientCredentials"
    return oauth2_spec(idp, MailServer(port=port), grant)


@pytest.fixture(scope="module")
def found(
    installed: Cluster, operator_process: OperatorProcess, loop_thread: LoopThread, cloud: IdentityProvider
) -> Iterator[Mapping[str, Json]]:
    """What the objects say, as far as they have said it in time."""
    if not operator_process.is_running():
        operator_process.start()
    kube, run = Kube(installed.api()), secrets.token_hex(4)
    # A namespace has a quarter of the operator's places for probes.
    namespaces = [f"faults-{run}-{number}" for number in range(4)]
    with contextlib.ExitStack() as stack:
        idp = stack.enter_context(loop_thread.entered(identity_provider()))
        idp.service_account_key = key_pair().public_key
        for namespace in namespaces:
            kube.create("Namespace", namespace)
            stack.callback(kube.delete, "Namespace", namespace)
            kube.secret("smtp", namespace, **{"Custom": PASSWORD, "Office365": PASSWORD, **_PASSWORDS})
            kube.create("ConfigMap", "ca", namespace, data={"ca.crt": certificate(LOOPBACK).ca_pem})
            give_secret(kube, namespace, idp)
        waiting: dict[str, tuple[str, str | None]] = {}
        for number, (name, fault) in enumerate(OBJECTS.items()):
            port = stack.enter_context(loop_thread.entered(fault.serve()))
            spec = spec_of(name, fault, port, idp, cloud)
            if fault.proxy:  # those that tenants may name are listed in the operator's configuration
                waiting[name] = (f"{name}-{run}", None)
                kube.create(CLUSTER_KIND, f"{name}-{run}", spec=spec)
                stack.callback(kube.delete, CLUSTER_KIND, f"{name}-{run}")
            else:
                waiting[name] = (name, namespaces[number % len(namespaces)])
                kube.create(KIND, name, namespaces[number % len(namespaces)], spec=spec)
        yield _wait(kube, waiting)


def _wait(kube: Kube, waiting: dict[str, tuple[str, str | None]]) -> dict[str, Json]:
    deadline = time.monotonic() + TIMEOUT_S
    last: dict[str, Json] = {}
    pending = dict(waiting)
    while pending and time.monotonic() < deadline:
        for name, (full, namespace) in list(pending.items()):
            settings = kube.settings(full, namespace) or {}
            last[name] = settings
            if _is_known(settings, OBJECTS[name]):
                del pending[name]
        time.sleep(0.1)
    return last


def _is_known(settings: Json, fault: Fault) -> bool:
    """Whether the probe has failed; a token that was refused is renewed once before that counts."""
    probe = (settings.get("status") or {}).get("probe") or {}
    refusals = 2 if fault.auth == "oauth2" and fault.cause in _RENEWED else 1
    return bool(probe.get("failure") and probe["consecutiveFailures"] >= refusals)


_RENEWED: Final = (C.BAD_CREDENTIALS, C.TOKEN_EXPIRED, C.WRONG_TOKEN_SCOPE_OR_AUDIENCE, C.MAILBOX_NOT_PERMITTED)


def test_the_table_is_long_enough_and_knows_each_fault_once() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 100
    assert len({fault.cause for fault in FAULTS}) > 35


@pytest.mark.parametrize("name", OBJECTS, ids=[fault.name for fault in FAULTS])
def test_fault_ends_in_its_cause(operator: OperatorProcess, found: Mapping[str, Json], name: str) -> None:
    fault, settings = OBJECTS[name], found[name]
    said = condition(settings, "ProbeSucceeded")
    assert said is not None, settings.get("status")
    assert (said["status"], said["reason"]) == ("False", fault.cause), said
    assert reason_of(settings, "Ready") == ("False", fault.cause)

    failure = settings["status"]["probe"]["failure"]
    stages = (fault.stage, "connect") if fault.name.startswith("reset") else (fault.stage,)
    assert failure["cause"] == fault.cause
    assert failure["stage"] in stages, failure
    assert failure["docs"] == f"docs/troubleshooting.md#{fault.cause.lower()}"
    assert fault.remedy in failure["remedy"]
    more = f"See {failure['docs']} or `kubectl mailsettings explain {fault.cause}`."
    assert said["message"] == f"{failure['message']} {failure['remedy']} {more}"
    assert fault.connection.get("host", LOOPBACK) in failure["message"]
    assert said["message"].isprintable()
    assert len(said["message"]) < 1200
    assert not [secret for secret in (PASSWORD, *_PASSWORDS.values()) if secret in str(settings)]
    ready, stalled = condition(settings, "Ready"), condition(settings, "Stalled")
    assert ready is not None
    assert ready["message"] == f"ProbeSucceeded: {said['message']}"
    assert stalled is None or stalled["message"] == f"ProbeSucceeded: {failure['remedy']} {TRIED_AGAIN}"
    assert reason_of(settings, "Stalled") == (None if failure["transient"] else ("True", fault.cause))
    assert_in_time(fault, settings["status"]["probe"])
    if fault.cause is C.CONNECTION_TIMEOUT:
        assert "within 2s" in failure["message"]  # the settings' timeout, not a bound of the whole


def assert_in_time(fault: Fault, probe: Json) -> None:
    """By the operator's own clock: one step waits as long as the settings say, and the others wait for nobody."""
    timeout = parse_duration(timeout_of(fault))
    stages = {stage["name"]: measured(stage["duration"]) for stage in probe["stages"]}
    failing = stages[probe["failure"]["stage"]]
    # A server that sends no greeting is asked whether it waits for TLS; one that was understood is told goodbye.
    asked = TLS_ANSWER_TIMEOUT if fault.stage == "greeting" else timedelta()
    assert failing <= timeout + asked + SCHEDULING, stages
    assert measured(probe["duration"]) <= timeout + asked + QUIT_TIMEOUT + SCHEDULING, probe
    if fault.cause is C.CONNECTION_TIMEOUT:
        assert failing >= timeout * 0.9, "it was waited for"


def measured(text: str) -> timedelta:
    """A duration in a status, which may be 0ms."""
    return timedelta(milliseconds=int(text.removesuffix("ms")))
