"""From what an identity provider did to what a person should do: pure functions over one ordered table of rules.

Sources of the table: RFC 6749 §4.1.2.1 and §5.2, RFC 7521 §4.2.1, RFC 8628 §3.5, OpenID Connect Core 1.0 §3.1.2.6, the
list of AADSTS error codes in Microsoft's Entra documentation, and Google's documentation of its OAuth 2.0 errors.
Microsoft asks not to branch on AADSTS codes: rules branch on `error`, and a code only tells which of several remedies
is meant.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from mailsettings.api.conditions import Reason, explained
from mailsettings.api.identity import Family
from mailsettings.core.causes.catalog import link
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.reasons import docs_of
from mailsettings.core.expressions import Expression
from mailsettings.core.oauth2.request import (
    DEVICE_INTERVAL,
    AuthorizationCode,
    AuthorizationRequest,
    ClientAssertion,
    ClientAuth,
    ClientCertificate,
    ClientCredentials,
    ClientSecret,
    DeviceAuthorizationRequest,
    DeviceCode,
    Grant,
    PublicClient,
    RefreshToken,
    ServiceAccount,
    TokenRequest,
)
from mailsettings.core.redact import MARK, redact
from mailsettings.core.rules import decisive, is_in, pattern


class FailureKind(StrEnum):
    """What happened, before it is judged."""

    EGRESS_DENIED = "egress-denied"
    """The egress policy forbids the connection; `detail` says why."""
    PROXY_DENIED = "proxy-denied"
    """The egress policy forbids the proxy; `detail` says why."""
    PROXY_LOGIN = "proxy-login"
    """The proxy wants a login, or another one; `detail` says which."""
    PROXY_FAILURE = "proxy-failure"
    """The proxy made no connection; `detail` says why."""
    FOREIGN_HOST = "foreign-host"
    """The discovery document leads to another host, which was not contacted."""
    NAME_NOT_FOUND = "name-not-found"
    NAME_TEMPORARY = "name-temporary"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    """`detail` is the operating system's word for it."""
    TIMEOUT = "timeout"
    """The connect was not answered."""
    DEADLINE = "deadline"
    """The call as a whole took too long."""
    BUSY = "busy"
    """The call did not begin in time, because the operator had too many others."""
    LOST = "lost"
    """The other side closed or reset the connection."""
    CERTIFICATE = "certificate"
    """`detail` is OpenSSL's word for what is wrong with it."""
    TLS = "tls"
    """The handshake failed otherwise; `detail` likewise."""
    CA_BUNDLE = "ca-bundle"
    KEY = "key"
    """The private key, the certificate or the service account's key file cannot be used; `detail` says why."""
    ASSERTION = "assertion"
    """The federated token cannot be used; `detail` is the operating system's word for it, or the operator's."""
    GARBAGE = "garbage"
    """What came is no HTTP."""
    TOO_LONG = "too-long"
    REDIRECT = "redirect"
    NOT_JSON = "not-json"
    """The answer has not the form that it should have."""
    NO_TOKEN = "no-token"
    """The answer is a success without a bearer token that could be used."""
    ANSWER = "answer"
    """An HTTP answer that refuses: `status`, and what the provider said. Without a status it came by the person's
    browser, from the authorization endpoint (RFC 6749 §4.1.2.1)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call as the edge saw it. Nothing in it has been judged."""

    kind: FailureKind
    status: int | None = None
    """The HTTP status, where there was an answer."""
    error: str = ""
    """The OAuth error code; empty: none that is well-formed."""
    suberror: str = ""
    """Microsoft's `suberror`, Google's `error_subtype`."""
    codes: frozenset[int] = frozenset()
    """The numbers of Microsoft's `error_codes`."""
    description: str = ""
    """As the provider wrote it; may hold anything, secrets too."""
    retry_after: timedelta | None = None
    detail: str = ""
    """Words of the operator, OpenSSL or the operating system. Never a provider's, and never a secret."""


@dataclass(frozen=True, slots=True)
class TokenFault:
    """Why there is no token, in texts that hold no secret."""

    reason: Reason
    happened: str
    """A sentence, the same for the same fault each time."""
    retry_after: timedelta | None = None
    """How long the provider asks to be left alone; with `slow_down` the new interval between two requests."""
    error: str = ""
    """The OAuth error code, where the provider gave one."""
    is_transient: bool = False
    """Whether it tells nothing against the grant: a token that still lives stays good, and the call is repeated."""
    remedy: str = ""
    """What to do, where `happened` does not say it already."""
    cause: Cause | None = None
    """The cause, where it is another than the reason means."""

    @property
    def docs(self) -> str:
        """Where the documentation tells of it; empty: it tells of the operator itself."""
        return link(self.cause) if self.cause is not None else docs_of(self.reason)

    @property
    def message(self) -> str:
        """All of it in the words of a condition."""
        return explained(self.happened, self.remedy, self.docs)


MAX_TEXT_LENGTH: Final = 300
"""Of the provider's text in a message, in characters."""


Asked = TokenRequest | DeviceAuthorizationRequest | AuthorizationRequest
"""What failed: a call, or what a person was sent to the authorization endpoint with."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A failure beside its request, in the words that rules match on and messages are made of."""

    failure: Failure
    request: Asked
    deadline: timedelta = timedelta()
    more_secrets: tuple[str, ...] = field(default=(), repr=False)
    quotes: bool = True
    """Whether what was said may be shown: else only what is in `REDIRECT_ERRORS`, and Microsoft's numbers."""

    @property
    def codes(self) -> frozenset[int]:
        """The AADSTS numbers, wherever they stand."""
        found = re.findall(r"\bAADSTS([0-9]{4,8})\b", self.failure.description)
        return self.failure.codes | frozenset(map(int, found))

    @property
    def auth(self) -> type[ClientAuth] | None:
        """How the client authenticates; None: a service account, or nobody authenticates in the browser."""
        if isinstance(self.request, AuthorizationRequest) or self.request.client is None:
            return None
        return type(self.request.client.auth)

    @property
    def grant(self) -> type[Grant]:
        """What the token is, or is to be, asked for with."""
        if isinstance(self.request, TokenRequest):
            return type(self.request.grant)
        return AuthorizationCode if isinstance(self.request, AuthorizationRequest) else DeviceCode

    @property
    def secrets(self) -> list[str]:
        """What no text may show."""
        own = [] if isinstance(self.request, AuthorizationRequest) else self.request.secrets()
        return [*own, *self.more_secrets]

    @property
    def private_keys(self) -> list[str]:
        """Texts of many lines, of which no piece may be shown."""
        return [] if isinstance(self.request, AuthorizationRequest) else self.request.private_keys()

    @property
    def retry_after(self) -> timedelta | None:
        """How long to wait. `slow_down` makes the interval longer for good (RFC 8628 §3.5)."""
        grant = self.request.grant if isinstance(self.request, TokenRequest) else None
        if not isinstance(grant, DeviceCode) or self.failure.error != "slow_down":
            return self.failure.retry_after
        return max(grant.interval + DEVICE_INTERVAL, self.failure.retry_after or timedelta())

    @property
    def words(self) -> dict[str, str]:
        """What the placeholders in a rule's texts stand for."""
        what, where = _CREDENTIALS[self.auth]
        return {
            "where": urlsplit(self.request.endpoint).netloc.rpartition("@")[2],
            "proxy": self._proxy,
            "credential": what,
            "credential_field": where,
            "account": self._account,
            "uri_field": self._uri_field,
            "redirect_uri": self._redirect_uri,
            "later": "Begin the consent again" if self.grant is AuthorizationCode else "It is tried again",
            "deadline": f"{self.deadline.total_seconds():g}s",
            "said": self._said,
            "detail": self.failure.detail,
        }

    @property
    def _proxy(self) -> str:
        proxy = None if isinstance(self.request, AuthorizationRequest) else self.request.proxy
        return proxy.url if proxy else "none"

    @property
    def _account(self) -> str:
        grant = self.request.grant if isinstance(self.request, TokenRequest) else None
        return grant.subject if isinstance(grant, ServiceAccount) else "the account"

    @property
    def _uri_field(self) -> str:
        if self.request.family is Family.MICROSOFT:
            return "directoryID and cloud"
        return _URI_FIELDS[type(self.request)]

    @property
    def _redirect_uri(self) -> str:
        """The operator's own words, not the provider's."""
        if isinstance(self.request, AuthorizationRequest):
            return self.request.redirect_uri
        grant = self.request.grant if isinstance(self.request, TokenRequest) else None
        return grant.redirect_uri if isinstance(grant, AuthorizationCode) else "status.oauth2.redirectURI"

    @property
    def _said(self) -> str:
        if not self.quotes:
            numbers = "".join(f", AADSTS{number}" for number in sorted(self.codes)[:3])
            return (self.failure.error if self.failure.error in REDIRECT_ERRORS else "an error") + numbers
        status = self.failure.status
        code = self.failure.error or ("an error without a code" if status is None else f"HTTP status {status}")
        text = legible(self.failure.description, self.secrets, self.private_keys)
        shown = self.redacted(code)
        return f'{shown} "{text}"' if text else shown

    def redacted(self, text: str) -> str:
        """The text without secrets."""
        return _redacted(text, self.secrets, self.private_keys)


_URI_FIELDS: Final[dict[type[Asked], str]] = {
    TokenRequest: "tokenURI",
    DeviceAuthorizationRequest: "deviceAuthorizationURI",
    AuthorizationRequest: "authorizationURI",
}
"""Where the endpoint stands, below `auth.oauth2`."""


_CREDENTIALS: Final[dict[type[ClientAuth] | None, tuple[str, str]]] = {
    PublicClient: ("a client without a secret", "clientAuth"),
    ClientSecret: ("the client secret", "clientAuth.secretRef"),
    ClientCertificate: ("the certificate", "clientAuth.certificateRef"),
    ClientAssertion: ("the operator's federated token", "clientAuth.federation"),
    None: ("the service account's key", "serviceAccountKeyRef"),
}
"""What proves who asks, and the field that it comes from, below `auth.oauth2`."""


def diagnose(
    failure: Failure, request: TokenRequest | DeviceAuthorizationRequest, *, deadline: timedelta
) -> TokenFault:
    """What a failed call means for the person who wrote the settings.

    The message holds no secret, no time and no number of one call: the same failure gives the same message each time,
    so that the status is not written for nothing.
    """
    return _judged(_Case(failure, request, deadline))


def diagnose_redirect(
    error: str,
    description: str,
    request: AuthorizationRequest,
    *,
    secrets: Iterable[str] = (),
    quotes: bool = True,
) -> TokenFault:
    """What it means that the authorization endpoint sent an error in place of a code.

    Anybody can make a browser bring such an error: it says nothing against a token that is held.

    Args:
        error: As it came; what is no error code is not shown.
        description: As it came.
        request: What the person was sent with.
        secrets: What the texts may not show besides: the state, the verifier, the client secret.
        quotes: Whether the texts may be shown at all: not where nobody knows whose browser it was.
    """
    failure = Failure(FailureKind.ANSWER, error=error_code(error), description=description)
    return _judged(_Case(failure, request, more_secrets=tuple(filter(None, secrets)), quotes=quotes))


def _judged(case: _Case) -> TokenFault:
    rule = decisive(RULES, case)
    return TokenFault(
        reason=rule.reason,
        happened=rule.happened.format_map(case.words),
        retry_after=case.retry_after,
        error=case.redacted(case.failure.error),
        is_transient=not rule.reason.needs_person if rule.is_transient is None else rule.is_transient,
        remedy=rule.remedy.format_map(case.words),
        cause=rule.cause,
    )


REDIRECT_ERRORS: Final = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "admin_policy_enforced",
        "consent_required",
        "interaction_required",
        "invalid_request",
        "invalid_scope",
        "login_required",
        "org_internal",
        "redirect_uri_mismatch",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_response_type",
    }
)
"""Errors of authorization endpoints. Source: RFC 6749 §4.1.2.1, OpenID Connect Core 1.0 §3.1.2.6, and Google's own."""

_ERROR_CODE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,80}")
"""Source: RFC 6749 §5.2, without the space; the bound is ours."""


def error_code(value: object) -> str:
    """An OAuth error code as it came; empty: it is none."""
    return value if isinstance(value, str) and _ERROR_CODE.fullmatch(value) else ""


# What Microsoft appends to each description, and the like of others: it differs from call to call.
_PER_CALL: Final = re.compile(
    r"\b(?:trace|correlation|request|error)[ _-]?id\b\s*[:=]?\s*[\w.-]*[.,;]?|\btimestamp\b\s*[:=]?\s*", re.IGNORECASE
)
_MOMENT: Final = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(?: ?Z\b|[+-][0-9]{2}:?[0-9]{2})?")
_QUERY: Final = re.compile(r"(https?://[^\s?#]+)[?#]\S*")
# What looks like a token, a code or a key, whosoever it is: a long run that is neither words nor a URL.
_RUN: Final = re.compile(r"\beyJ[\w.~+/=-]+|(?<![\w./:~+=-])(?!https?://)[\w.~+/=-]{40,}")


def legible(text: str, secrets: Sequence[str], private_keys: Sequence[str] = ()) -> str:
    """A provider's text fit to be shown: on one line, without secrets and what changes from call to call, bounded."""
    clean = _redacted("".join(map(_visible, text)), secrets, private_keys)
    for expression, replacement in ((_QUERY, r"\1"), (_RUN, MARK), (_PER_CALL, ""), (_MOMENT, "")):
        clean = expression.sub(replacement, clean)
    clean = " ".join(clean.split()).replace('"', "'").strip(" .,;")
    return clean if len(clean) <= MAX_TEXT_LENGTH else f"{clean[: MAX_TEXT_LENGTH - 1]}…"


def _redacted(text: str, secrets: Sequence[str], private_keys: Sequence[str]) -> str:
    return redact(text, secrets, tokens=(*secrets, *private_keys))


def _visible(char: str) -> str:
    """Control, format and surrogate characters could hide or reorder what a person reads."""
    category = unicodedata.category(char)
    if category[0] == "Z" or char in "\t\r\n":
        return " "
    return "\N{REPLACEMENT CHARACTER}" if category[0] == "C" else char


@dataclass(frozen=True, slots=True)
class Rule:
    """When a reason holds, and what to say then. A condition that is None always holds."""

    reason: Reason
    happened: str
    """A sentence with the placeholders of `_Case.words`."""
    remedy: str
    """What to do, likewise."""
    kinds: frozenset[FailureKind] = frozenset({FailureKind.ANSWER})
    families: frozenset[Family] | None = None
    grants: frozenset[type[Grant]] | None = None
    auths: frozenset[type[ClientAuth] | None] | None = None
    statuses: frozenset[int | None] | None = None
    """HTTP statuses; None among them: the error came by a redirect."""
    errors: frozenset[str] | None = None
    suberrors: frozenset[str] | None = None
    codes: frozenset[int] | None = None
    """AADSTS numbers, of which one must be there."""
    text: Expression | None = None
    """Found in the provider's description."""
    is_transient: bool | None = None
    """None: as the reason says."""
    cause: Cause | None = None
    """What the documentation has it under; None: as the reason says."""

    def holds(self, case: _Case) -> bool:
        """Whether every condition does."""
        failure = case.failure
        return (
            failure.kind in self.kinds
            and is_in(case.request.family, self.families)
            and is_in(case.grant, self.grants)
            and is_in(case.auth, self.auths)
            and is_in(failure.status, self.statuses)
            and is_in(failure.error, self.errors)
            and is_in(failure.suberror, self.suberrors)
            and (self.codes is None or not self.codes.isdisjoint(case.codes))
            and (self.text is None or self.text.search(failure.description) is not None)
        )


def _kinds(*kinds: FailureKind) -> frozenset[FailureKind]:
    return frozenset(kinds)


def _set(*errors: str) -> frozenset[str]:
    return frozenset(errors)


def _codes(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


_MICROSOFT: Final = frozenset({Family.MICROSOFT})
_GOOGLE: Final = frozenset({Family.GOOGLE})
_REFRESH: Final[frozenset[type[Grant]]] = frozenset({RefreshToken})
_CODE: Final[frozenset[type[Grant]]] = frozenset({AuthorizationCode})
_DEVICE: Final[frozenset[type[Grant]]] = frozenset({DeviceCode})
_BY_A_PERSON: Final = _CODE | _DEVICE
_REDIRECT: Final[frozenset[int | None]] = frozenset({None})
"""What the authorization endpoint says by way of the browser."""
_APPLICATION: Final[frozenset[type[Grant]]] = frozenset({ClientCredentials})
_SERVICE_ACCOUNT: Final[frozenset[type[Grant]]] = frozenset({ServiceAccount})

_GRANT_ERRORS: Final = _set(
    "invalid_grant", "interaction_required", "login_required", "consent_required", "access_denied"
)
"""The person's or the account's part is refused."""
_CLIENT_ERRORS: Final = _set("invalid_client", "unauthorized_client", "invalid_request")
"""The client's part is refused."""
_TARGET_ERRORS: Final = _set("invalid_scope", "invalid_resource", "invalid_target", "invalid_request", "invalid_grant")
"""What is asked for is refused."""

_CONSENT_COMMAND: Final = "`kubectl mailsettings authorize NAME`"
_BEGIN_AGAIN: Final = f"Begin the consent again: {_CONSENT_COMMAND}."
_REGISTER: Final = "Add {redirect_uri}, exactly as it is written here, to the client's redirect URIs. " + _BEGIN_AGAIN
_AUTHORIZE: Final = (
    f"Authorize again ({_CONSENT_COMMAND}), or store a new refresh token where refreshTokenSecretRef points."
)
_LATER: Final = "{later}."

_WITHOUT_ANSWER: Final = (
    Rule(
        Reason.EGRESS_DENIED,
        "The operator's egress policy forbids {where}: {detail}.",
        "Use a public identity provider, or ask the cluster's administrator to allow this one.",
        kinds=_kinds(FailureKind.EGRESS_DENIED),
    ),
    Rule(
        Reason.EGRESS_DENIED,
        "The operator's egress policy forbids the proxy {proxy}: {detail}.",
        "Ask the cluster's administrator to list it, or remove connection.proxy.",
        kinds=_kinds(FailureKind.PROXY_DENIED),
    ),
    Rule(
        Reason.PROXY_AUTH_REQUIRED,
        "The proxy {proxy} lets nobody through to {where} without a login that it knows: {detail}.",
        "Check connection.proxy.basic.",
        kinds=_kinds(FailureKind.PROXY_LOGIN),
        is_transient=True,
    ),
    Rule(
        Reason.PROXY_FAILURE,
        "The proxy {proxy} made no connection to the identity provider {where}: {detail}.",
        f"{_LATER[:-1]}; if it lasts, check connection.proxy, and that the proxy lets that host's addresses through.",
        kinds=_kinds(FailureKind.PROXY_FAILURE),
    ),
    Rule(
        Reason.PROVIDER_ANSWER_INVALID,
        "The discovery document of {where} leads to another host or port, which was not contacted.",
        "Check {uri_field}; an identity provider's endpoints must be on one host.",
        kinds=_kinds(FailureKind.FOREIGN_HOST),
        is_transient=True,
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "There is no address for the identity provider's name {where}.",
        f"Check {{uri_field}} and the cluster's DNS. {_LATER}",
        kinds=_kinds(FailureKind.NAME_NOT_FOUND),
        cause=Cause.DNS_NOT_FOUND,
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The name servers gave no answer for the identity provider {where}.",
        f"{_LATER[:-1]}; if it lasts, check the cluster's DNS.",
        kinds=_kinds(FailureKind.NAME_TEMPORARY),
        cause=Cause.DNS_NOT_FOUND,
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The identity provider {where} refused the connection.",
        f"{_LATER[:-1]}; if it lasts, check {{uri_field}} and the firewalls on the way.",
        kinds=_kinds(FailureKind.REFUSED),
        cause=Cause.CONNECTION_REFUSED,
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The identity provider {where} cannot be reached: {detail}.",
        f"{_LATER[:-1]}; if it lasts, check NetworkPolicies and the network's routes.",
        kinds=_kinds(FailureKind.UNREACHABLE),
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The identity provider {where} did not answer the connect.",
        f"{_LATER[:-1]}; if it lasts, check firewalls and NetworkPolicies: https on port 443 must be let out.",
        kinds=_kinds(FailureKind.TIMEOUT),
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The identity provider {where} did not answer completely within {deadline}.",
        _LATER,
        kinds=_kinds(FailureKind.DEADLINE),
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The identity provider {where} was not asked: other requests of the operator took up all of {deadline}.",
        f"{_LATER[:-1]}; if it lasts, other settings name identity providers that hardly answer.",
        kinds=_kinds(FailureKind.BUSY),
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The identity provider {where} closed the connection instead of answering.",
        _LATER,
        kinds=_kinds(FailureKind.LOST),
    ),
    Rule(
        Reason.PROVIDER_UNTRUSTED,
        "The TLS certificate of the identity provider {where} cannot be relied on: {detail}.",
        "For a private certification authority set its CA bundle; otherwise have the certificate mended.",
        kinds=_kinds(FailureKind.CERTIFICATE),
        is_transient=True,
    ),
    Rule(
        Reason.PROVIDER_UNREACHABLE,
        "The TLS handshake with the identity provider {where} failed: {detail}.",
        f"Check {{uri_field}}. {_LATER}",
        kinds=_kinds(FailureKind.TLS),
    ),
    Rule(
        Reason.CA_BUNDLE_INVALID,
        "The CA bundle for the identity provider holds no readable PEM certificate.",
        "Correct what the settings' caBundle refers to.",
        kinds=_kinds(FailureKind.CA_BUNDLE),
    ),
    Rule(
        Reason.SECRET_VALUE_INVALID,
        "auth.oauth2.{credential_field}: {detail}.",
        "Correct what it refers to.",
        kinds=_kinds(FailureKind.KEY),
    ),
    Rule(
        Reason.FEDERATION_UNAVAILABLE,
        "The operator's own token for auth.oauth2.clientAuth.federation cannot be read: {detail}.",
        "Have the cluster's administrator project a service-account token of that audience into the operator's Pod.",
        kinds=_kinds(FailureKind.ASSERTION),
    ),
)

_NONSENSE: Final = (
    Rule(
        Reason.PROVIDER_ANSWER_INVALID,
        "{where} answered with a redirect, which is not followed.",
        "Check {uri_field}: it must be the token endpoint itself.",
        kinds=_kinds(FailureKind.REDIRECT),
        is_transient=True,
    ),
    Rule(
        Reason.PROVIDER_ANSWER_INVALID,
        "{where} sent more than a token endpoint ever does.",
        "Check {uri_field}.",
        kinds=_kinds(FailureKind.TOO_LONG),
        is_transient=True,
    ),
    Rule(
        Reason.PROVIDER_ANSWER_INVALID,
        "{where} answered with a success, but gave no bearer token that can be used.",
        "Check {uri_field}, and that the provider gives bearer tokens (RFC 6750).",
        kinds=_kinds(FailureKind.NO_TOKEN),
        is_transient=True,
    ),
    Rule(
        Reason.PROVIDER_ANSWER_INVALID,
        "What {where} answered is not what a token endpoint answers.",
        "Check {uri_field}; a proxy or a login page on the way may answer in the provider's place.",
        kinds=_kinds(FailureKind.NOT_JSON, FailureKind.GARBAGE),
        is_transient=True,
    ),
)

_WAITING: Final = (
    Rule(
        Reason.CONSENT_REQUIRED,
        "The person has not consented yet.",
        "Open the address that is shown, and enter the code.",
        grants=_DEVICE,
        errors=_set("authorization_pending", "slow_down"),
    ),
    Rule(
        Reason.CONSENT_EXPIRED,
        "Nobody consented in the time that {where} gave: {said}.",
        _BEGIN_AGAIN,
        grants=_DEVICE,
        errors=_set("expired_token", "code_expired", "bad_verification_code"),
        is_transient=False,
    ),
    Rule(
        Reason.CONSENT_DENIED,
        "The consent was declined: {said}.",
        f"Authorize again and accept: {_CONSENT_COMMAND}.",
        grants=_DEVICE,
        errors=_set("authorization_declined"),
        is_transient=False,
    ),
)

_BROUGHT_BY_A_BROWSER: Final = (
    Rule(
        Reason.PROVIDER_ANSWER_INVALID,
        "{where} sent the browser back with neither a code nor an error.",
        "Check {uri_field}, and begin the consent again.",
        statuses=_REDIRECT,
        errors=_set(""),
        is_transient=True,
    ),
    Rule(
        Reason.WRONG_ACCOUNT,
        "The client is for accounts of its own organisation only: {said}.",
        "Authorize with such an account, or have the client's audience set to external at the provider.",
        errors=_set("org_internal"),
    ),
    Rule(
        Reason.TOKEN_REQUEST_REFUSED,
        "{where} does not take what it is asked for: {said}.",
        "Check auth.oauth2.scopes, and that the client may use the authorization code grant with PKCE (S256).",
        statuses=_REDIRECT,
        errors=_set("invalid_request"),
    ),
    Rule(
        Reason.CLIENT_UNKNOWN,
        "{where} knows no such client: {said}.",
        "Check auth.oauth2.clientID.",
        statuses=_REDIRECT,
        errors=_set("invalid_client"),
    ),
)

_LATER_PLEASE: Final = (
    Rule(
        Reason.PROVIDER_THROTTLED,
        "{where} asks for fewer requests: {said}.",
        _LATER,
        statuses=frozenset({429}),
    ),
    Rule(
        Reason.PROVIDER_THROTTLED,
        "{where} asks for fewer requests: {said}.",
        _LATER,
        errors=_set("slow_down", "rate_limit_exceeded", "too_many_requests", "RESOURCE_EXHAUSTED"),
    ),
    Rule(
        Reason.PROVIDER_THROTTLED,
        "{where} asks for fewer requests: {said}.",
        _LATER,
        families=_MICROSOFT,
        codes=_codes(50196, 90055),
    ),
    Rule(
        Reason.PROVIDER_UNAVAILABLE,
        "{where} cannot serve now: {said}.",
        _LATER,
        errors=_set("temporarily_unavailable", "server_error", "internal_failure"),
    ),
    Rule(
        Reason.PROVIDER_UNAVAILABLE,
        "{where} cannot serve now: {said}.",
        _LATER,
        statuses=frozenset({408, *range(500, 600)}),
    ),
    Rule(
        Reason.PROVIDER_UNAVAILABLE,
        "{where} cannot serve now: {said}.",
        _LATER,
        families=_MICROSOFT,
        codes=_codes(90033, 90006, 50033),  # the directory's own servers
    ),
)

_DIRECTORY: Final = (
    Rule(
        Reason.DIRECTORY_NOT_FOUND,
        "{where} knows no such directory: {said}.",
        "Check auth.oauth2.directoryID, the Directory (tenant) ID of the app registration, and auth.oauth2.cloud.",
        families=_MICROSOFT,
        errors=_set("invalid_tenant", "invalid_request", "invalid_client", "unauthorized_client"),
        codes=_codes(90002, 90038, 900023, 50128),
    ),
    Rule(
        Reason.DIRECTORY_NOT_FOUND,
        "{where} knows no such directory: {said}.",
        "Check auth.oauth2.directoryID and auth.oauth2.cloud.",
        errors=_set("invalid_tenant"),
    ),
    Rule(
        Reason.DIRECTORY_NOT_FOUND,
        "The application belongs to one directory, and {where} was asked in the name of no or another one: {said}.",
        "Set auth.oauth2.directoryID to the Directory (tenant) ID of the app registration.",
        families=_MICROSOFT,
        codes=_codes(50194, 50059),
    ),
)

_CLIENT: Final = (
    Rule(
        Reason.CLIENT_UNKNOWN,
        "{where} knows no client with this ID in this directory: {said}.",
        "Check auth.oauth2.clientID, the Application (client) ID, and that auth.oauth2.directoryID is its directory.",
        families=_MICROSOFT,
        errors=_CLIENT_ERRORS | _GRANT_ERRORS,
        codes=_codes(700016, 700011, 70001, 7000112),  # the last two: disabled
    ),
    Rule(
        Reason.CLIENT_AUTH_EXPIRED,
        "{where} says that {credential} is past its date: {said}.",
        "Create a new one in the app registration and store it where auth.oauth2.{credential_field} points.",
        families=_MICROSOFT,
        errors=_CLIENT_ERRORS,
        codes=_codes(7000222, 1000502),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take the client secret: {said}.",
        "Store the secret's value, not its ID, where auth.oauth2.clientAuth.secretRef points.",
        families=_MICROSOFT,
        errors=_CLIENT_ERRORS,
        codes=_codes(7000215, 70002),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} wants a client secret or a certificate: {said}.",
        "Set auth.oauth2.clientAuth, or allow public client flows in the app registration.",
        families=_MICROSOFT,
        errors=_CLIENT_ERRORS,
        codes=_codes(7000218, 7000216),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} knows this as a public client, which has no secret: {said}.",
        "Remove auth.oauth2.clientAuth, or register the redirect URI under the platform Web.",
        families=_MICROSOFT,
        errors=_CLIENT_ERRORS,
        codes=_codes(700025),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take the operator's federated token: {said}.",
        "The app registration's federated credential must have the operator's issuer, subject and audience.",
        families=_MICROSOFT,
        errors=_CLIENT_ERRORS | _GRANT_ERRORS,
        codes=_codes(70021, 700211, 700212, 700213, 700222, 700024),
        auths=frozenset({ClientAssertion}),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take the certificate: {said}.",
        "Upload the certificate that auth.oauth2.clientAuth.certificateRef holds to the app registration.",
        families=_MICROSOFT,
        errors=_CLIENT_ERRORS,
        codes=_codes(700027, 700021, 700024, 700030, 50012),
        auths=frozenset({ClientCertificate}),
    ),
    Rule(
        Reason.CLIENT_UNKNOWN,
        "{where} knows no such client: {said}.",
        "Check auth.oauth2.clientID.",
        errors=_set("deleted_client", "disabled_client"),
    ),
    Rule(
        Reason.CLIENT_UNKNOWN,
        "{where} knows no such client: {said}.",
        "Check auth.oauth2.clientID.",
        errors=_set("invalid_client", "unauthorized_client"),
        text=pattern(
            r"client was not found|client not found|unknown client|no such client|invalid[ _]client[ _]id|"
            r"client (?:is|was) (?:deleted|disabled)|client is not enabled"
        ),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take {credential}: {said}.",
        "Create a new key for the service account and store it where auth.oauth2.serviceAccountKeyRef points.",
        families=_GOOGLE,
        grants=_SERVICE_ACCOUNT,
        errors=_set("invalid_grant", "invalid_client"),
        text=pattern(r"signature"),
    ),
    Rule(
        Reason.CLIENT_UNKNOWN,
        "{where} knows no such service account: {said}.",
        "Store the key of an existing one where auth.oauth2.serviceAccountKeyRef points.",
        families=_GOOGLE,
        grants=_SERVICE_ACCOUNT,
        errors=_set("invalid_grant", "invalid_client"),
        text=pattern(r"account not found|client (?:was )?not found"),
    ),
    Rule(
        Reason.WRONG_ACCOUNT,
        "{where} knows no mailbox {account} in this domain: {said}.",
        "Set auth.oauth2.username to the mailbox to send as, not to the service account's own address.",
        families=_GOOGLE,
        grants=_SERVICE_ACCOUNT,
        errors=_set("invalid_grant"),
        text=pattern(r"email or user id|invalid (?:impersonation|principal|sub)"),
    ),
    Rule(
        Reason.CLIENT_NOT_PERMITTED,
        "The domain does not let this service account act for {account}: {said}.",
        "In the Admin console, under API controls, add its client ID to domain-wide delegation with every scope asked "
        "for.",
        families=_GOOGLE,
        grants=_SERVICE_ACCOUNT,
        errors=_set("unauthorized_client", "access_denied", "invalid_scope"),
        cause=Cause.DOMAIN_WIDE_DELEGATION_MISSING,
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take {credential}: {said}.",
        "Check the operator's clock, and the key that auth.oauth2.serviceAccountKeyRef points to.",
        grants=_SERVICE_ACCOUNT,
        errors=_set("invalid_grant", "invalid_client"),
    ),
)

_REDIRECT_URI: Final = (
    Rule(
        Reason.CLIENT_NOT_PERMITTED,
        "{where} does not know the redirect URI: {said}.",
        _REGISTER,
        grants=_CODE,
        errors=_set("redirect_uri_mismatch", "invalid_redirect_uri", "redirect_mismatch"),
        cause=Cause.REDIRECT_URI_MISMATCH,
    ),
    Rule(
        Reason.CLIENT_NOT_PERMITTED,
        "{where} does not know the redirect URI: {said}.",
        "Add {redirect_uri}, exactly as it is written here, to the app registration under Authentication, and begin "
        "the consent again.",
        families=_MICROSOFT,
        grants=_CODE,
        codes=_codes(50011, 500112, 500113),
        cause=Cause.REDIRECT_URI_MISMATCH,
    ),
    Rule(
        Reason.CLIENT_NOT_PERMITTED,
        "The redirect URI is registered for a single-page application, whose tokens end after a day: {said}.",
        "Move {redirect_uri} to the platform Web of the app registration, or to Mobile and desktop applications for a "
        "client without a secret, and begin the consent again.",
        families=_MICROSOFT,
        grants=_CODE,
        codes=_codes(9002326, 9002327),
        cause=Cause.REDIRECT_URI_MISMATCH,
    ),
    Rule(
        Reason.CLIENT_NOT_PERMITTED,
        "{where} does not take the redirect URI: {said}.",
        _REGISTER,
        grants=_CODE,
        errors=_set("invalid_grant", "invalid_request", "unauthorized_client"),
        text=pattern(r"redirect[ _]?ur[il]"),
        cause=Cause.REDIRECT_URI_MISMATCH,
    ),
)

_CODES: Final = (
    Rule(
        Reason.CONSENT_EXPIRED,
        "The code is no longer good: it is too old, was redeemed already, or belongs to another consent: {said}.",
        _BEGIN_AGAIN,
        grants=_BY_A_PERSON,
        errors=_set("invalid_grant", "expired_token", "invalid_token"),
        is_transient=False,
    ),
)

_CONSENT: Final = (
    Rule(
        Reason.ADMIN_CONSENT_REQUIRED,
        "{where} wants the consent of the directory's administrator: {said}.",
        "Have an administrator grant it in the app registration, under API permissions.",
        families=_MICROSOFT,
        errors=_GRANT_ERRORS | _CLIENT_ERRORS,
        codes=_codes(90094, 90095, 90093, 900941),
    ),
    Rule(
        Reason.ADMIN_CONSENT_REQUIRED,
        "{where} says that an administrator's policy stands against it: {said}.",
        "Have the organisation's administrator trust the client.",
        errors=_set("admin_policy_enforced", "admin_consent_required"),
    ),
    Rule(
        Reason.ADMIN_CONSENT_REQUIRED,
        "Nobody has consented that the application sends mail: {said}.",
        "Have an administrator grant SMTP.SendAsApp in the app registration, under API permissions.",
        families=_MICROSOFT,
        grants=_APPLICATION,
        errors=_GRANT_ERRORS | _CLIENT_ERRORS,
        codes=_codes(65001, 650056),
    ),
    Rule(
        Reason.CONSENT_REQUIRED,
        "The consent does not hold for this client and these scopes: {said}.",
        "Authorize again; if it returns, check the SMTP permission in the app registration, under API permissions.",
        families=_MICROSOFT,
        grants=_BY_A_PERSON,
        errors=_GRANT_ERRORS | _CLIENT_ERRORS,
        codes=_codes(65001, 650056),
        is_transient=False,
    ),
    Rule(
        Reason.CONSENT_REQUIRED,
        "Nobody has consented to this client and these scopes yet: {said}.",
        f"Authorize, with the account that mail is sent as: {_CONSENT_COMMAND}.",
        families=_MICROSOFT,
        errors=_GRANT_ERRORS | _CLIENT_ERRORS,
        codes=_codes(65001, 650056),
    ),
    Rule(
        Reason.CONSENT_DENIED,
        "The consent was declined: {said}.",
        f"Authorize again and accept: {_CONSENT_COMMAND}.",
        families=_MICROSOFT,
        codes=_codes(65004),
        is_transient=False,
    ),
    Rule(
        Reason.CONSENT_REQUIRED,
        "The consent does not hold for this client and these scopes: {said}.",
        "Authorize again, and accept all that is asked for.",
        grants=_BY_A_PERSON,
        errors=_set("consent_required"),
        is_transient=False,
    ),
    Rule(
        Reason.CONSENT_REQUIRED,
        "Nobody has consented to this client and these scopes yet: {said}.",
        f"Authorize, with the account that mail is sent as: {_CONSENT_COMMAND}.",
        errors=_set("consent_required"),
    ),
    Rule(
        Reason.CONSENT_REQUIRED,
        "Nobody has consented to this client and these scopes yet: {said}.",
        f"Authorize, with the account that mail is sent as: {_CONSENT_COMMAND}.",
        suberrors=_set("consent_required"),
    ),
)

_POLICY: Final = (
    Rule(
        Reason.CONDITIONAL_ACCESS,
        "A policy of the directory stands against it: {said}.",
        "Have the administrator except this application or account (Conditional Access, Security defaults, sign-in "
        "frequency), then authorize again.",
        families=_MICROSOFT,
        errors=_GRANT_ERRORS | _CLIENT_ERRORS,
        codes=_codes(
            50005,
            50072,
            50074,
            50076,
            50078,
            50079,
            50097,
            50131,
            50158,
            53000,
            53001,
            53002,
            53003,
            53004,
            53010,
            53011,
            530003,
            530032,
            530035,
            70043,
        ),
    ),
    Rule(
        Reason.CONDITIONAL_ACCESS,
        "The organisation wants the account to sign in again: {said}.",
        "Have its administrator trust the client under Google Cloud session control, then authorize again.",
        families=_GOOGLE,
        suberrors=_set("invalid_rapt", "rapt_required"),
    ),
    Rule(
        Reason.CONDITIONAL_ACCESS,
        "{where} wants somebody to sign in: {said}.",
        "Authorize again; if it returns, a policy of the provider stands against unattended use.",
        errors=_set("interaction_required", "login_required", "account_selection_required"),
    ),
)

_ACCOUNT: Final = (
    Rule(
        Reason.WRONG_ACCOUNT,
        "The account is none of this directory: {said}.",
        "Authorize with an account of the directory that auth.oauth2.directoryID names.",
        families=_MICROSOFT,
        errors=_GRANT_ERRORS | _set("invalid_request"),
        codes=_codes(16000, 50014, 50020, 50034, 51004, 90072, 500208),
    ),
    Rule(
        Reason.ACCOUNT_UNUSABLE,
        "The account cannot be used: {said}.",
        "Have its administrator enable it, renew its password or assign it to the application, then authorize again.",
        families=_MICROSOFT,
        errors=_GRANT_ERRORS,
        codes=_codes(50053, 50055, 50057, 50144, 50105),
    ),
    Rule(
        Reason.ACCOUNT_UNUSABLE,
        "The account cannot be used: {said}.",
        "Have it enabled, then authorize again.",
        errors=_set("invalid_grant", "access_denied"),
        text=pattern(r"(?:account|user)\b.{0,30}\b(?:disabled|deleted|suspended|locked|not enabled)"),
    ),
)

_REFRESH_TOKEN: Final = (
    Rule(
        Reason.REFRESH_TOKEN_EXPIRED,
        "The refresh token is past its date or was not used for too long: {said}.",
        _AUTHORIZE,
        families=_MICROSOFT,
        grants=_REFRESH,
        errors=_GRANT_ERRORS,
        codes=_codes(700082, 70008, 700084),
    ),
    Rule(
        Reason.TOKEN_REVOKED,
        "The refresh token was revoked, by a changed password or an administrator: {said}.",
        _AUTHORIZE,
        families=_MICROSOFT,
        grants=_REFRESH,
        errors=_GRANT_ERRORS,
        codes=_codes(50173, 50132, 50133, 70000, 9002313),
    ),
    Rule(
        Reason.TOKEN_REVOKED,
        "Google no longer takes the refresh token: {said}.",
        "It ends by revocation, a changed password, six months without use, more than 100 newer ones, and after 7 "
        f"days while the consent screen's publishing status is Testing. {_AUTHORIZE}",
        families=_GOOGLE,
        grants=_REFRESH,
        errors=_set("invalid_grant"),
    ),
    Rule(
        Reason.TOKEN_REVOKED,
        "{where} has revoked the refresh token: {said}.",
        _AUTHORIZE,
        grants=_REFRESH,
        errors=_set("invalid_grant"),
        text=pattern(r"revoked|reuse|already (?:been )?used|invalidated"),
    ),
    Rule(
        Reason.REFRESH_TOKEN_EXPIRED,
        "The refresh token is past its date: {said}.",
        _AUTHORIZE,
        grants=_REFRESH,
        errors=_set("invalid_grant"),
        text=pattern(r"expired|inactiv|not active|max(?:imum)? lifetime"),
    ),
    Rule(
        Reason.SCOPE_INVALID,
        "{where} does not grant these scopes: {said}.",
        "Leave auth.oauth2.scopes out, and have the SMTP permission in the app registration, under API permissions.",
        families=_MICROSOFT,
        errors=_TARGET_ERRORS,
        codes=_codes(70011, 50001, 500011, 28002, 28003, 1002012, 650053, 650054, 650057),
    ),
    Rule(
        Reason.TOKEN_REVOKED,
        "{where} no longer takes the refresh token: {said}.",
        _AUTHORIZE,
        grants=_REFRESH,
        errors=_set("invalid_grant", "invalid_token"),
    ),
)

_OTHERWISE: Final = (
    Rule(
        Reason.SCOPE_INVALID,
        "{where} does not grant these scopes: {said}.",
        "Check auth.oauth2.scopes.",
        errors=_set("invalid_scope", "invalid_resource", "invalid_target"),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take {credential}: {said}.",
        "Check auth.oauth2.clientID, and what auth.oauth2.{credential_field} points to; and whether this provider "
        "wants another auth.oauth2.clientAuth.secretMethod.",
        families=frozenset({Family.CUSTOM}),
        errors=_set("invalid_client", "invalid_client_secret", "invalid_client_credentials"),
        auths=frozenset({ClientSecret}),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take {credential}: {said}.",
        "Check auth.oauth2.clientID, and what auth.oauth2.{credential_field} points to.",
        errors=_set("invalid_client", "invalid_client_secret", "invalid_client_credentials"),
    ),
    Rule(
        Reason.CLIENT_AUTH_INVALID,
        "{where} does not take {credential}: {said}.",
        "Check auth.oauth2.clientID, and what auth.oauth2.{credential_field} points to.",
        statuses=frozenset({401}),
        errors=_set(""),
    ),
    Rule(
        Reason.CLIENT_NOT_PERMITTED,
        "{where} does not let this client get tokens in this way: {said}.",
        "Allow the grant for the client at the provider, or set another auth.oauth2.grant.",
        errors=_set("unauthorized_client", "unsupported_grant_type", "unsupported_response_type"),
    ),
    Rule(
        Reason.CONSENT_DENIED,
        "The consent was declined: {said}.",
        f"Authorize again and accept: {_CONSENT_COMMAND}.",
        errors=_set("access_denied"),
        is_transient=False,
    ),
    Rule(
        Reason.PROVIDER_ANSWER_INVALID,
        "{where} answered {said}, as no token endpoint does.",
        "Check {uri_field}.",
        errors=_set(""),
        is_transient=True,
    ),
    Rule(
        Reason.TOKEN_REQUEST_REFUSED,
        "{where} gives no token: {said}.",
        "The provider's text says why.",
    ),
)

RULES: Final = (
    *_WITHOUT_ANSWER,
    *_NONSENSE,
    *_WAITING,
    *_LATER_PLEASE,
    *_DIRECTORY,
    *_REDIRECT_URI,
    *_CONSENT,
    *_POLICY,
    *_ACCOUNT,
    *_CLIENT,
    *_BROUGHT_BY_A_BROWSER,
    *_REFRESH_TOKEN,
    *_CODES,
    *_OTHERWISE,
)
"""The first that holds decides; the last holds always."""
