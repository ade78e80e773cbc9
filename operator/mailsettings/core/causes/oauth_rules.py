"""What identity providers say. Numbers first, then words of Google and of other token endpoints, then bare codes."""

from dataclasses import replace
from typing import Final

from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.rule import OAUTH, Rule, numbered, says, words

_ENTRA: Final = "Microsoft Entra documentation, authentication and authorization error codes"
_GOOGLE: Final = "Google Identity documentation, OAuth 2.0 errors"
_GOOGLE_SAID: Final = "Google's token endpoint, as its client libraries report it"
_RFC6749: Final = "RFC 6749 §4.1.2.1 and §5.2"
_RFC6750: Final = "RFC 6750 §3.1"
_RFC7636: Final = "RFC 7636 §4.4.1 and §4.6"
_RFC8628: Final = "RFC 8628 §3.5"
_OIDC: Final = "OpenID Connect Core 1.0 §3.1.2.6"

_OAUTH: Final = words(
    r"oauth",
    r"invalid_",
    r"_client",
    r"_denied",
    r"redirect_uri",
    r"aadsts",
    r"access[ _]token",
    r"refresh[ _]token",
    r"\bjwt\b",
    r"bearer",
    r"scope",
)

_NUMBERS_THAT_NEED_WORDS: Final = (
    says(
        _ENTRA,
        Cause.REFRESH_TOKEN_EXPIRED,
        r"aadsts70008\b.{0,120}due to inactivity",
        r"aadsts70008\b.{0,40}: the (?:provided )?(?:refresh token|grant)",
    ),
    says(
        _ENTRA, Cause.CODE_REUSED_OR_EXPIRED, r"aadsts70008\b.{0,80}\bcode\b", r"aadsts70000\b.{0,80}authorization code"
    ),
    says(_ENTRA, Cause.CODE_REUSED_OR_EXPIRED, r"aadsts70000\b.{0,100}\bcode\b", unless=(r"\b(?:refresh|scope)",)),
    says(_ENTRA, Cause.PKCE_MISMATCH, r"aadsts70000\b.{0,100}\bcode_verifier\b"),
    says(_ENTRA, Cause.ACCOUNT_BLOCKED, r"aadsts70000\b.{0,100}\bservice abuse mode\b"),
    says(
        _ENTRA,
        Cause.WRONG_ACCOUNT_TYPE,
        r"\bmicrosoft account users only",
        r"/consumers endpoint",
        r"'?consumer'? ?accounts? only",
        unless=(r"grant type",),
    ),
    says(_ENTRA, Cause.WRONG_ACCOUNT_TYPE, r"not enabled for consumers", r"useraudience"),
    says(
        _ENTRA,
        Cause.GRANT_NOT_ALLOWED,
        r"aadsts70002\b.{0,80}must be marked as",
        r"must contain the following parameter: '?client_assertion",
    ),
    says(
        _ENTRA,
        Cause.CONSENT_REQUIRED,
        r"aadsts70000\b.{0,200}scopes requested (?:are unauthorized|.{0,20}not authorized)",
    ),
    says(_ENTRA, Cause.TENANT_NOT_FOUND, r"\binvalid_instance\b", r"aadsts70002\b.{0,40}\bauthority\b"),
    says(_ENTRA, Cause.INVALID_SCOPE, r"aadsts(?:900144|90014)\b.{0,80}\bscope\b"),
    says(_ENTRA, Cause.CLIENT_ID_UNKNOWN, r"aadsts(?:900144|90014)\b.{0,80}\bclient_id\b"),
    says(_ENTRA, Cause.PKCE_MISMATCH, r"aadsts(?:900144|90014)\b.{0,80}\bcode_verifier\b"),
    says(_ENTRA, Cause.REFRESH_TOKEN_REVOKED, r"aadsts(?:900144|90014)\b.{0,80}\brefresh_token\b"),
    says(_ENTRA, Cause.CODE_REUSED_OR_EXPIRED, r"aadsts(?:900144|90014)\b.{0,80}\bcode\b"),
    says(
        _ENTRA,
        Cause.CLOCK_SKEW,
        r"aadsts(?:700024|5001[23])\b.{0,200}(?:not within its valid time|time range|current time)",
    ),
    says(_ENTRA, Cause.TOKEN_EXPIRED, r"aadsts50013\b.{0,200}expired"),
)

_NUMBERS: Final = numbered(
    _ENTRA,
    {
        Cause.CLIENT_SECRET_EXPIRED: (7000222,),
        Cause.CLIENT_SECRET_INVALID: (
            *(7000215, 50012, 50013, 50027, 700027, 50017, 70021, 700211, 700212, 700213, 700223, 7000216),
            *(50003, 50006, 50007, 50008, 50048, 50099, 50120, 5002727, 700030, 900384),
        ),
        Cause.GRANT_NOT_ALLOWED: (
            *(7000218, 700025, 70003, 70005, 700051, 700054, 70007, 90010, 7000114, 9002326, 9002327, 90023, 9002313),
            *(700007, 700005, 700026, 7000014, 9001023, 90004, 90005, 90007, 90015, 90056, 900561, 90100, 90117, 90121),
            *(700229, 240002),
        ),
        Cause.CLIENT_ID_UNKNOWN: (700016, 70001, 700011, 7000112, 700038, 7000229, 7000230, 1000502),
        Cause.TENANT_NOT_FOUND: (
            *(90002, 900023, 900021, 90019, 90038, 50059, 50128, 50049, 50194, 900382, 900432, 900439),
            *(50029, 50050, 50169, 90043, 90051, 90124, 90130, 1000104),
        ),
        Cause.WRONG_ACCOUNT_TYPE: (
            *(50020, 51004, 90072, 500200, 500201, 500202, 500207, 500208, 9002331, 9002332, 9002346),
            *(16000, 16003, 50014, 90027, 90084, 90126),
        ),
        Cause.REDIRECT_URI_MISMATCH: (50011, 500112, 500113, 70004, 500117, 900971, 90102),
        Cause.INVALID_SCOPE: (
            *(
                70011,
                1002012,
                500011,
                500014,
                50001,
                700022,
                650053,
                650054,
                650057,
                65005,
                28000,
                28003,
                70002120,
                65006,
            ),
            *(28002, 700023, 901002, 90009),
        ),
        Cause.CODE_REUSED_OR_EXPIRED: (54005, 70008, 70018, 70019, 70020, 50089, 50134, 90119, 90120),
        Cause.PKCE_MISMATCH: (501481, 50147, 50148, 50149, 501471, 501491, 9002325),
        Cause.SECURITY_DEFAULTS: (530035,),
        Cause.CONDITIONAL_ACCESS: (
            *(50076, 50079, 50072, 50074, 50078, 50158, 50097, 50129, 50131, 50127, 50005, 50142, 50155, 500121, 50002),
            *(53000, 53001, 53002, 53003, 53004, 53005, 53009, 53010, 530021, 530031, 530032, 530033, 530034, 530036),
            *(50207, 50202, 50203, 500021, 500022, 700003, 50187, 50177, 50178, 500212, 500213, 50086, 50088),
            *(50161, 50166, 50170, 50180, 51006, 80012, 130007, 135011),
        ),
        Cause.ACCOUNT_BLOCKED: (50053, 50057, 53011, 500341, 500571, 50125, 50135, 7000113, 50061, 54000, 120014),
        Cause.BAD_CREDENTIALS: (
            *(50126, 50055, 50034, 50054, 50056, 50064, 50144, 90013, 80007, 81012),
            *(50192, 50197, 80010, 81004, 81009, 81010, 81011, 90125),
        ),
        Cause.CONSENT_REQUIRED: (65001, 65004, 90008, 70016, 50058, 16001, 16002, 50015, 52004, 90123, 9002341),
        Cause.ADMIN_CONSENT_REQUIRED: (*(90094, 90093, 90095, 50105, 65002, 650052, 650051, 650056, 90099, 1000031),),
        Cause.REFRESH_TOKEN_EXPIRED: (700082, 700081, 700084, 70043, 70044, 90086),
        Cause.REFRESH_TOKEN_REVOKED: (50173, 50132, 50133, 70000, 700020, 50085, 50139),
        Cause.WRONG_TOKEN_SCOPE_OR_AUDIENCE: (500131, 50146, 50010, 501461, 90016),
        Cause.TOKEN_EXPIRED: (500133,),
        Cause.CLOCK_SKEW: (700024, 80013, 76026),
        Cause.RATE_LIMITED: (90055, 90025, 50196),
        Cause.TLS_PROTOCOL_VERSION: (1002016,),
        Cause.SERVER_MISCONFIGURED: (20001, 20012, 20033, 40008, 40009, 40015, 50107),
        Cause.SERVER_TEMPORARY: (
            50087,
            90006,
            90012,
            90024,
            90033,
            90036,
            50033,
            50000,
            70012,
            80001,
            80002,
            80005,
            80014,
            *(40010, 501621, 90090, 90091, 90092),
        ),
    },
)

_ENTRA_WORDS: Final = (
    says(_ENTRA, Cause.CLIENT_SECRET_EXPIRED, r"client secret.{0,80}\bexpir(?:ed|y)", r"invalidclientsecretexpired"),
    says(
        _ENTRA,
        Cause.CLIENT_SECRET_INVALID,
        r"invalid client secret",
        r"client secret.{0,40}(?:is )?(?:not valid|invalid|wrong|incorrect)",
        r"invalid client credentials",
        r"client credentials.{0,30}(?:invalid|wrong)",
    ),
    says(
        _ENTRA,
        Cause.TENANT_NOT_FOUND,
        r"\btenant\b.{0,80}(?:not found|does not exist|not valid)",
        r"specified tenant identifier",
        r"(?:unable|failed|cannot|could not).{0,20}(?:determine|find|resolve).{0,40}\btenant\b",
        r"invalid tenant",
        r"no service namespace named",
        r"endpoints_resolution_error",
    ),
    says(
        _ENTRA,
        Cause.CLIENT_ID_UNKNOWN,
        r"application with identifier.{0,80}not found",
        r"unauthorizedclient_doesnotmatch",
    ),
    says(_ENTRA, Cause.REFRESH_TOKEN_EXPIRED, r"refresh token (?:has )?(?:is )?expired", r"due to inactivity"),
    says(
        _ENTRA,
        Cause.ADMIN_CONSENT_REQUIRED,
        r"need(?:s)? admin(?:istrator)? approval",
        r"admin(?:istrator)?(?:'s)? consent is required",
    ),
    says(
        _ENTRA,
        Cause.ADMIN_CONSENT_REQUIRED,
        r"not assigned to a role for the application",
        r"needs permission to access resources",
    ),
    says(
        _ENTRA,
        Cause.CONSENT_REQUIRED,
        r"has not consented to use",
        r"declined to consent",
        r"user (?:did not|has not|not) consent",
        r"msal ?ui ?required",
        r"no account or login hint",
    ),
    says(
        _ENTRA,
        Cause.CONDITIONAL_ACCESS,
        r"multi-?factor authentication",
        r"conditional[ _-]?access",
        r"\bmfa\b.{0,40}(?:required|must)",
        r"(?:two|second)[- ]?(?:factor|step).{0,20}(?:required|needed)",
    ),
    says(
        _ENTRA,
        Cause.WRONG_ACCOUNT_TYPE,
        r"selected user account does not exist in tenant",
        r"use a (?:work or school|different) account",
    ),
    says(
        _ENTRA,
        Cause.WRONG_ACCOUNT_TYPE,
        r"can't sign in here with a personal account",
        r"from identity provider.{0,60}does not exist in",
    ),
)

_GOOGLE_WORDS: Final = (
    says(
        _GOOGLE_SAID,
        Cause.CLOCK_SKEW,
        r"reasonable timeframe",
        r"short-lived token",
        r"token used too early",
        r"check your iat and exp",
    ),
    says(
        _GOOGLE_SAID,
        Cause.CLOCK_SKEW,
        r"\bclock (?:skew|drift)",
        r"\biat\b.{0,40}(?:future|past)",
        r"issued (?:at |in )(?:the )?future",
        r"clock.{0,30}out of sync",
    ),
    says(
        _GOOGLE_SAID,
        Cause.CLOCK_SKEW,
        r"not (?:yet )?valid (?:before|yet).{0,60}(?:nbf|token|jwt|assertion)",
        r"\bnbf\b",
        r"(?:token|jwt|assertion) is not (?:yet valid|valid yet)",
        r"cannot handle token prior to",
        r"please check the 'exp' claim",
    ),
    says(
        _GOOGLE_SAID,
        Cause.DOMAIN_WIDE_DELEGATION_MISSING,
        r"client is unauthorized to retrieve access tokens",
        r"client not authorized for any of the scopes",
        r"requested client not authorized",
        r"unauthorized client or scope",
        r"domain-?wide delegation",
        r"delegation denied",
        r"invalid (?:email or user id|impersonation|principal)",
        r"not a valid email",
        r"invalid_?grant.{0,60}account not found",
        r"precondition check failed",
        r"failedprecondition",
        stages=OAUTH | {"auth", "data", ""},
    ),
    says(
        _GOOGLE_SAID,
        Cause.CLIENT_SECRET_INVALID,
        r"invalid jwt signature",
        r"client_secret is missing",
        r"missing.{0,20}client_secret",
    ),
    says(
        _GOOGLE_SAID,
        Cause.CLIENT_SECRET_INVALID,
        r"no key for key id",
        r"invalid (?:grant|signature).{0,20}signature",
        r"could not (?:verify|determine) client",
    ),
    says(
        _GOOGLE_SAID,
        Cause.CLIENT_SECRET_INVALID,
        r"provided client secret is invalid",
        r"bad client (?:secret|credentials)",
        r"client authentication failed",
    ),
    says(
        _GOOGLE,
        Cause.CLIENT_ID_UNKNOWN,
        r"oauth client was not found",
        r"(?:deleted|disabled)_client",
        r"oauth client was (?:deleted|disabled)",
        r"(?:unknown|no such|invalid) client(?:_id| id)",
        r"unknown[_ ]client",
        r"client was not identified",
        r"client(?:_id| id)?.{0,40}(?:not found|does not exist|is unknown|not registered|" r"not recogni[sz]ed)",
        r"client_?id.{0,20}(?:is )?(?:missing|invalid)",
        r"missing required parameter: client_id",
    ),
    says(
        _GOOGLE,
        Cause.ADMIN_CONSENT_REQUIRED,
        r"admin_policy_enforced",
        r"access_?denied.{0,60}\badmin",
        r"blocked by (?:your )?(?:organi[sz]ation|admin)",
    ),
    says(
        _GOOGLE,
        Cause.ADMIN_CONSENT_REQUIRED,
        r"your institution's admin",
        r"ask your admin",
        r"app is not (?:trusted|configured) by.{0,20}admin",
    ),
    says(
        _GOOGLE,
        Cause.WRONG_ACCOUNT_TYPE,
        r"org_internal",
        r"restricted to users within its organi[sz]ation",
        r"only available (?:to users )?within",
    ),
    says(
        _GOOGLE,
        Cause.CONSENT_REQUIRED,
        r"google verification process",
        r"approved testers",
        r"test users?\b",
        r"app is blocked",
        r"this app isn'?t verified",
    ),
    says(_GOOGLE, Cause.CONDITIONAL_ACCESS, r"invalid_rapt", r"rapt_required", r"reauth related error"),
    says(
        _GOOGLE,
        Cause.REDIRECT_URI_MISMATCH,
        r"redirect_uri_mismatch",
        r"redirect[ _]?ur[il]s?.{0,80}(?:malformed|n't match)",
        r"redirect[ _]?ur[il]s?.{0,120}(?:mismatch|not match|not registered|invalid|not (?:valid|"
        r"allowed|whitelisted|permitted)|differ)",
        r"(?:invalid|mismatch\w*|incorrect|unregistered|wrong|bad).{0,30}redirect[ _]?ur[il]s?",
        r"reply (?:url|address).{0,60}not match",
        r"register the (?:redirect uri|javascript origin)",
    ),
    says(
        _RFC7636,
        Cause.PKCE_MISMATCH,
        r"code[ _]?verifier",
        r"code[ _]?challenge",
        r"\bpkce\b",
        unless=(r"code_challenge=",),
    ),
    says(
        _GOOGLE_SAID,
        Cause.CODE_REUSED_OR_EXPIRED,
        r"malformed auth code",
        r"code was already (?:redeemed|used)",
        r"(?:authori[sz]ation|auth|device|verification)?[ _-]?\bcode\b.{0,40}(?:already|"
        r"expired|been used|has been|not found|not valid|is invalid|doesn't exist)",
        r"(?:invalid|expired|used|bad).{0,12}(?:authori[sz]ation|verification|auth|device)[ _-]code",
        r"\bexpired_token\b",
        r"code (?:is )?(?:invalid or expired|not valid)",
        r"\b(?:bad|invalid|unknown|wrong|incorrect|expired|used)[ _]code\b",
        stages=OAUTH | {""},
    ),
    says(
        _GOOGLE,
        Cause.REDIRECT_URI_MISMATCH,
        r"this app'?s request is invalid",
        unless=(r"invalid_request", r"oauth 2\.0 policy"),
    ),
    says(
        _GOOGLE,
        Cause.GRANT_NOT_ALLOWED,
        r"oauth 2\.0 policy",
        r"disallowed_useragent",
        r"out-of-band",
        r"\boob\b flow",
        r"loopback flow",
        r"deleted_flow",
        r"urn:ietf:wg:oauth:2\.0:oob",
    ),
    says(
        _GOOGLE,
        Cause.WRONG_TOKEN_SCOPE_OR_AUDIENCE,
        r"insufficient[ _](?:authentication )?(?:scope|permission)",
        r"access_token_scope_insufficient",
        r"insufficientpermissions",
        r"token contains no permissions",
        r"(?:invalid|wrong|unexpected|bad) (?:token )?(?:audience|\baud\b)",
        r"audience.{0,40}(?:invalid|not match|mismatch|validation failed|wrong|not allowed)",
        r"invalidaudience",
        r"does not (?:have|cover|include|contain).{0,30}\bscopes?\b",
        r"missing.{0,20}scope",
        r"token.{0,60}(?:wrong|another|different) (?:resource|audience)",
    ),
)

_TOKENS: Final = (
    says(
        "google-auth-library and others: the access token ends and there is nothing that renews it",
        Cause.TOKEN_EXPIRED,
        r"\bno (?:access, )?refresh token\b.{0,30}\bset\b",
        stages=("auth",),
    ),
    says(
        "Keycloak, Google: the account behind the grant",
        Cause.ACCOUNT_BLOCKED,
        r"(?:account|user|robot).{0,30}(?:disabled|locked|deleted|suspended|deactivated|not fully set up|blocked)",
        stages=OAUTH,
    ),
    says(
        "Keycloak and others: the password grant",
        Cause.BAD_CREDENTIALS,
        r"(?:invalid|wrong|bad|incorrect) (?:resource owner |user )?(?:credentials|password|username|login)",
        stages=OAUTH,
        unless=(r"client",),
    ),
    says(
        _GOOGLE_SAID,
        Cause.REFRESH_TOKEN_REVOKED,
        r"expired or revoked",
        r"(?:token|grant|refresh).{0,60}(?:revoked|withdrawn|invalidated)",
        r"refresh[ _]token.{0,60}(?:invalid|not found|unknown|malformed|not valid|"
        r"does not exist|doesn't exist|not recogni[sz]ed|already used|reuse)",
        r"\b(?:invalid|unknown|bad|no|missing|malformed|incorrect)\b.{0,12}refresh[ _]?token",
        r"session not active",
        r"token is not active",
        r"stale token",
        r"password (?:was|has been) changed",
    ),
    says(
        _GOOGLE_SAID,
        Cause.REFRESH_TOKEN_EXPIRED,
        r"refresh[ _]?token.{0,60}expired",
        r"expired.{0,20}refresh[ _]?token",
        r"offline session not active",
    ),
    says(
        _RFC6750,
        Cause.TOKEN_EXPIRED,
        r"access[ _]?token.{0,40}(?:has |is )?expired",
        r"(?:jwt|id[ _]token|bearer token|oauth token|assertion|token).{0,20}(?:has |is |" r"was )?(?:been )?expired",
        r"expired.{0,20}(?:access[ _])?token",
        r"lifetime validation failed",
        r"tokenexpired",
        r"securitytokenexpired",
        r"\binvalid_token\b",
        r"status ?: ?invalid_token",
    ),
)

_FAMILIES: Final = (
    says(_ENTRA, Cause.CONDITIONAL_ACCESS, r"aadsts53[0-9]{1,4}\b", r"aadsts5007[0-9]\b"),
    says(_ENTRA, Cause.CONSENT_REQUIRED, r"aadsts65[0-9]{1,4}\b"),
    says(_ENTRA, Cause.REFRESH_TOKEN_EXPIRED, r"aadsts70008[0-9]\b", r"aadsts7004[0-9]\b"),
    says(_ENTRA, Cause.CLIENT_SECRET_INVALID, r"aadsts70002[0-9]{2}\b", r"aadsts7000?2[0-9]\b"),
    says(_ENTRA, Cause.GRANT_NOT_ALLOWED, r"aadsts(?:700[0-9]{1,4}|90[0-9]{3,5})\b"),
)
"""Numbers that the documentation does not list, by those around them."""

_BARE_CODES: Final = (
    says(
        "Nodemailer and others: the access token ended and nothing renews it",
        Cause.TOKEN_EXPIRED,
        r"(?:n't|not|unable|fail\w*|no|error).{0,30}(?:creat|obtain|get|generat|refresh|renew|acquir|"
        r"retriev|fetch)\w*.{0,20}\btoken",
        r"\btoken\w{0,6}\W{1,3}(?:refresh|renew)\w*\W{1,3}(?:request )?(?:has )?fail",
        r"bad protocol / cancel",  # Cyrus SASL, where the plug-in for XOAUTH2 has no token
        stages=("auth",),
        unless=(r"\binvalid_",),
    ),
    says(
        "Gmail: the error challenge of a token whose scopes do not cover SMTP",
        Cause.WRONG_TOKEN_SCOPE_OR_AUDIENCE,
        r"status ?: ?40[03]\b.{0,80}\bscope ?:",
    ),
    says(
        "Google Identity documentation, XOAUTH2: the error challenge",
        Cause.TOKEN_EXPIRED,
        r"status ?: ?401\b.{0,80}\bscheme",
    ),
    says(
        _RFC6749,
        Cause.INVALID_SCOPE,
        r"invalid[ _]scope",
        r"scopes?.{0,60}(?:not valid|invalid|unknown|malformed|not supported|not allowed|not exist)",
    ),
    says("RFC 8707 §2", Cause.INVALID_SCOPE, r"invalid_(?:resource|target)\b"),
    says(_RFC6749, Cause.CLIENT_ID_UNKNOWN, r"invalid_client.{0,60}(?:not found|no client|unknown)"),
    says(
        _RFC6749,
        Cause.CLIENT_SECRET_INVALID,
        r"invalid_client(?:\b|unauthorized)",
        r"invalid_client_(?:secret|credentials)",
        r"invalidclient\b",
    ),
    says(
        _RFC6749,
        Cause.GRANT_NOT_ALLOWED,
        r"unauthorized_client",
        r"client.{0,12}(?:not (?:allowed|permitted|authori[sz]ed|enabled))",
        r"unsupported_(?:grant|response)_type",
        r"unsupportedgranttype",
    ),
    says(
        _RFC6749,
        Cause.GRANT_NOT_ALLOWED,
        r"(?:grant|response)[ _]type.{0,40}(?:not (?:allowed|supported|enabled|permitted)|" r"unsupported|disabled)",
    ),
    says(_OIDC, Cause.CONDITIONAL_ACCESS, r"\binteraction_required\b", r"basic_action"),
    says(
        _OIDC,
        Cause.CONSENT_REQUIRED,
        r"\bconsent_required\b",
        r"\baccess_denied\b",
        r"\blogin_required\b",
        r"\baccount_selection_required\b",
    ),
    says(
        _RFC8628,
        Cause.CONSENT_REQUIRED,
        r"\bauthorization_(?:pending|declined)\b",
        r"user (?:denied|cancel+ed|declined)",
    ),
    says(
        _RFC8628,
        Cause.RATE_LIMITED,
        r"\bslow_down\b",
        r"rate_?limit_?exceeded",
        r"userratelimitexceeded",
        r"too many requests",
        stages=OAUTH,
    ),
    says(
        _RFC6749,
        Cause.SERVER_TEMPORARY,
        r"temporarily_unavailable",
        r"\bserver_error\b",
        r"internal_failure",
        r"backend error",
        r"service unavailable",
        stages=OAUTH,
    ),
    says(
        "RFC 6749 §4.1.3: the redirect brings a code, so that is what was refused",
        Cause.CODE_REUSED_OR_EXPIRED,
        r"\binvalid[ _]?grant\b",
        stages=("consent",),
    ),
    says(_RFC6749, Cause.REFRESH_TOKEN_REVOKED, r"\binvalid[ _]?grant\b"),
    says(
        "RFC 6750 §3.1, Google API errors: a token that is not taken",
        Cause.TOKEN_EXPIRED,
        r"\b401\b.{0,20}\bunauth(?:ori[sz]ed|enticated)\b(?!_)",
        auths=("oauth2",),
        stages=("auth",),
    ),
    says(
        "RFC 7628 §3.2.2: the server could not read what the client presented",
        Cause.PROTOCOL_ERROR,
        r"status ?: ?invalid_request\b",
        stages=("auth",),
    ),
    says(
        "RFC 6749 §6: a refresh without a refresh token; the access token ends and no new one comes",
        Cause.TOKEN_EXPIRED,
        r"\binvalid_request\b",
        auths=("oauth2",),
        stages=("auth",),
    ),
    says(_RFC6749, Cause.GRANT_NOT_ALLOWED, r"\binvalid_request\b", stages=OAUTH),
)

_NUMBERS_AROUND_OTHERS: Final = numbered(_ENTRA, {Cause.CLIENT_SECRET_INVALID: (70002,)})
"""Numbers that often stand before another one, which says more."""

OAUTH_RULES: Final[tuple[Rule, ...]] = (*_NUMBERS_THAT_NEED_WORDS, *_NUMBERS, *_NUMBERS_AROUND_OTHERS)
"""Numbers, which nothing else has."""

OAUTH_WORDS: Final[tuple[Rule, ...]] = tuple(
    replace(rule, mentions=_OAUTH) for rule in (*_ENTRA_WORDS, *_GOOGLE_WORDS, *_TOKENS, *_FAMILIES, *_BARE_CODES)
)
"""Words, which SMTP servers may use too: they count only where the failure has to do with OAuth2."""
