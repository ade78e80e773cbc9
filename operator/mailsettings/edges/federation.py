"""The operator's own service-account token, with which it proves to a provider who it is."""

import base64
import json
from pathlib import Path
from typing import Any


class FederationError(OSError):
    """There is no token for what is asked; the text says what is missing."""


def federated_token(audience: str, *, path: Path | None) -> str:
    """The token as it is now; Kubernetes replaces it ahead of its end.

    Args:
        audience: Whom it must be meant for: a token for another audience would be refused, or misused.
        path: Where Kubernetes keeps it.

    Raises:
        OSError: There is none, or it is for another audience.
    """
    if path is None:
        raise FederationError("the operator has none: its MAILSETTINGS_OAUTH2_TOKEN_FILE is not set")
    token = path.read_text(encoding="ascii").strip()
    if audience not in _audiences(token):
        raise FederationError(f"it is for another audience than {audience}")
    return token


def _audiences(token: str) -> list[Any]:
    """Source: RFC 7519 §4.1.3. The signature is the provider's to check."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        audience = claims.get("aud", [])
    except (ValueError, IndexError, AttributeError):
        return []
    return audience if isinstance(audience, list) else [audience]
