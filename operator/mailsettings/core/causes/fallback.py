"""What codes and stages mean where no rule knows the words: the enhanced code, then the reply code, then the stage."""

from typing import Final

from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.rule import BEFORE_LOGIN, ENVELOPE, Rule
from mailsettings.core.expressions import Expression

_RFC3463: Final = "RFC 3463 §3, with the IANA registry of enhanced status codes"
_RFC4954: Final = "RFC 4954 §6"
_RFC5321: Final = "RFC 5321 §4.2 and §4.3.2"
_STAGE: Final = "the stage alone"

_TLS: Final = frozenset({"tls"})
_AUTH: Final = frozenset({"auth"})
_MAIL: Final = frozenset({"mail_from"})
_RCPT: Final = frozenset({"rcpt"})
_DATA: Final = frozenset({"data"})
_SESSION: Final = frozenset({"greeting", "connect", "ehlo"})


def _enhanced(pattern: str, cause: Cause, stages: frozenset[str] | None = None, source: str = _RFC3463) -> Rule:
    return Rule(cause, source, enhanced=Expression(pattern), stages=stages)


def _reply(cause: Cause, *codes: int, stages: frozenset[str] | None = None, source: str = _RFC5321) -> Rule:
    return Rule(cause, source, codes=frozenset(codes), stages=stages)


def _at(cause: Cause, *stages: str) -> Rule:
    return Rule(cause, _STAGE, stages=frozenset(stages))


BY_ENHANCED_CODE: Final[tuple[Rule, ...]] = (
    _enhanced(r"5\.7\.8", Cause.BAD_CREDENTIALS, source=_RFC4954),
    Rule(
        Cause.APP_PASSWORD_REQUIRED,
        "Gmail SMTP errors and codes",
        enhanced=Expression(r"5\.7\.9"),
        providers=frozenset({"google"}),
    ),
    _enhanced(r"5\.7\.9", Cause.AUTH_MECHANISM_UNSUPPORTED, source=_RFC4954),
    _enhanced(r"5\.7\.11", Cause.START_TLS_EXPECTED, source=_RFC4954),
    _enhanced(r"4\.7\.12", Cause.BAD_CREDENTIALS, source=_RFC4954),
    _enhanced(r"5\.7\.1[34]", Cause.ACCOUNT_BLOCKED),
    _enhanced(r"[45]\.7\.(?:2[0-4]|26)", Cause.SENDER_DOMAIN_AUTH_FAILED),
    _enhanced(r"[45]\.7\.25", Cause.IP_BLOCKED),
    _enhanced(r"4\.7\.28", Cause.RATE_LIMITED),
    _enhanced(r"5\.7\.10", Cause.START_TLS_NOT_OFFERED),
    _enhanced(r"5\.7\.4", Cause.AUTH_MECHANISM_UNSUPPORTED),
    _enhanced(r"5\.7\.57", Cause.AUTH_REQUIRED),
    _enhanced(r"[45]\.1\.(?:[0-6]|10)", Cause.SENDER_NOT_ALLOWED, _MAIL),
    _enhanced(r"[45]\.1\.(?:[0-6]|10)", Cause.RECIPIENT_REJECTED),
    _enhanced(r"[45]\.1\.(?:7|8|9)", Cause.SENDER_NOT_ALLOWED),
    _enhanced(r"4\.2\.[01]", Cause.GREYLISTED, _RCPT),
    _enhanced(r"5\.2\.1", Cause.RECIPIENT_REJECTED),
    _enhanced(r"[45]\.2\.2", Cause.MAILBOX_FULL),
    _enhanced(r"[45]\.(?:2\.3|3\.4)", Cause.MESSAGE_TOO_LARGE),
    _enhanced(r"[45]\.3\.5", Cause.SERVER_MISCONFIGURED),
    _enhanced(r"5\.4\.6", Cause.SERVER_MISCONFIGURED),
    _enhanced(r"[45]\.5\.3", Cause.QUOTA_EXCEEDED),
    _enhanced(r"[45]\.6\.[0-9]+", Cause.CONTENT_REJECTED),
    _enhanced(r"5\.5\.1", Cause.AUTH_NOT_OFFERED, _AUTH),
    _enhanced(r"5\.5\.4", Cause.AUTH_MECHANISM_UNSUPPORTED, _AUTH),
    _enhanced(r"5\.5\.[0-9]+", Cause.PROTOCOL_ERROR),
    _enhanced(r"5\.7\.[0-9]+", Cause.BAD_CREDENTIALS, _AUTH),
    _enhanced(r"5\.7\.[0-9]+", Cause.IP_BLOCKED, _SESSION),
    _enhanced(r"5\.7\.0", Cause.AUTH_REQUIRED, _MAIL, _RFC4954),
    _enhanced(r"5\.7\.[0-9]+", Cause.SENDER_NOT_ALLOWED, _MAIL),
    _enhanced(r"5\.7\.[0-9]+", Cause.RELAY_DENIED, _RCPT),
    _enhanced(r"5\.7\.[0-9]+", Cause.CONTENT_REJECTED),
    _enhanced(r"4\.7\.[0-9]+", Cause.GREYLISTED, _RCPT),
    _enhanced(r"4\.7\.0", Cause.SERVER_MISCONFIGURED, _TLS, "RFC 3207 §4"),
    _enhanced(r"5\.4\.[14]", Cause.RECIPIENT_REJECTED),
    _enhanced(r"5\.0\.0", Cause.RECIPIENT_REJECTED, _RCPT),
    _enhanced(r"4\.[0-9]+\.[0-9]+", Cause.SERVER_TEMPORARY),
)

BY_REPLY_CODE: Final[tuple[Rule, ...]] = (
    Rule(
        Cause.APP_PASSWORD_REQUIRED,
        "Gmail SMTP errors and codes",
        codes=frozenset({534}),
        providers=frozenset({"google"}),
    ),
    _reply(Cause.BAD_CREDENTIALS, 535, source=_RFC4954),
    _reply(Cause.AUTH_MECHANISM_UNSUPPORTED, 534, source=_RFC4954),
    _reply(Cause.START_TLS_EXPECTED, 523, 538, source=_RFC4954),
    _reply(Cause.AUTH_REQUIRED, 530, source=_RFC4954),
    _reply(Cause.START_TLS_NOT_OFFERED, 454, 500, 502, 503, stages=_TLS, source="RFC 3207 §4"),
    _reply(Cause.AUTH_NOT_OFFERED, 500, 502, 503, stages=_AUTH),
    _reply(Cause.AUTH_MECHANISM_UNSUPPORTED, 504, stages=_AUTH, source=_RFC4954),
    _reply(Cause.BAD_CREDENTIALS, 501, 550, 553, 554, stages=_AUTH),
    _reply(Cause.TOO_MANY_CONNECTIONS, 432, source="Exchange Online documentation: three sessions at once"),
    _reply(Cause.GREYLISTED, 450, stages=_RCPT, source="RFC 6647 §2"),
    _reply(Cause.SERVER_TEMPORARY, 421, 450, 451, 454, 432, 430, 458, 459),
    _reply(Cause.MAILBOX_FULL, 422),
    _reply(Cause.SERVER_TEMPORARY, 452),
    _reply(Cause.MESSAGE_TOO_LARGE, 552, stages=_DATA | _MAIL),
    _reply(Cause.MAILBOX_FULL, 552),
    _reply(Cause.RECIPIENT_REJECTED, 501, stages=_RCPT),
    _reply(Cause.SENDER_NOT_ALLOWED, 501, stages=_MAIL),
    _reply(Cause.CLIENT_SECRET_INVALID, 401, stages=frozenset({"token"}), source="RFC 6749 §5.2"),
    _reply(Cause.PROTOCOL_ERROR, 500, 501, 502, 503, 504, 555),
    _reply(Cause.SENDER_NOT_ALLOWED, 550, 551, 553, 554, stages=_MAIL),
    _reply(Cause.RELAY_DENIED, 551, stages=_RCPT),
    _reply(Cause.RECIPIENT_REJECTED, 550, 553, 554, 556, stages=_RCPT),
    _reply(Cause.SENDER_NOT_ALLOWED, 553, stages=_DATA),
    _reply(Cause.CONTENT_REJECTED, 550, 554, 556, stages=_DATA),
    _reply(Cause.IP_BLOCKED, 521, 550, 554, 556, stages=_SESSION),
    _reply(Cause.RECIPIENT_REJECTED, 511, 550, 551, 553, 556),
    _reply(Cause.SERVER_TEMPORARY, *range(420, 500), stages=BEFORE_LOGIN | ENVELOPE | {"auth"}),
    _reply(Cause.CONTENT_REJECTED, 554, 541, 571),
)

BY_STAGE: Final[tuple[Rule, ...]] = (
    _at(Cause.DNS_NOT_FOUND, "dns"),
    _at(Cause.PROXY_FAILURE, "proxy"),
    _at(Cause.CONNECTION_TIMEOUT, "connect"),
    _at(Cause.IMPLICIT_TLS_EXPECTED, "greeting"),
    _at(Cause.CERTIFICATE_UNTRUSTED, "tls"),
    _at(Cause.PROTOCOL_ERROR, "ehlo"),
    _at(Cause.BAD_CREDENTIALS, "auth"),
    _at(Cause.SENDER_NOT_ALLOWED, "mail_from"),
    _at(Cause.RECIPIENT_REJECTED, "rcpt"),
    _at(Cause.CONTENT_REJECTED, "data"),
    _at(Cause.CONSENT_REQUIRED, "consent"),
    _at(Cause.REFRESH_TOKEN_REVOKED, "token"),
    Rule(Cause.SERVER_TEMPORARY, "nothing is known of it"),
)
"""The last one always holds."""
