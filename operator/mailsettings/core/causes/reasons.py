"""Which cause a condition's reason means, and the other way round."""

from typing import Final

from mailsettings.api.conditions import Reason
from mailsettings.core.causes.catalog import link
from mailsettings.core.causes.cause import Cause
from mailsettings.core.documentation import DOCUMENTATION

_OF_THE_SAME_NAME: Final = {Reason(cause): cause for cause in Cause if cause in {*map(str, Reason)}}

CAUSES: Final[dict[Reason, Cause]] = {
    Reason.CA_BUNDLE_INVALID: Cause.CERTIFICATE_UNTRUSTED,
    # Authorized
    Reason.CONSENT_DENIED: Cause.CONSENT_REQUIRED,
    Reason.CONSENT_EXPIRED: Cause.CODE_REUSED_OR_EXPIRED,
    Reason.WRONG_ACCOUNT: Cause.WRONG_ACCOUNT_TYPE,
    Reason.ACCOUNT_UNUSABLE: Cause.ACCOUNT_BLOCKED,
    Reason.TOKEN_REVOKED: Cause.REFRESH_TOKEN_REVOKED,
    Reason.REFRESH_TOKEN_MISSING: Cause.CONSENT_REQUIRED,
    Reason.CLIENT_UNKNOWN: Cause.CLIENT_ID_UNKNOWN,
    Reason.CLIENT_AUTH_INVALID: Cause.CLIENT_SECRET_INVALID,
    Reason.CLIENT_AUTH_EXPIRED: Cause.CLIENT_SECRET_EXPIRED,
    Reason.CLIENT_NOT_PERMITTED: Cause.GRANT_NOT_ALLOWED,
    Reason.DIRECTORY_NOT_FOUND: Cause.TENANT_NOT_FOUND,
    Reason.SCOPE_INVALID: Cause.INVALID_SCOPE,
    Reason.PROVIDER_UNREACHABLE: Cause.CONNECTION_TIMEOUT,
    Reason.PROVIDER_UNTRUSTED: Cause.CERTIFICATE_UNTRUSTED,
    Reason.PROVIDER_UNAVAILABLE: Cause.SERVER_TEMPORARY,
    Reason.PROVIDER_THROTTLED: Cause.RATE_LIMITED,
    # ProbeSucceeded
    Reason.TOKEN_UNUSABLE: Cause.WRONG_TOKEN_SCOPE_OR_AUDIENCE,
    **_OF_THE_SAME_NAME,
}
"""A reason that is missing here means none: it tells of the operator itself."""

REASONS: Final[dict[Cause, Reason]] = {
    **{cause: reason for reason, cause in _OF_THE_SAME_NAME.items()},
    # Those that an identity provider gives, and a mail server only repeats.
    Cause.REFRESH_TOKEN_REVOKED: Reason.TOKEN_REVOKED,
    Cause.CLIENT_SECRET_INVALID: Reason.CLIENT_AUTH_INVALID,
    Cause.CLIENT_SECRET_EXPIRED: Reason.CLIENT_AUTH_EXPIRED,
    Cause.CLIENT_ID_UNKNOWN: Reason.CLIENT_UNKNOWN,
    Cause.REDIRECT_URI_MISMATCH: Reason.CLIENT_NOT_PERMITTED,
    Cause.TENANT_NOT_FOUND: Reason.DIRECTORY_NOT_FOUND,
    Cause.WRONG_ACCOUNT_TYPE: Reason.WRONG_ACCOUNT,
    Cause.INVALID_SCOPE: Reason.SCOPE_INVALID,
    Cause.GRANT_NOT_ALLOWED: Reason.CLIENT_NOT_PERMITTED,
    Cause.CODE_REUSED_OR_EXPIRED: Reason.CONSENT_EXPIRED,
    Cause.PKCE_MISMATCH: Reason.CONSENT_EXPIRED,
    Cause.DOMAIN_WIDE_DELEGATION_MISSING: Reason.CLIENT_NOT_PERMITTED,
}
"""What a condition calls each cause."""


_BOUND: Final = ("operations.md", "the-bound-on-test-mails")
_OTHER_DOCS: Final = {
    Reason.EGRESS_DENIED: ("security.md", "egress-policy"),
    Reason.MAIL_LIMIT_REACHED: _BOUND,
    Reason.MAIL_NOT_COUNTED: _BOUND,
}


def docs_of(reason: Reason) -> str:
    """Where the documentation tells what to do; empty: the reason tells of the operator itself."""
    if reason in CAUSES:
        return link(CAUSES[reason])
    return DOCUMENTATION.link(*_OTHER_DOCS[reason]) if reason in _OTHER_DOCS else ""
