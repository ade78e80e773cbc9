"""What must stay secret in OAuth2 is in no log line, event, status or page, whatever providers and servers echo."""

import base64
import html
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from aiohttp import web

from dev.loop_thread import LoopThread
from dev.operator_process import OperatorProcess
from tests.support.browser import Browser
from tests.support.consent import KIND, OTHER, Person, ask, consent_spec, wait_told
from tests.support.history import settings_changes
from tests.support.identity_provider import CLIENT_SECRET, Asked, Behaviour, IdentityProvider
from tests.support.kube import Kube, resource_version
from tests.support.smtp_server import Peer, ScriptedServer, say, scripted_server

SHORT: Final = timedelta(seconds=6)


def forms_of(secret: str) -> dict[str, str]:
    """How a secret can look, wherever it stands within something that was encoded as a whole."""
    forms = {"raw": secret, "percent": quote(secret, safe="")}
    for before in range(3):
        data = b"\0" * before + secret.encode()
        data = data[: len(data) - len(data) % 3]
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            forms[f"{name} {before}"] = encode(data).decode()[4 if before else 0 :]
    return forms


def leaks(secrets: dict[str, set[str]], told: dict[str, str]) -> list[tuple[str, str, str]]:
    """What was found: kind of secret, form, and where."""
    return [
        (kind, form, place)
        for kind, values in secrets.items()
        for value in values
        for form, text in forms_of(value).items()
        for place, said in told.items()
        if text in said
    ]


@pytest.mark.parametrize("form", ["raw", "percent", "base64", "base64url"])
def test_what_leaks_would_be_found(form: str) -> None:
    said = {
        "raw": f"x {CLIENT_SECRET} y",
        "percent": f"secret={quote(CLIENT_SECRET, safe='')}&",
        "base64": base64.b64encode(f"client:{CLIENT_SECRET}, and".encode()).decode(),
        "base64url": base64.urlsafe_b64encode(f"an:{CLIENT_SECRET}".encode()).decode(),
    }[form]
    assert leaks({"client secret": {CLIENT_SECRET}}, {"log": said}) != []
    assert leaks({"client secret": {CLIENT_SECRET}}, {"log": said[:20]}) == []


class EchoingServer:
    """A mail server that refuses every token, and says again what it was told."""

    def __init__(self) -> None:
        self.server: ScriptedServer | None = None
        self.auth_lines: set[str] = set()

    def entered(self, loop_thread: LoopThread) -> AbstractContextManager[ScriptedServer]:
        ehlo = say("250-mail.acme.example\n250-ENHANCEDSTATUSCODES\n250 AUTH XOAUTH2")
        return loop_thread.entered(scripted_server({"EHLO": ehlo, "AUTH": self._refuse}))

    async def _refuse(self, peer: Peer) -> None:
        assert self.server is not None
        line = self.server.lines[-1].removeprefix("AUTH XOAUTH2").strip()
        if not line:  # it was too long for the command (RFC 4954 §4)
            await peer.say(b"334 \r\n")
            line = (await peer.reader.readline()).decode().strip()
        self.auth_lines.add(line)
        said = base64.b64decode(line).decode()
        token = said.split("Bearer ")[1].rstrip("\x01")
        challenge = json.dumps({"status": "401", "schemes": "Bearer", "scope": token, "echo": line})
        await peer.say(f"334 {base64.b64encode(challenge.encode()).decode()}\r\n".encode())
        await peer.reader.readline()
        await peer.say(f"535 5.7.8 refused: {token} {line} {quote(token)}\r\n".encode())


@pytest.fixture
def echoing(loop_thread: LoopThread) -> Iterator[EchoingServer]:
    echoing = EchoingServer()
    with echoing.entered(loop_thread) as server:
        echoing.server = server
        yield echoing


def echo(error: str, status: int, provider: IdentityProvider) -> Behaviour:
    """A refusal that says again all that the request has said, and all that was ever issued."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = provider.asked[-1]
        said = [*asked.form.values(), asked.headers.get("Authorization", ""), CLIENT_SECRET]
        text = " ".join([*said, *map(quote, said), *(base64.b64encode(each.encode()).decode() for each in said)])
        body = {"error": error, "error_description": text, "error_uri": f"https://acme.example/?{text}"}
        return web.json_response(body, status=status, headers={"X-Echo": quote(text)[:1000]})

    return answer


class Issued:
    """Everything that a provider has given, or been given."""

    def __init__(self, provider: IdentityProvider) -> None:
        self._provider = provider
        self._id_tokens: set[str] = set()
        grant = provider._grant

        def recorded(request: web.Request, form: Any) -> dict[str, Any]:
            answer = grant(request, form)
            self._id_tokens |= {answer["id_token"]} if "id_token" in answer else set()
            return answer

        provider._grant = recorded  # type: ignore[method-assign]

    def secrets(self, *browsers: Browser) -> dict[str, set[str]]:
        forms = [asked.form for asked in self._provider.token_requests]
        authorized = self._provider.pages.authorized
        return {
            "client secret": {CLIENT_SECRET},
            "authorization header": _authorizations(self._provider.token_requests),
            "code": {*self._provider.pages.codes, *_values(forms, "code")},
            "verifier": _values(forms, "code_verifier"),
            "nonce": _values(authorized, "nonce"),
            "state": _values(authorized, "state"),
            "access token": {*self._provider._access_tokens},
            "refresh token": {*self._provider._refresh_tokens},
            "device code": {*self._provider.pages.devices},
            "ID token": self._id_tokens,
            "cookie": {value for browser in browsers for value in browser.cookies.values()},
        }


def _values(forms: Any, name: str) -> set[str]:
    return {form[name] for form in forms if form.get(name)}


def _authorizations(requests: list[Asked]) -> set[str]:
    return {
        asked.headers["Authorization"].removeprefix("Basic ") for asked in requests if "Authorization" in asked.headers
    }


def test_nothing_of_oauth2_is_told(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    consent_provider: IdentityProvider,
    person: Person,
    echoing: EchoingServer,
    loop_thread: LoopThread,
) -> None:
    provider, pages = consent_provider, consent_provider.pages
    assert echoing.server is not None
    issued, victim = Issued(provider), Browser()
    kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
    created = kube.create(KIND, "mail", namespace, spec=consent_spec(provider, echoing.server))  # type: ignore[arg-type]
    settings = kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")

    # The provider sends an error back, with all that it knows.
    url = person.begin(settings)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    known = " ".join([CLIENT_SECRET, asked["state"], asked["nonce"], quote(CLIENT_SECRET, safe="")])
    pages.redirect_errors.append({"error": "server_error", "error_description": known})
    assert person.finish(kube, person.log_in(url)).title == "No consent"

    # Denied; another account; another browser.
    assert person.consent(kube, settings, decision="deny").title == "No consent"
    assert person.consent(kube, settings, account=OTHER).title == "No consent"
    kube.wait_condition("mail", namespace, "Authorized", "False", "WrongAccount")
    callback = person.log_in(person.begin(settings))
    victim.open(settings["status"]["oauth2"]["authorizeURL"])
    for url in (callback, callback.replace("callback/", "callback/x"), callback + "&error=x", callback + "x" * 20_000):
        assert victim.open(url).status >= 400

    # The code is refused, with an echo.
    provider.answers.append(echo("invalid_grant", 400, provider))
    assert person.finish(kube, callback).title == "No consent"

    # It works; the mail server refuses the token; the token is renewed; the renewal is refused, with an echo.
    provider.access_life = SHORT
    assert person.consent(kube, settings).title == "Mail can be sent"
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "False")
    kube.wait(lambda: grants(provider).count("refresh_token") >= 2, "two renewals")
    provider.answers.append(echo("temporarily_unavailable", 503, provider))
    provider.answers.append(echo("invalid_grant", 400, provider))
    kube.wait(lambda: not provider.answers, "the refused renewal")
    kube.wait_condition("mail", namespace, "Authorized", "False")

    # By a device code, with an echo on the way.
    uris = {"authorizationURI": None, "deviceAuthorizationURI": provider.device_authorization_uri}
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"grant": "DeviceCode", **uris}}})
    kube.wait(lambda: "authorizeURL" not in kube.settings("mail", namespace)["status"]["oauth2"], "device code")  # type: ignore[index]
    secret = ask(kube, namespace, settings)
    user_code = wait_told(kube, secret, "user-code")
    provider.answers.append(echo("authorization_pending", 400, provider))
    kube.wait(lambda: not provider.answers, "the echo of a device code")
    loop_thread.run(provider.log_in_device(user_code))
    results = [wait_told(kube, secret, "result")]
    failed = ask(kube, namespace, settings)
    wait_told(kube, failed, "user-code")
    provider.standing = echo("invalid_grant", 400, provider)  # a renewal that comes between gets it too
    results.append(wait_told(kube, failed, "result"))
    provider.standing = None
    assert [json.loads(each)["authorized"] for each in results] == [True, False]

    told = {
        "log": operator.log_text(),
        "events": json.dumps(kube.api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")),
        "status": json.dumps(settings_changes(kube, namespace, "mail", resource_version(created))),
        "results": json.dumps(results),
        "pages": "".join(html.unescape(page.text) for page in (*person.browser.history, *victim.history)),
    }
    hidden = {**issued.secrets(person.browser, victim), "AUTH line": echoing.auth_lines}
    assert {kind for kind, values in hidden.items() if not values} == set(), "everything has happened"
    assert "[redacted]" in told["status"], "there was something to leak"
    assert leaks(hidden, told) == []


def grants(provider: IdentityProvider) -> list[str]:
    return [asked.form["grant_type"] for asked in provider.token_requests]
