"""The pages that a person sees who consents: plain HTML, without scripts and without anything from elsewhere."""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from typing import Final

from mailsettings.core.oauth2.consent import ConsentResult

STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 42rem; padding: 2rem 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
dt { font-weight: 600; margin-top: .75rem; }
dd { margin: 0; overflow-wrap: anywhere; }
button { font: inherit; font-weight: 600; margin-top: 1.5rem; padding: .75rem 1.25rem; }
"""

STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
"""For the Content-Security-Policy: no other style, and no script at all, is let through."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a settings object a person is shown before consenting."""

    kind: str
    namespace: str
    """Empty for a cluster object."""
    name: str
    account: str
    provider: str
    host: str
    """Where the person is sent to."""
    client_id: str
    scopes: tuple[str, ...]


def start_page(settings: Settings, form_token: str) -> str:
    """What is asked for, and the button that begins."""
    scopes = ", ".join(settings.scopes) or "what the provider gives by default"
    facts = {
        "Settings": f"{settings.kind} {settings.name}",
        "Namespace": settings.namespace or "none: every tenant that inherits these settings sends with them",
        "Mail account": settings.account,
        "Provider": f"{settings.provider}, at {settings.host}",
        "Client ID": settings.client_id,
        "Scopes": scopes,
    }
    return _page(
        "Let a cluster send mail",
        "<p>If you go on and consent at the provider, the applications of the namespace below can send mail with the "
        "account below, until the consent is withdrawn there. Log in as that account.</p>"
        f"<dl>{''.join(map(_fact, facts, facts.values()))}</dl>"
        "<p>Do not go on if you did not expect this page.</p>"
        '<form method="post">'
        f'<input type="hidden" name="token" value="{escape(form_token)}">'
        f'<button type="submit">Continue to {escape(settings.host)}</button>'
        "</form>",
    )


def waiting_page() -> str:
    """While the tokens are being fetched. It looks again by itself, under an address that holds no code."""
    return _page(
        "Fetching the tokens",
        '<p role="status">The provider has answered; the tokens are being fetched. This page looks again every two '
        "seconds.</p>",
        refresh_s=2,
    )


def result_page(result: ConsentResult) -> str:
    """What has become of a consent."""
    title = "Mail can be sent" if result.authorized else "No consent"
    return _page(
        title,
        f'<p role="status">{escape(result.message)}</p>'
        f"<p>The condition <code>Authorized</code> of the settings says the same: {escape(result.reason)}. "
        "You can close this page.</p>",
    )


def message_page(title: str, message: str) -> str:
    """That something cannot be done, and what to do."""
    return _page(title, f'<p role="alert">{escape(message)}</p>')


def _fact(term: str, description: str) -> str:
    return f"<dt>{escape(term)}</dt><dd>{escape(description)}</dd>"


def _page(title: str, body: str, *, refresh_s: int | None = None) -> str:
    refresh = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s is not None else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{escape(title)} - mailsettings</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
