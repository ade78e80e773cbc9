"""From what went wrong in a probe to its cause and to what a person should do. Pure.

What the probe has seen for certain is judged by its kind, in one table of rules. What a server says is judged by
`core/causes`, the only place that knows what servers' words mean; `core/remedies.py` says what to do about it in the
fields of these settings.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from mailsettings.api.conditions import Reason
from mailsettings.api.providers import TlsMode
from mailsettings.core.causes import engine
from mailsettings.core.causes.catalog import CATALOG, link
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.clues import Failure
from mailsettings.core.causes.reasons import REASONS, docs_of
from mailsettings.core.probe import Hold, ProbeFailure, ProbeRequest, ProbeResult, Stage
from mailsettings.core.redact import redact
from mailsettings.core.remedies import About, remedy_of
from mailsettings.core.rules import first, is_in
from mailsettings.core.sasl import Challenge, Mechanism, decoded_challenge, initial_response, parse_challenge
from mailsettings.core.server import BearerToken


class FaultKind(StrEnum):
    """What happened, before it is judged."""

    EGRESS_DENIED = "egress-denied"
    """The egress policy forbids the connection; `detail` says why."""
    PROXY_DENIED = "proxy-denied"
    """The egress policy forbids the proxy; `detail` says why."""
    PROXY_LOGIN = "proxy-login"
    """The proxy wants a login, or another one; `detail` says which."""
    PROXY_FAILURE = "proxy-failure"
    """The proxy made no connection; `detail` says why."""
    NAME_NOT_FOUND = "name-not-found"
    NAME_TEMPORARY = "name-temporary"
    """The name servers gave no answer, or said to ask again."""
    REFUSED = "refused"
    """The connection was refused with a TCP reset."""
    UNREACHABLE = "unreachable"
    """The network has no way to the address, or forbids it; `detail` is the operating system's word for it."""
    TIMEOUT = "timeout"
    """A step took longer than the settings' timeout."""
    DEADLINE = "deadline"
    """The whole probe took too long."""
    LOST = "lost"
    """The other side closed or reset the connection."""
    TLS_BYTES = "tls-bytes"
    """Where a greeting was due, bytes of a TLS record came, or a TLS client's first message was answered with them."""
    PLAIN_BYTES = "plain-bytes"
    """Where a TLS record was due, other bytes came."""
    TLS_VERSION = "tls-version"
    """Client and server share no TLS version."""
    TLS_OTHER = "tls-other"
    """The handshake failed otherwise; `detail` is OpenSSL's word for it."""
    CERTIFICATE_UNTRUSTED = "certificate-untrusted"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_DATE = "certificate-date"
    CA_BUNDLE = "ca-bundle"
    """The settings' CA bundle cannot be read."""
    STARTTLS_NOT_OFFERED = "starttls-not-offered"
    AUTH_NOT_OFFERED = "auth-not-offered"
    AUTH_AFTER_STARTTLS = "auth-after-starttls"
    """No AUTH is offered on this plain connection, but STARTTLS is."""
    MECHANISM_UNSUPPORTED = "mechanism-unsupported"
    """`detail` lists what the server offers."""
    TOKEN_UNSENDABLE = "token-unsendable"
    """SMTP has no way to send the access token; `detail` says why."""
    REPLY = "reply"
    """The server answered a step with an SMTP reply that is not the one hoped for: `code` and `text`."""
    MAIL_HELD = "mail-held"
    """The operator's own bound on test mails is reached; `detail` says which, and until when."""
    MAIL_NOT_COUNTED = "mail-not-counted"
    """The test mail could not be counted, and so was not sent; `detail` says why."""
    GARBAGE = "garbage"
    """What came is no SMTP reply, or is longer than any may be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as the edge saw it. Nothing in it has been judged, and `text` is as the server wrote it."""

    stage: Stage
    kind: FaultKind
    code: int | None = None
    """The SMTP reply code, of kind `REPLY`."""
    text: str = ""
    """The reply's text without the code, lines separated by line feeds; may hold anything, secrets too."""
    challenge: str = ""
    """The text of the 334 reply by which the server announced the refusal of an access token, as it wrote it."""
    detail: str = ""
    """Words of the operator, OpenSSL or the operating system. Never a server's, and never a secret."""


MAX_REPLY_LENGTH: Final = 300
"""Of the server's text in a message, in characters: enough for the longest replies that providers document."""

MAX_CHALLENGE_LENGTH: Final = 150
"""Of what an error challenge says, in characters."""

_ENHANCED: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ ]|$)")
"""Source: RFC 3463 §2. The class need not be the reply code's: Exchange Online says `451 5.7.3`."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A fault beside its request, in the words that rules match on and messages are made of."""

    fault: Fault
    request: ProbeRequest
    enhanced_code: str | None
    said: str = field(repr=False)
    """All that is to be judged, as it was said. It may hold secrets."""
    text: str
    """The same fit to be shown: without secrets, bounded."""
    challenge: str
    """What the error challenge says, likewise; empty without one that can be read."""

    @property
    def is_temporary(self) -> bool:
        """Whether the server itself says that a later try may go well. Source: RFC 5321 §4.2.1, RFC 3463 §2.

        Exchange Online says `451 5.7.3`, by which it does not mean that.
        """
        return (self.fault.code or 0) // 100 == 4 and not (self.enhanced_code or "").startswith("5")

    @property
    def by_token(self) -> bool:
        """Whether the login is by an access token."""
        return isinstance(self.request.credentials, BearerToken)

    @property
    def words(self) -> dict[str, str]:
        """What the placeholders in a rule's texts stand for."""
        server = self.request.server
        return {
            "where": _where(server.host, server.port),
            "proxy": server.proxy.url if server.proxy else "none",
            "host": server.host,
            "port": str(server.port),
            "tls": server.tls_mode.value,
            "version": server.tls_min_version,
            "name": server.tls_server_name or server.host,
            "refused": "deferred" if self.is_temporary else "refused",
            "login": "access token" if self.by_token else "login",
            "timeout": f"{server.timeout.total_seconds():g}s",
            "sender": self.request.mail.sender if self.request.mail else "the sender",
            "recipient": self.request.mail.recipient if self.request.mail else "the recipient",
            "step": _STEPS[self.fault.stage],
            "reply": self._reply,
            "secret": "access token" if self.by_token else "password",
            "detail": self.fault.detail,
        }

    @property
    def _reply(self) -> str:
        codes = " ".join(filter(None, (str(self.fault.code), self.enhanced_code)))
        reply = f'{codes} "{self.text}"' if self.text else codes
        return f'{reply} after the challenge "{self.challenge}"' if self.challenge else reply


@dataclass(frozen=True, slots=True)
class _Rule:
    """When a reason holds, and what to say then. A condition that is None always holds."""

    reason: Reason
    happened: str
    """A sentence with the placeholders of `_Case.words`."""
    remedy: str
    """What to do, likewise."""
    kinds: frozenset[FaultKind] | None = None
    stages: frozenset[Stage] | None = None
    codes: frozenset[int] | None = None
    """Reply codes; source: RFC 5321 §4.2."""
    ports: frozenset[int] | None = None
    tls: frozenset[TlsMode] | None = None
    by_token: bool | None = None
    challenged: bool | None = None
    is_transient: bool | None = None
    """None: as the reason says."""

    def holds(self, case: _Case) -> bool:
        """Whether every condition does."""
        fault, server = case.fault, case.request.server
        return (
            is_in(fault.kind, self.kinds)
            and is_in(fault.stage, self.stages)
            and is_in(fault.code, self.codes)
            and is_in(server.port, self.ports)
            and is_in(server.tls_mode, self.tls)
            and self.by_token in (None, case.by_token)
            and self.challenged in (None, bool(case.challenge))
        )


def diagnose(fault: Fault, request: ProbeRequest) -> ProbeFailure:
    """What a fault means for the person who wrote the settings.

    The texts hold no secret, no time and no counter: the same fault gives the same texts each time, so that the status
    is not written for nothing.
    """
    case = _case(fault, request)
    rule = first(_RULES, case)
    return _said(case) if rule is None else _seen(case, rule)


def fault_of(hold: Hold) -> Fault:
    """The fault that it is that a test mail may not be sent."""
    kind = FaultKind.MAIL_NOT_COUNTED if hold.until is None else FaultKind.MAIL_HELD
    return Fault(Stage.DATA, kind, detail=hold.text)


def withheld(request: ProbeRequest, hold: Hold) -> ProbeResult:
    """The result of a probe that was not begun, since its test mail may not be sent."""
    return ProbeResult(timedelta(), diagnose(fault_of(hold), request), hold=hold)


def _seen(case: _Case, rule: _Rule) -> ProbeFailure:
    """What the probe itself has found."""
    remedy = rule.remedy.format_map(case.words)
    is_transient = not rule.reason.needs_person if rule.is_transient is None else rule.is_transient
    return _failure(case, rule.reason, rule.happened, remedy, docs_of(rule.reason), is_transient=is_transient)


def _said(case: _Case) -> ProbeFailure:
    """What the server says, or OpenSSL of it."""
    fault, request = case.fault, case.request
    found = engine.diagnose(Failure(case.said, fault.stage, request.known_provider, _login(request)))
    cause = found.cause
    if fault.kind is FaultKind.TLS_OTHER and found.basis is engine.Basis.STAGE:
        cause = Cause.TLS_PROTOCOL_VERSION
    reason = REASONS[cause]
    about = About(cause, fault.stage, request, case.said)
    doubt = "" if found.basis is engine.Basis.RULE else "Probably: "
    happened = f"{_HAPPENED[fault.stage]} {doubt}{CATALOG[cause].title}."
    if fault.kind is FaultKind.TLS_OTHER:
        happened = "The TLS handshake with {where} failed: {detail}."
    is_transient = not reason.needs_person or case.is_temporary
    return _failure(case, reason, happened, remedy_of(about), link(cause), is_transient=is_transient)


def _failure(case: _Case, reason: Reason, happened: str, remedy: str, docs: str, *, is_transient: bool) -> ProbeFailure:
    stage = case.fault.stage
    return ProbeFailure(
        stage=stage,
        reason=reason,
        message=f"{_LABELS[stage]}: {happened.format_map(case.words)}",
        code=case.fault.code,
        enhanced_code=case.enhanced_code,
        remedy=remedy,
        docs=docs,
        is_transient=is_transient,
    )


def _login(request: ProbeRequest) -> str:
    if request.credentials is None:
        return "none"
    return "oauth2" if isinstance(request.credentials, BearerToken) else "basic"


def _case(fault: Fault, request: ProbeRequest) -> _Case:
    # Secrets are looked for as the server wrote them, before blanks and invisible characters in them are lost, and
    # again afterwards, for a server that had already lost them itself.
    enhanced_code, text = _parse_text(_scrubbed(fault.text, request))
    text = _shortened(_scrubbed(text, request), MAX_REPLY_LENGTH)
    return _Case(fault, request, enhanced_code, _judged(fault), text, _parse_challenge(fault.challenge, request))


def _judged(fault: Fault) -> str:
    """What the engine is asked about: the reply as it is on the wire, with the challenge before it as text.

    Nothing is scrubbed from it: a user may be called "relay", and "Relay access denied" has to stay what it is.
    """
    if fault.kind is not FaultKind.REPLY:
        return fault.detail
    challenge = decoded_challenge(fault.challenge)
    lines = [f"{fault.code} {line}".rstrip() for line in fault.text.splitlines() or [""]]
    return "\n".join(filter(None, (challenge, *lines)))


def _where(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_text(text: str) -> tuple[str | None, str]:
    """The enhanced status code of a reply, and its text on one line."""
    lines = [_on_one_line(line) for line in text.splitlines()]
    codes = [match[1] for line in lines if (match := _ENHANCED.match(line))]
    enhanced_code = codes[0] if codes else None
    # Servers repeat the enhanced code on every line (RFC 2034 §4); once is enough for a reader.
    joined = " ".join(line.removeprefix(enhanced_code).lstrip() if enhanced_code else line for line in lines if line)
    return enhanced_code, joined.strip()


def _parse_challenge(text: str, request: ProbeRequest) -> str:
    challenge = parse_challenge(text) or Challenge()
    values = {
        "status": challenge.status,
        "scope": challenge.scope,
        "schemes": challenge.schemes,
        "openid-configuration": challenge.openid_configuration,
    }
    said = ", ".join(
        f"{name} {_on_one_line(_scrubbed(value, request))}".rstrip() for name, value in values.items() if value
    )
    return _shortened(_scrubbed(said, request), MAX_CHALLENGE_LENGTH)


def _on_one_line(text: str) -> str:
    """With single blanks, and nothing that could hide or reorder what a person reads, or end a quotation."""
    return " ".join("".join(map(_visible, text)).split()).replace('"', "'")


def _visible(char: str) -> str:
    """In the place of control, format and surrogate characters another one."""
    category = unicodedata.category(char)[0]
    if char == "\t" or category == "Z":
        return " "
    return "\N{REPLACEMENT CHARACTER}" if category == "C" else char


def _scrubbed(text: str, request: ProbeRequest) -> str:
    return redact(text, _secrets(request), tokens=_tokens(request))


def _tokens(request: ProbeRequest) -> list[str]:
    """The access token and the lines that carry it."""
    login = request.credentials
    if not isinstance(login, BearerToken):
        return []
    responses = [initial_response(mechanism, login, request.server).decode("ascii") for mechanism in Mechanism]
    return [login.access_token, *responses]


def _secrets(request: ProbeRequest) -> list[str]:
    """The login in the forms that a server may repeat it in, blanks and invisible characters kept, replaced or lost.

    The user name counts as one: it may come from a Secret.
    """
    login = request.credentials
    values = list(request.server.proxy.secrets) if request.server.proxy else []
    if login is not None:
        values.append(login.username)
    if isinstance(login, BearerToken):
        values.append(login.access_token)
    elif login is not None:
        values += [login.password, f"\0{login.username}\0{login.password}"]  # SASL PLAIN, RFC 4616 §2
    return [form for value in values for form in (value, _on_one_line(value), _on_one_line(_without_invisible(value)))]


def _without_invisible(text: str) -> str:
    return "".join(char for char in text if unicodedata.category(char)[0] != "C")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


_LABELS: Final = {
    Stage.TOKEN: "Token",
    Stage.RESOLVE: "DNS",
    Stage.PROXY: "Proxy",
    Stage.CONNECT: "Connect",
    Stage.GREETING: "Greeting",
    Stage.TLS: "TLS",
    Stage.EHLO: "EHLO",
    Stage.AUTH: "AUTH",
    Stage.MAIL: "MAIL FROM",
    Stage.RCPT: "RCPT TO",
    Stage.DATA: "DATA",
}
_STEPS: Final = {
    Stage.TOKEN: "the request for a token",
    Stage.RESOLVE: "the look-up of its name",
    Stage.PROXY: "the connect through the proxy",
    Stage.CONNECT: "the connect",
    Stage.GREETING: "the connect with a greeting",
    Stage.TLS: "the TLS handshake",
    Stage.EHLO: "EHLO",
    Stage.AUTH: "the login",
    Stage.MAIL: "the sender address",
    Stage.RCPT: "the recipient address",
    Stage.DATA: "the test mail",
}


_HAPPENED: Final = {
    Stage.TOKEN: "{where} answered {reply}.",
    Stage.RESOLVE: "{where} answered {reply}.",
    Stage.PROXY: "{where} answered {reply}.",
    Stage.CONNECT: "{where} answered {reply}.",
    Stage.GREETING: "{where} {refused} the session with {reply}.",
    Stage.TLS: "{where} {refused} STARTTLS with {reply}.",
    Stage.EHLO: "{where} {refused} EHLO with {reply}.",
    Stage.AUTH: "{where} {refused} the {login} with {reply}.",
    Stage.MAIL: "{where} {refused} the sender {sender} with {reply}.",
    Stage.RCPT: "{where} {refused} the recipient {recipient} with {reply}.",
    Stage.DATA: "{where} {refused} the test mail with {reply}.",
}
"""By the step that the server refused."""


def _one(*kinds: FaultKind) -> frozenset[FaultKind]:
    return frozenset(kinds)


def _at(*stages: Stage) -> frozenset[Stage]:
    return frozenset(stages)


def _codes(*codes: int | range) -> frozenset[int]:
    return frozenset(number for code in codes for number in (code if isinstance(code, range) else (code,)))


_PLAIN_FIRST: Final = frozenset({TlsMode.DISABLED, TlsMode.START_TLS})
_IMPLICIT: Final = frozenset({TlsMode.IMPLICIT})
_NOT_REFUSALS: Final = _codes(range(200, 400))

_BEFORE_AND_AT_CONNECT: Final = (
    _Rule(
        Reason.EGRESS_DENIED,
        "The operator's egress policy forbids {where}: {detail}.",
        "Use a public mail server, or ask the cluster's administrator to allow this one.",
        kinds=_one(FaultKind.EGRESS_DENIED),
    ),
    _Rule(
        Reason.EGRESS_DENIED,
        "The operator's egress policy forbids the proxy {proxy}: {detail}.",
        "Ask the cluster's administrator to list it, or remove connection.proxy.",
        kinds=_one(FaultKind.PROXY_DENIED),
    ),
    _Rule(
        Reason.PROXY_AUTH_REQUIRED,
        "The proxy {proxy} lets nobody through to {where} without a login that it knows: {detail}.",
        "Check connection.proxy.basic.",
        kinds=_one(FaultKind.PROXY_LOGIN),
    ),
    _Rule(
        Reason.PROXY_FAILURE,
        "The proxy {proxy} made no connection to {where}: {detail}.",
        "Check connection.proxy, and that the proxy lets this server's addresses and port through.",
        kinds=_one(FaultKind.PROXY_FAILURE),
    ),
    _Rule(
        Reason.DNS_NOT_FOUND,
        "There is no address for the name {host}.",
        "Check connection.host; inside the cluster write the full name of the Service.",
        kinds=_one(FaultKind.NAME_NOT_FOUND),
        is_transient=False,
    ),
    _Rule(
        Reason.DNS_NOT_FOUND,
        "The name servers gave no answer for {host}.",
        "It is tried again; if it lasts, check the cluster's DNS.",
        kinds=_one(FaultKind.NAME_TEMPORARY),
    ),
    _Rule(
        Reason.CONNECTION_REFUSED,
        "{where} refused the connection: nothing listens on that port.",
        "Check connection.host and connection.port.",
        kinds=_one(FaultKind.REFUSED),
    ),
    _Rule(
        Reason.PORT_BLOCKED,
        "{where} cannot be reached: {detail}.",
        "Check connection.host, NetworkPolicies and the network's routes; many networks let no mail out on port 25.",
        kinds=_one(FaultKind.UNREACHABLE),
        is_transient=True,
    ),
    _Rule(
        Reason.CONNECTION_TIMEOUT,
        "{where} did not answer the connect within {timeout}.",
        "Many clouds and networks block port 25: use 587 or 465; otherwise check firewalls and NetworkPolicies.",
        kinds=_one(FaultKind.TIMEOUT),
        stages=_at(Stage.CONNECT),
        ports=_codes(25),
    ),
    _Rule(
        Reason.CONNECTION_TIMEOUT,
        "{where} did not answer the connect within {timeout}.",
        "Check connection.host and connection.port, firewalls and NetworkPolicies.",
        kinds=_one(FaultKind.TIMEOUT),
        stages=_at(Stage.CONNECT),
    ),
    _Rule(
        Reason.CONNECTION_TIMEOUT,
        "The probe of {where} took too long as a whole and was ended during {step}.",
        "The server is slow at every step; lower connection.timeout to learn at which.",
        kinds=_one(FaultKind.DEADLINE),
    ),
)

_AT_TLS: Final = (
    _Rule(
        Reason.IMPLICIT_TLS_EXPECTED,
        "{where} speaks TLS from the first byte, and tls.mode is {tls}.",
        "Set connection.tls.mode to Implicit.",
        kinds=_one(FaultKind.TLS_BYTES),
    ),
    _Rule(
        Reason.IMPLICIT_TLS_EXPECTED,
        "{where} sent no greeting; port 465 usually speaks TLS from the first byte, and tls.mode is {tls}.",
        "Set connection.tls.mode to Implicit.",
        kinds=_one(FaultKind.TIMEOUT, FaultKind.LOST),
        stages=_at(Stage.GREETING),
        ports=_codes(465),
        tls=_PLAIN_FIRST,
    ),
    _Rule(
        Reason.START_TLS_EXPECTED,
        "{where} answered in the clear where TLS was expected from the first byte.",
        "Set connection.tls.mode to StartTLS, or use the port for implicit TLS, 465.",
        kinds=_one(FaultKind.PLAIN_BYTES),
        tls=_IMPLICIT,
    ),
    _Rule(
        Reason.START_TLS_NOT_OFFERED,
        "{where} does not offer STARTTLS, and tls.mode StartTLS demands it.",
        "Check connection.port: 587 usually offers it, 465 takes tls.mode Implicit.",
        kinds=_one(FaultKind.STARTTLS_NOT_OFFERED),
    ),
    _Rule(
        Reason.TLS_PROTOCOL_VERSION,
        "{where} and the operator share no TLS version; tls.minVersion is {version}.",
        "Have the server updated, or lower connection.tls.minVersion if it is above TLSv1.2.",
        kinds=_one(FaultKind.TLS_VERSION),
    ),
    _Rule(
        Reason.CERTIFICATE_NAME_MISMATCH,
        "The certificate of {where} is not valid for {name}.",
        "Set connection.host to a name in the certificate, or connection.tls.serverName to the name it bears.",
        kinds=_one(FaultKind.CERTIFICATE_NAME),
    ),
    _Rule(
        Reason.CERTIFICATE_EXPIRED,
        "The certificate of {where} is not valid today: {detail}.",
        "Have the server's certificate renewed.",
        kinds=_one(FaultKind.CERTIFICATE_DATE),
    ),
    _Rule(
        Reason.CERTIFICATE_UNTRUSTED,
        "The certificate of {where} is not trusted: {detail}.",
        "For a private certification authority set connection.tls.caBundle to its certificate.",
        kinds=_one(FaultKind.CERTIFICATE_UNTRUSTED),
    ),
    _Rule(
        Reason.CA_BUNDLE_INVALID,
        "The CA bundle holds no readable PEM certificate.",
        "Correct what connection.tls.caBundle refers to.",
        kinds=_one(FaultKind.CA_BUNDLE),
    ),
    _Rule(
        Reason.SERVER_MISCONFIGURED,
        "{where} agreed to STARTTLS and then went on in the clear: {detail}.",
        "Whoever runs the server reads its log; something on the way may change what is said, too.",
        kinds=_one(FaultKind.PLAIN_BYTES),
    ),
    _Rule(
        Reason.CONNECTION_TIMEOUT,
        "{where} did not finish the TLS handshake within {timeout}.",
        "If the port begins in the clear, as 25 and 587 usually do, set connection.tls.mode to StartTLS.",
        kinds=_one(FaultKind.TIMEOUT),
        stages=_at(Stage.TLS),
        tls=_IMPLICIT,
    ),
)

_LOST_OR_LATE: Final = (
    _Rule(
        Reason.CONNECTION_TIMEOUT,
        "{where} sent no complete greeting within {timeout}.",
        "If the port speaks TLS from the first byte, as 465 usually does, set connection.tls.mode to Implicit.",
        kinds=_one(FaultKind.TIMEOUT),
        stages=_at(Stage.GREETING),
        tls=_PLAIN_FIRST,
    ),
    _Rule(
        Reason.CONNECTION_TIMEOUT,
        "{where} did not answer {step} within {timeout}.",
        "If the server is only slow, raise connection.timeout.",
        kinds=_one(FaultKind.TIMEOUT),
    ),
    _Rule(
        Reason.SERVER_TEMPORARY,
        "{where} closed the connection instead of answering {step}.",
        "It is tried again. If it lasts, the server's log says why; a firewall on the way may do it too.",
        kinds=_one(FaultKind.LOST),
    ),
)

_AT_AUTH: Final = (
    _Rule(
        Reason.START_TLS_EXPECTED,
        "{where} offers a login only after STARTTLS, and tls.mode is {tls}.",
        "Set connection.tls.mode to StartTLS.",
        kinds=_one(FaultKind.AUTH_AFTER_STARTTLS),
    ),
    _Rule(
        Reason.AUTH_NOT_OFFERED,
        "{where} offers no login on this connection, so the {secret} was not sent.",
        "Use the server's submission port (587 or 465), or remove auth if it wants no login.",
        kinds=_one(FaultKind.AUTH_NOT_OFFERED),
    ),
    _Rule(
        Reason.AUTH_MECHANISM_UNSUPPORTED,
        "{where} offers a login by {detail} only, and not by PLAIN, LOGIN or CRAM-MD5; the password was not sent.",
        "This server cannot be used with a user name and a password.",
        kinds=_one(FaultKind.MECHANISM_UNSUPPORTED),
        by_token=False,
    ),
    _Rule(
        Reason.AUTH_MECHANISM_UNSUPPORTED,
        "{where} offers a login by {detail} only, and not by XOAUTH2 or OAUTHBEARER; the access token was not sent.",
        "Check connection.host; if it is right, this server cannot be used with OAuth2.",
        kinds=_one(FaultKind.MECHANISM_UNSUPPORTED),
        by_token=True,
    ),
    _Rule(
        Reason.TOKEN_UNUSABLE,
        "The access token cannot be sent to {where}: {detail}.",
        "Have the provider issue a usual one: with fewer claims, groups or scopes if it is too long.",
        kinds=_one(FaultKind.TOKEN_UNSENDABLE),
    ),
)

_NO_SMTP: Final = (
    _Rule(
        Reason.PROTOCOL_ERROR,
        "{where} answered {step} with {reply}, which has no place there.",
        "Check that a mail server listens on that port.",
        kinds=_one(FaultKind.REPLY),
        codes=_NOT_REFUSALS,
        challenged=False,
    ),
    _Rule(
        Reason.PROTOCOL_ERROR,
        "What {where} answered to {step} is not SMTP.",
        "Check that a mail server listens on that port.",
        kinds=_one(FaultKind.GARBAGE),
    ),
)

_BEFORE_THE_MAIL: Final = (
    _Rule(
        Reason.MAIL_LIMIT_REACHED,
        "The test mail was not sent: {detail}.",
        "Test again after that, or only up to the login, with mode Authenticate.",
        kinds=_one(FaultKind.MAIL_HELD),
    ),
    _Rule(
        Reason.MAIL_NOT_COUNTED,
        "The test mail was not sent, since no mail is that is not counted beforehand: {detail}.",
        "If it lasts, ask the cluster's administrator: the operator's log says more.",
        kinds=_one(FaultKind.MAIL_NOT_COUNTED),
    ),
)

_RULES: Final = (
    *_BEFORE_AND_AT_CONNECT,
    *_AT_TLS,
    *_LOST_OR_LATE,
    *_AT_AUTH,
    *_NO_SMTP,
    *_BEFORE_THE_MAIL,
)
"""The first that holds decides; where none does, something was said that has to be understood."""
