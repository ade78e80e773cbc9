r"""The patterns of scalars, apart from the models, for commands that are over before pydantic is imported.

They use only what Go's RE2 (the API server) and Rust's regex (pydantic) read alike: no `\d`, `\w` or `\s`, whose
meaning differs outside ASCII, and no look-around.
"""

import re
from datetime import timedelta
from typing import Final

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
