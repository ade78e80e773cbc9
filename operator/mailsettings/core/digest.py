"""Digests: keyed ones of secret content, safe to show because nobody can test guesses against them, and plain ones."""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any


def checksum(content: Any) -> str:  # noqa: ANN401 - any JSON value
    """A digest without a key, for what nobody could guess or what stands beside its content anyway.

    Whoever loses the operator's key loses nothing that is told apart by these.
    """
    return hashlib.sha256(_canonical(content)).hexdigest()[:32]


def _canonical(content: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Equal values give equal bytes, whatever the order of their keys."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


@dataclass(frozen=True, slots=True)
class Digester:
    """Makes digests under the operator's own key."""

    key: bytes = field(repr=False)

    def __call__(self, content: Any) -> str:  # noqa: ANN401 - any JSON value
        """The digest of a JSON value: equal values give equal digests, whatever the order of their keys."""
        return hmac.new(self.key, _canonical(content), hashlib.sha256).hexdigest()[:32]
