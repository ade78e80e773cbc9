r"""Scalar types of the spec: each is one pattern and its bounds, the same in the models and in the CRDs.

The patterns use only what Go's RE2 (the API server) and Rust's regex (pydantic) read alike: no `\d`, `\w` or
`\s`, whose meaning differs outside ASCII, and no look-around.
"""

import re
import string
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

_ATOM: Final = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = rf"{_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*"
_DISPLAY_WORDS: Final = r'[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}"(),:;<>@\[\\\]]+'
_DISPLAY_QUOTED: Final = r'"[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}"\\]*"'
_HOST_LABEL: Final = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS1123_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

ADDRESS_PATTERN: Final = f"^{_ADDRESS}$"
MAILBOX_PATTERN: Final = f"^({_ADDRESS}|({_DISPLAY_WORDS}|{_DISPLAY_QUOTED}) <{_ADDRESS}>)$"
HOST_PATTERN: Final = rf"^(({_HOST_LABEL}\.)*{_HOST_LABEL}\.?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$"
DURATION_PATTERN: Final = "^[1-9][0-9]{0,4}(ms|s|m|h)$"
OBJECT_NAME_PATTERN: Final = rf"^{_DNS1123_LABEL}(\.{_DNS1123_LABEL})*$"
NAMESPACE_PATTERN: Final = f"^{_DNS1123_LABEL}$"
DATA_KEY_PATTERN: Final = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"
USERNAME_PATTERN: Final = r"^[^\p{Cc}]+$"
LABEL_KEY_PATTERN: Final = (
    rf"^({_DNS1123_LABEL}(\.{_DNS1123_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$"
)
LABEL_VALUE_PATTERN: Final = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
FROM_PATTERN_PATTERN: Final = r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9*{}.-]+$"

HTTPS_URI_PATTERN: Final = (
    rf"^https://({_HOST_LABEL}\.)*{_HOST_LABEL}(:[0-9]{{1,5}})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?$"
)
SCOPE_PATTERN: Final = r"^[\x21\x23-\x5b\x5d-\x7e]+$"
CLIENT_ID_PATTERN: Final = r"^[\x20-\x7e]+$"
DIRECTORY_ID_PATTERN: Final = "^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"
CLAIM_PATTERN: Final = "^[A-Za-z_][A-Za-z0-9_.:/-]*$"
AUDIENCE_PATTERN: Final = r"^[\x21-\x7e]+$"

Address = Annotated[str, Field(max_length=320, pattern=ADDRESS_PATTERN)]
"""A bare mail address, `user@example.com`. Source: the `addr-spec` of RFC 5322 §3.4.1, dot-atoms only."""

Mailbox = Annotated[str, Field(max_length=400, pattern=MAILBOX_PATTERN)]
"""An address, or a name and an address: `Acme <no-reply@acme.example>`. Source: RFC 5322 §3.4, a subset."""

Host = Annotated[str, Field(min_length=1, max_length=253, pattern=HOST_PATTERN)]
"""A DNS name or an IP address, without a scheme, port or brackets."""


def _whole(number: object) -> object:
    """JSON knows no integers: to the API server 587.0 is 587, and it is stored as that."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


WHOLE: Final = BeforeValidator(_whole)
"""Reads a number as the API server does."""

Port = Annotated[int, Field(ge=1, le=65535, json_schema_extra={"format": "int32"}), WHOLE]

Duration = Annotated[str, Field(max_length=7, pattern=DURATION_PATTERN)]
"""One whole number and one unit of ms, s, m and h: `10s`, `6h`."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=OBJECT_NAME_PATTERN)]
NamespaceName = Annotated[str, Field(min_length=1, max_length=63, pattern=NAMESPACE_PATTERN)]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=DATA_KEY_PATTERN)]
Username = Annotated[str, Field(min_length=1, max_length=320, pattern=USERNAME_PATTERN)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE_PATTERN)]
AnnotationValue = Annotated[str, Field(max_length=4096)]
LabelKey = Annotated[str, Field(min_length=1, max_length=253, pattern=LABEL_KEY_PATTERN)]
"""At most 253 characters, so that the prefix is within its own bound of 253. Source: Kubernetes, Labels."""

FromPattern = Annotated[str, Field(min_length=3, max_length=320, pattern=FROM_PATTERN_PATTERN)]
"""An address in which `*` stands for any text without `@`, and `{namespace}` for the tenant's namespace."""

HttpsUri = Annotated[str, Field(max_length=512, pattern=HTTPS_URI_PATTERN)]
"""An `https` URI without user information and fragment. Source: RFC 6749 §3.2, RFC 3986."""

Scope = Annotated[str, Field(max_length=256, pattern=SCOPE_PATTERN)]
"""Source: the `scope-token` of RFC 6749 §3.3."""

ClientId = Annotated[str, Field(min_length=1, max_length=256, pattern=CLIENT_ID_PATTERN)]
"""Source: the `client-id` of RFC 6749 §A.1."""

DirectoryId = Annotated[str, Field(min_length=1, max_length=253, pattern=DIRECTORY_ID_PATTERN)]
"""A GUID or a domain."""

ClaimName = Annotated[str, Field(min_length=1, max_length=128, pattern=CLAIM_PATTERN)]
"""A member of an ID token, at its top level. Source: OpenID Connect Core 1.0 §5.1."""

Audience = Annotated[str, Field(min_length=1, max_length=256, pattern=AUDIENCE_PATTERN)]

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}


def parse_duration(text: str) -> timedelta:
    """The length of time that a `Duration` means.

    Raises:
        ValueError: `text` does not match `DURATION_PATTERN`.
    """
    match = re.fullmatch("([1-9][0-9]{0,4})(ms|s|m|h)", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write one number and one unit of ms, s, m, h")
    return int(match[1]) * _UNITS[match[2]]


def lower_ascii(text: str) -> str:
    """What CEL's `lowerAscii` does: it leaves other letters alone, where `str.lower` may change even the length."""
    return text.translate(_LOWER_ASCII)


_LOWER_ASCII: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
