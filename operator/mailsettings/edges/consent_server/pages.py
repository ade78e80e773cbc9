"""The pages that a person sees who consents: plain HTML, without scripts and without anything from elsewhere."""

import base64
import hashlib
import re
from dataclasses import dataclass
from html import escape
from typing import Final

from mailsettings.core.documentation import DOCUMENTATION
from mailsettings.core.oauth2.consent import ConsentResult

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f3f5f8; --card: #fff; --text: #1b2430; --quiet: #56616f; --line: #d9dfe7;
  --accent: #1d5fbf; --on-accent: #fff; --good: #1a7f4b; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10151c; --card: #1a212b; --text: #e8edf3; --quiet: #a3afbd; --line: #333e4b;
    --accent: #8ab8ff; --on-accent: #0c1a2e; --good: #5fd097; --bad: #ff9d94;
  }
}
* { box-sizing: border-box; }
body {
  background: var(--page); color: var(--text); font: 1rem/1.55 system-ui, sans-serif; margin: 0 auto;
  max-width: 42rem; overflow-wrap: anywhere; padding: clamp(1rem, 8vh, 5rem) 1rem 2rem;
}
main {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem; border-top: .3rem solid var(--accent);
  padding: clamp(1.25rem, 5vw, 2.5rem);
}
main.good { border-top-color: var(--good); }
main.bad { border-top-color: var(--bad); }
h1 { font-size: 1.6rem; letter-spacing: -.01em; line-height: 1.25; margin: 0 0 1rem; }
p { margin: 0 0 1rem; }
main > :last-child { margin-bottom: 0; }
dl { border-bottom: 1px solid var(--line); margin: 1.5rem 0; }
dl > div {
  border-top: 1px solid var(--line); display: grid; gap: 0 1rem; grid-template-columns: 9rem 1fr; padding: .6rem 0;
}
dt { color: var(--quiet); }
dd { margin: 0; }
code { font: .9em ui-monospace, monospace; }
a { color: var(--accent); }
button {
  background: var(--accent); border: 1px solid transparent; border-radius: .5rem; color: var(--on-accent);
  cursor: pointer; font: inherit; font-weight: 600; margin-top: .5rem; max-width: 100%; padding: .7rem 1.4rem;
}
button:hover { filter: brightness(1.1); }
:focus-visible { outline: .2rem solid var(--accent); outline-offset: .2rem; }
footer { color: var(--quiet); font-size: .875rem; padding: 1rem .25rem; text-align: center; }
@media (max-width: 30rem) {
  dl > div { grid-template-columns: 1fr; }
  button { width: 100%; }
}
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
        "Mail account": settings.account,
        "Settings": f"{settings.kind} {settings.name}",
        "Namespace": settings.namespace or "none: every tenant that inherits these settings sends with them",
        "Provider": f"{settings.provider}, at {settings.host}",
        "Client ID": settings.client_id,
        "Scopes": scopes,
    }
    return _page(
        "Let a cluster send mail",
        "<p>If you consent, the applications of the namespace below can send mail as the account below, until the "
        "consent is withdrawn at the provider. Go on to the provider and log in there as that account.</p>"
        f"<dl>{''.join(map(_fact, facts, facts.values()))}</dl>"
        "<p>Did you not expect this page? Then do not go on.</p>"
        '<form method="post">'
        f'<input type="hidden" name="token" value="{escape(form_token)}">'
        f'<button type="submit">Continue to {escape(settings.host)}</button>'
        "</form>",
    )


def waiting_page() -> str:
    """While the tokens are being fetched. It looks again by itself, under an address that holds no code."""
    return _page(
        "Fetching the tokens",
        '<p role="status">The provider has answered; the tokens are being fetched. The result appears here by '
        "itself.</p>"
        '<p><a href="">Look again</a></p>',
        head='<meta http-equiv="refresh" content="2">',
    )


def result_page(result: ConsentResult) -> str:
    """What has become of a consent."""
    return _page(
        "Mail can be sent" if result.authorized else "No consent",
        f'<p role="status">{_linked(escape(result.message))}</p>'
        f"<p>Reason: <code>{escape(result.reason)}</code>. The condition <code>Authorized</code> of the settings says "
        "how things stand.</p><p>You can close this page.</p>",
        mood="good" if result.authorized else "bad",
    )


def message_page(title: str, message: str) -> str:
    """That something cannot be done, and what to do."""
    return _page(title, f'<p role="alert">{escape(message)}</p>', mood="bad")


def _linked(text: str) -> str:
    """With links into the documentation where that is published; nothing else in a text is made one."""
    pages = re.escape(escape(DOCUMENTATION.url))
    return re.sub(rf"(?<!\S){pages}/[a-z]+\.md#[a-z-]+", _link, text) if "://" in DOCUMENTATION.url else text


def _link(found: re.Match[str]) -> str:
    return f'<a href="{found[0]}">{found[0]}</a>'


def _fact(term: str, description: str) -> str:
    return f"<div><dt>{escape(term)}</dt><dd>{escape(description)}</dd></div>"


def _page(title: str, body: str, *, head: str = "", mood: str = "") -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{head}<title>{escape(title)} - mailsettings</title><style>{STYLE}</style>"
        f'</head><body><main class="{mood}"><h1>{escape(title)}</h1>{body}</main>'
        "<footer>mailsettings, the mail settings of this cluster</footer></body></html>"
    )
