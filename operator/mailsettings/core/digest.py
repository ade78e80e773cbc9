"""Keyed digests: fingerprints of secret content, safe to show because nobody can test guesses against them."""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Digester:
    """Makes digests under the operator's own key."""

    key: bytes = field(repr=False)

    def __call__(self, content: Any) -> str:  # noqa: ANN401 - any JSON value
        """The digest of a JSON value: equal values give equal digests, whatever the order of their keys."""
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hmac.new(self.key, text.encode("ascii"), hashlib.sha256).hexdigest()[:32]
