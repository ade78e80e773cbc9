"""Settings that ask for a consent in a browser, and somebody who gives it, without a browser."""

import base64
import secrets
from typing import Any, Final, Protocol

from dev.loop_thread import LoopThread
from mailsettings.api import names
from tests.support.browser import Browser, Page
from tests.support.identity_provider import ACCOUNT, CLIENT_ID
from tests.support.kube import Json, Kube
from tests.support.smtp_server import MailServer

KIND: Final = "MailServerSettings"
OTHER: Final = "someone-else@acme.example"
SCOPES: Final = ["openid", "offline_access", "mail.send"]


class Provider(Protocol):
    """What the test's provider and the independent one have in common."""

    @property
    def authorization_uri(self) -> str: ...

    @property
    def token_uri(self) -> str: ...

    async def log_in(self, authorize_url: str, *, account: str = ..., decision: str = ...) -> str: ...


def consent_spec(provider: Provider, server: MailServer, **oauth2: Any) -> Json:
    """The spec of settings with grant AuthorizationCode, whose client secret is in the Secret `oauth2`."""
    return {
        "mailFrom": "Acme <no-reply@acme.example>",
        "connection": {"host": "127.0.0.1", "port": server.port, "timeout": "3s", "tls": {"mode": "Disabled"}},
        "auth": {
            "oauth2": {
                "username": ACCOUNT,
                "grant": "AuthorizationCode",
                "clientID": CLIENT_ID,
                "clientAuth": {"secretRef": {"name": "oauth2", "key": "secret"}},
                "authorizationURI": provider.authorization_uri,
                "tokenURI": provider.token_uri,
                "scopes": SCOPES,
                "accountCheck": {"claim": "email"},
                **oauth2,
            }
        },
    }


class Person:
    """Somebody who consents, or tries to."""

    def __init__(self, provider: Provider, loop_thread: LoopThread) -> None:
        self.browser = Browser()
        self._provider = provider
        self._loop_thread = loop_thread

    def begin(self, settings: Json) -> str:
        """Opens the page of the settings and presses the button; where that leads."""
        start = self.browser.open(settings["status"]["oauth2"]["authorizeURL"])
        assert start.status == 200, start.said
        pressed = self.browser.press(start)
        assert pressed.status == 303, pressed.said
        return pressed.location

    def log_in(self, authorize_url: str, **options: str) -> str:
        """Logs in at the provider and decides; where that leads."""
        return self._loop_thread.run(self._provider.log_in(authorize_url, **options))

    def finish(self, kube: Kube, callback: str) -> Page:
        """Comes back to the operator, and waits for its last word."""
        back = self.browser.open(callback)
        return self.outcome(kube, back.location) if back.status == 303 else back

    def outcome(self, kube: Kube, url: str) -> Page:
        def look() -> Page | None:
            page = self.browser.open(url)
            return None if 'http-equiv="refresh"' in page.text else page

        page: Page = kube.wait(look, "the result of the consent")
        return page

    def consent(self, kube: Kube, settings: Json, **options: str) -> Page:
        return self.finish(kube, self.log_in(self.begin(settings), **options))


def ask(kube: Kube, namespace: str, settings: Json, **data: str) -> Json:
    """Creates a consent Secret, as `kubectl mailsettings authorize` does."""
    source = "/".join(filter(None, (settings["kind"], settings["metadata"].get("namespace"), "mail")))
    metadata = {
        "labels": {names.LABEL_CONSENT_OF: settings["metadata"]["uid"]},
        "annotations": {names.ANNOTATION_SOURCE: source},
    }
    return kube.create(
        "Secret",
        f"authorize-{secrets.token_hex(4)}",
        namespace,
        metadata=metadata,
        type=names.CONSENT_TYPE,
        data=encoded(data),
    )


def encoded(data: dict[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}


def wait_told(kube: Kube, secret: Json, key: str) -> str:
    """What the operator says under a key."""
    name, namespace = secret["metadata"]["name"], secret["metadata"]["namespace"]
    value: str = kube.wait(lambda: (kube.secret_data(name, namespace) or {}).get(key), f"{key} in {name}")
    return value
