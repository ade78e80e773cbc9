"""What can be read in the text of a failure, whoever wrote it: codes, numbers, and its words on one line."""

import base64
import binascii
import html
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus

from mailsettings.core.causes.glossary import in_english

STAGES: Final = (
    *("dns", "proxy", "connect", "greeting", "tls", "ehlo", "auth", "mail_from", "rcpt", "data"),
    *("consent", "token"),
)
"""The steps of a session, and those of OAuth2, by the names that rules use."""

PROVIDERS: Final = ("Office365", "Google", "SendGrid", "Custom")
LOGINS: Final = ("basic", "oauth2", "none")

MAX_LENGTH: Final = 8_192
"""Of a text, in characters. Of a longer one both ends are read: exceptions tell their cause first or last."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, as it was met. Only `raw` is needed."""

    raw: str = field(repr=False)
    """An SMTP reply, the text of an exception, or a token endpoint's answer, in any form. May hold secrets."""
    stage: str = ""
    """The step that failed, one of `STAGES`, or as the operator's probe calls it; empty: not known."""
    provider: str = ""
    """One of `PROVIDERS`; empty: not known."""
    auth: str = ""
    """One of `LOGINS`; empty: not known."""


@dataclass(frozen=True, slots=True)
class Clues:
    """A failure, taken apart."""

    stage: str
    provider: str
    auth: str
    said: str = field(repr=False)
    """The words, in lower case, on one line, without codes between lines, and at the end what those of another language
    mean in English. For matching only: may hold secrets."""
    codes: tuple[int, ...] = ()
    """SMTP reply codes, in the order of the text. Source: RFC 5321 §4.2."""
    enhanced: tuple[str, ...] = ()
    """Enhanced status codes, likewise. Source: RFC 3463 §2."""
    aadsts: tuple[int, ...] = ()
    """Microsoft's error numbers, likewise."""


_STAGES: Final = {
    "resolve": "dns",
    "mail": "mail_from",
    "mailfrom": "mail_from",
    "mail from": "mail_from",
    "rcpt to": "rcpt",
    "rcpt_to": "rcpt",
    "starttls": "tls",
    "helo": "ehlo",
}
"""What else the stages are called."""

_ENHANCED: Final = re.compile(r"(?<![\w.])([245]\.[0-9]{1,2}\.[0-9]{1,4})(?![\w]|\.[0-9])")
_AADSTS: Final = re.compile(r"\baadsts[ :=]{0,3}([0-9]{4,8})\b")
_ERROR_CODES: Final = re.compile(r"\berror[_ ]codes?\b\W{1,24}([0-9]{5,8})\b")
_BEFORE_ENHANCED: Final = re.compile(r"(?<![\w.])([45][0-57][0-9])[\W_]{1,6}#?[245]\.[0-9]{1,2}\.[0-9]{1,4}(?!\w)")
_AT_A_BOUNDARY: Final = re.compile(
    r"(?:^|[\n|'\"(\[{=<>,;]|:\s|\b(?:said|response|reply|code|error|status|answered|returned|with|got|server)\b[:,]?)"
    r"\s{0,4}['\"]?([45][0-57][0-9])(?=[\s,;:'\"|)\]}>-]|$)"
)
_REPLY: Final = re.compile(r"(?<![\w.])([45][0-57][0-9])[- ]#?([245]\.[0-9]{1,2}\.[0-9]{1,4}(?![\w.]))?")
_WRAPPERS: Final = re.compile(
    r"[^.]{4,120}\. (?:the server response was|die serverantwort war|la réponse du serveur était|"
    r"la respuesta del servidor fue|a resposta do servidor foi|la risposta del server è stata|"
    r"(?:получен )?ответ сервера|服务器响应为|サーバー応答) ?[:\uff1a] ?(?=\S{3})"
    r"|all rcpt commands were rejected with this error:"
    r"|\b(?:fail(?:ed|ure|s)?|error|unable|could not|cannot|can't|problem)\b[ :]{1,2}(?:(?:to|in|on|while|when) )?"
    r"(?:send|sending|deliver|delivering) (?:(?:the|an?|your|test) ){0,2}(?:e-?mails?|mails?|messages?|notifications?)"
    r"(?: (?:to|for) \S{1,80})?(?: ?[:,;.-]{1,4} | (?=err))(?:(?:reason|details?|err(?:or)?) ?[:=] ?)?(?=\S{3})"
    r"|an error occurred while sending (?:the )?(?:mail|message)[.:] (?:the mail server responded: ?)?(?=\S{3})"
    r"|beim senden der e-?mail ist ein (?:fehler|problem) aufgetreten[.:] (?=\S{3})"
    r"|message could not be sent[.:] (?:mailer error: )?(?=\S{3})"
    r"|mail server connection failed[.;:] (?=\S{3})|failed messages: (?=\S{3})"
    r"|(?:\w{1,20}\.){1,5}(?:mailsend|messaging|smtp)exception: (?=\S{3})"
    r"|message not delivered\b.{0,200}?\bresponse from the remote server was:"
    r"|traceback \(most recent call last\):|\bfile \S{1,160} ?, line [0-9]{1,6}, in \S{1,40}"
    r"|(?<=[{,;] )(?:error ?)?(?:message|msg) ?: (?=\S{3})"
    r"|expected (?:smtp )?(?:response )?codes?[^;]{1,40}\bbut got code "
    r"(?:[^;]{1,10}, with message |(?=[ ']{0,2}[45][0-9]{2}))"
    r"|unexpected (?:return code|smtp server response)[ .-]{1,4}expected: [0-9]{3}, (?:got|actual): [0-9]{3}(?: \|)?"
    r"(?:, whole response:)?"
    r"|smtp error: data not accepted\.?"
    r"|^.{0,400}\bsaid: (?=[45][0-9]{2}[ -])"
    r"|; timeout -?[0-9]{1,7}\b|\bint32 timeout\b"
    r"|\byour server might not be configured to send mail using this method\b"
    r"|\bmax connection attempts exceeded - (?=\S{3})"
    r"|\b250[ -]auth(?:[ =](?:login|plain|cram-md5|digest-md5|ntlm|gssapi|xoauth2?|oauthbearer)\b){1,8}"
    r"|\b250[ -](?:pipelining|size|etrn|starttls|enhancedstatuscodes|8bitmime|dsn|chunking|smtputf8|vrfy|help)\b"
    r"|please (?:verify|check) (?:that )?[^.;]{4,100}\band try again\b"
    r"|using (?:the following|[1-9] possible) authenticators?[^;]{1,120}?\bauthenticator \S{1,20} returned (?=\S{3})"
    r"|(?:invalid login|message failed|(?:password|mail|data|rcpt|auth|\w{3,8} end) command failed):? ?(?:- )?"
    r"(?=[45][0-9]{2}[ -])"
)
"""What clients make of a reply code by themselves, before the reply's own words: .NET, Swift Mailer, Symfony Mailer,
Nodemailer, PHPMailer, Angus Mail, Thunderbird, CodeIgniter, Gophish; what a relay, Postfix, tells of itself before the
other server's; and what a server offers, in a log of the whole dialogue."""
_QUOTED: Final = re.compile(r"^(?:> ?){1,5}", re.MULTILINE)
"""How a mail marks the lines of another."""
_LOG: Final = re.compile(r"\bdsn=[245]\.[0-9]\.[0-9]{1,3},? status=(?:deferred|bounced|undeliverable)\b")
"""What Postfix makes of a failure by itself, before the words for it in parentheses."""
_GLUE: Final = re.compile(
    r"(?<![\w.])([45][0-57][0-9])(?:\W{1,3}b?['( ]{1,3}|[:#-] ?#?|,? (?:with message|additional smtp info:) {1,2})"
    r"(?=[245]\.[0-9]{1,2}\.[0-9])"
)
"""What stands between a reply's two codes where a client shows them apart: Python, MailKit, Swift Mailer, PHPMailer."""
_SPELT: Final = re.compile(r"\bseverity: (\w{5,40}), category: (\w{5,20}), detail: (\w{3,5})\b")
"""How lettre, a client in Rust, shows a reply code."""
_SEVERITIES: Final = {"transientnegativecompletion": 4, "permanentnegativecompletion": 5}
_CATEGORIES: Final = ("syntax", "information", "connections", "unspecified3", "unspecified4", "mailsystem")
_DETAILS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAME: Final = re.compile(r"(?<![\w.])(?:[A-Z]{2,20}(?:_[A-Z0-9]{1,20}){2,6}|(?:[A-Z]{1,6}[a-z]{1,20}){3,8})(?![\w.(])")
_HUMP: Final = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CHALLENGE: Final = re.compile(r"\beyj[\w+/-]{8,}={0,2}", re.IGNORECASE)
_ESCAPES: Final = re.compile(r"\\(?:r|n|t)|\\u[0-9a-f]{4}", re.IGNORECASE)
_BYTES: Final = re.compile(r"(?:\\x[89a-f][0-9a-f]){2,200}", re.IGNORECASE)
"""Text beyond ASCII as Python shows bytes."""
_ENCODINGS: Final = ("utf-8", "gb18030")


def read(failure: Failure) -> Clues:
    """Takes a failure apart. The time it takes grows with the text's length only as far as `MAX_LENGTH`."""
    text = _bounded(failure.raw)
    text = _unescaped(text)
    text = text + " " + " ".join(_challenges(text))
    lower = _LOG.sub(" ", text.lower().translate(_PLAIN))
    return Clues(
        stage=known_stage(failure.stage),
        provider=failure.provider.strip().lower(),
        auth=failure.auth.strip().lower(),
        said=_said(lower, _names(text)),
        codes=tuple(dict.fromkeys((*map(int, _codes(lower)), *_spelt_codes(lower)))),
        enhanced=tuple(dict.fromkeys(_ENHANCED.findall(lower))),
        aadsts=tuple(dict.fromkeys(int(number) for number in _numbers(lower))),
    )


def _said(lower: str, names: str) -> str:
    lower = _QUOTED.sub("", lower)
    words = _WRAPPERS.sub(" ", " ".join(_once(_GLUE.sub(r"\1 ", lower)).replace("\\", "").split()))
    return " ; ".join(filter(None, (words, names, in_english(words))))


def _names(text: str) -> str:
    """The words of names such as DH_KEY_TOO_SMALL and AlertReceivedHandshakeFailure."""
    return " ; ".join(dict.fromkeys(" ".join(_HUMP.findall(name)).lower() for name in _NAME.findall(text)))


_PLAIN: Final = str.maketrans(
    {"\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'", "`": "'", '"': " ", "\0": " "}
    | {"\N{LEFT DOUBLE QUOTATION MARK}": " ", "\N{RIGHT DOUBLE QUOTATION MARK}": " ", "\N{NO-BREAK SPACE}": " "}
    | {"\N{NON-BREAKING HYPHEN}": "-", "\N{EN DASH}": "-"}
)


def _bounded(text: str) -> str:
    half = MAX_LENGTH // 2
    return text if len(text) <= MAX_LENGTH else f"{text[:half]}\n{text[-half:]}"


def known_stage(name: str) -> str:
    """A stage by the name that rules use."""
    plain = name.strip().lower().replace("-", "_")
    return _STAGES.get(plain, plain)


def _unescaped(text: str) -> str:
    """JSON's and logs' escapes, HTML's entities, and the query of a redirect, as a person would read them."""
    text = _ESCAPES.sub(_character, _BYTES.sub(_decoded, text))
    if "&" in text:
        text = html.unescape(text)
    return unquote_plus(text) if "error_description=" in text or "%20" in text else text


def _character(match: re.Match[str]) -> str:
    escape = match[0].lower()
    return chr(int(escape[2:], 16)) if escape.startswith("\\u") else "\n"


def _decoded(match: re.Match[str]) -> str:
    """The text of bytes that are shown in hexadecimal; themselves where they are none."""
    octets = bytes.fromhex(match[0].lower().replace("\\x", ""))
    for encoding in _ENCODINGS:
        try:
            return octets.decode(encoding)
        except UnicodeDecodeError:
            continue
    return match[0]


def _challenges(text: str) -> list[str]:
    """The error challenges of XOAUTH2 and OAUTHBEARER (RFC 7628 §3.2.2), which are JSON in base64."""
    found = []
    for run in _CHALLENGE.findall(text)[:4]:
        try:
            decoded = base64.b64decode(
                run[:2048] + "=" * (-len(run[:2048]) % 4), altchars=b"-_" if "-" in run else None
            )
        except (ValueError, binascii.Error):
            continue
        found.append(decoded.decode("utf-8", "replace"))
    return [each for each in found if '"status"' in each]


def _once(lower: str) -> str:
    """With the codes that a server repeats on every line (RFC 5321 §4.2.1, RFC 2034 §4) only where they come first."""
    seen: set[str] = set()

    def keep_first(match: re.Match[str]) -> str:
        codes = " ".join(filter(None, match.groups()))
        if codes in seen:
            return " "
        seen.add(codes)
        return f"{codes} "

    return _REPLY.sub(keep_first, lower)


def _codes(lower: str) -> list[str]:
    return [*_BEFORE_ENHANCED.findall(lower), *_AT_A_BOUNDARY.findall(lower)]


def _spelt_codes(lower: str) -> list[int]:
    return [
        100 * _SEVERITIES[severity] + 10 * _CATEGORIES.index(category) + _DETAILS.index(detail)
        for severity, category, detail in _SPELT.findall(lower)
        if severity in _SEVERITIES and category in _CATEGORIES and detail in _DETAILS
    ]


def _numbers(lower: str) -> list[str]:
    return [*_AADSTS.findall(lower), *_ERROR_CODES.findall(lower)]
