"""Scalar types of the spec: each is one pattern and its bounds, the same in the models and in the CRDs."""

import string
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from mailsettings.api.patterns import (
    ADDRESS_PATTERN,
    AUDIENCE_PATTERN,
    CLAIM_PATTERN,
    CLIENT_ID_PATTERN,
    DATA_KEY_PATTERN,
    DIRECTORY_ID_PATTERN,
    DURATION_PATTERN,
    FROM_PATTERN_PATTERN,
    HOST_PATTERN,
    HTTPS_URI_PATTERN,
    LABEL_KEY_PATTERN,
    LABEL_VALUE_PATTERN,
    MAILBOX_PATTERN,
    NAMESPACE_PATTERN,
    OBJECT_NAME_PATTERN,
    SCOPE_PATTERN,
    USERNAME_PATTERN,
)

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


def lower_ascii(text: str) -> str:
    """What CEL's `lowerAscii` does: it leaves other letters alone, where `str.lower` may change even the length."""
    return text.translate(_LOWER_ASCII)


_LOWER_ASCII: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
