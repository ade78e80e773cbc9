"""The `state` of a consent: what the operator must know again when the browser comes back from the provider.

It is signed, not stored: a page that anybody may open writes nothing, every replica can read it, and a restart forgets
none. It holds no secret. Verifier and nonce are derived from it under the operator's key, so nobody else knows them.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

LIFE: Final = timedelta(minutes=10)
"""How long a person has, from the button to the provider's answer."""

FLOW_BYTES: Final = 16
MAX_LENGTH: Final = 256
"""Characters of a state; a longer text is none."""

_VERSION: Final = 1
_FORM: Final = struct.Struct(f">B{FLOW_BYTES}s16s16s16sQ")
_MAC_BYTES: Final = hashlib.sha256().digest_size


class StateError(ValueError):
    """A text is no state that this operator has made."""


@dataclass(frozen=True, slots=True)
class ConsentState:
    """What a state says."""

    flow: str
    """Names this one attempt: 32 hexadecimal digits, random."""
    uid: str
    """Of the settings."""
    expires_at: datetime
    """Aware, UTC, whole seconds."""
    _configuration: bytes
    _binding: bytes

    def fits(self, fingerprint: str) -> bool:
        """Whether it was made for the configuration of this fingerprint."""
        return hmac.compare_digest(self._configuration, _short(fingerprint))

    def is_bound_to(self, holder: str) -> bool:
        """Whether it was made for this holder: a browser by its cookie, or a consent Secret by its uid."""
        return hmac.compare_digest(self._binding, _short(holder))


@dataclass(frozen=True, slots=True)
class Flows:
    """Makes and reads states, and what belongs to them."""

    key: bytes = field(repr=False)
    """The operator's own."""

    def mint(self, *, flow: bytes, uid: str, fingerprint: str, holder: str, now: datetime) -> str:
        """A new state.

        Args:
            flow: `FLOW_BYTES` random bytes.
            uid: Of the settings.
            fingerprint: Of their configuration.
            holder: Who has to bring the state back: the value of the browser's cookie, or a consent Secret's uid.
            now: The present time.
        """
        expires_at = int((now + LIFE).timestamp())
        content = _FORM.pack(_VERSION, flow, UUID(uid).bytes, _short(fingerprint), _short(holder), expires_at)
        return base64.urlsafe_b64encode(content + self._mac("state", content)).rstrip(b"=").decode("ascii")

    def read(self, text: str) -> ConsentState:
        """What a state says, whether or not its time is up.

        Raises:
            StateError: It is none of this operator's.
        """
        if len(text) > MAX_LENGTH:
            raise StateError("too long")
        try:
            whole = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise StateError("not base64url") from None
        content, mac = whole[:-_MAC_BYTES], whole[-_MAC_BYTES:]
        if len(content) != _FORM.size or not hmac.compare_digest(mac, self._mac("state", content)):
            raise StateError("not signed by this operator")
        version, flow, uid, configuration, binding, expires_at = _FORM.unpack(content)
        if version != _VERSION:
            raise StateError("of another version")
        return ConsentState(flow.hex(), str(UUID(bytes=uid)), _moment(expires_at), configuration, binding)

    def verifier(self, flow: str) -> str:
        """The PKCE code verifier of an attempt. Source: RFC 7636 §4.1."""
        return self._text("verifier", flow)

    def nonce(self, flow: str) -> str:
        """What the ID token of an attempt must repeat. Source: OpenID Connect Core 1.0 §3.1.2.1."""
        return self._text("nonce", flow)

    def form_token(self, uid: str, browser: str) -> str:
        """Shows that a form was loaded, and by which browser, before it is sent."""
        return self._text("form", f"{uid}/{browser}")

    def _text(self, purpose: str, about: str) -> str:
        return base64.urlsafe_b64encode(self._mac(purpose, about.encode())).rstrip(b"=").decode("ascii")

    def _mac(self, purpose: str, content: bytes) -> bytes:
        """Under a key of its own for each purpose, so that none can stand for another."""
        key = hmac.new(self.key, f"oauth2-consent/{purpose}".encode("ascii"), hashlib.sha256).digest()
        return hmac.new(key, content, hashlib.sha256).digest()


def _short(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # signed, so it cannot happen
        raise StateError("of no time") from None
