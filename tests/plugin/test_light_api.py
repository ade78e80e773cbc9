"""The connection of commands that are over in a moment: what it says, what it is told, and when it is not used."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
import yaml
from aiohttp import web

from mailsettings.edges.api_server import ApiError, unreachable
from mailsettings.edges.kubernetes_light import LightAccess, LightApi
from mailsettings.plugin.credentials import light_access
from mailsettings.plugin.kubeconfig import Kubeconfig, find_kubeconfig
from tests.support.listening import LOOPBACK, listening

PATH: Final = "/apis/mailsettings.dev/v1alpha1/namespaces/shop/mailservertests"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """Answers in place of an API server."""

    answer: Handler
    port: int = 0
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, str(request.rel_url), body))
        self.connections.add(request.transport)
        return await self.answer(request)


@asynccontextmanager
async def serving(server: Server, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None
    async with listening(runner.server, context=context) as server.port:
        try:
            yield server
        finally:
            await runner.cleanup()


def at(server: Server, **headers: str) -> LightApi:
    return LightApi(LightAccess(f"http://{LOOPBACK}:{server.port}", None, headers))


def answering(status: int, document: Any) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response(document, status=status)

    return answer


async def test_requests_are_made_on_one_connection() -> None:
    server = Server(answering(200, {"kind": "it"}))

    def ask() -> None:
        with at(server, Authorization="Bearer secret") as api:
            assert api.create(PATH, {"spec": {"mode": "ü"}}) == {"kind": "it"}
            assert api.get(f"{PATH}/a") == {"kind": "it"}
            api.delete(f"{PATH}/a", uid="u")

    async with serving(server):
        await asyncio.to_thread(ask)
    assert server.asked == [
        ("POST", f"{PATH}?fieldManager=kubectl-mailsettings", {"spec": {"mode": "ü"}}),
        ("GET", f"{PATH}/a", None),
        ("DELETE", f"{PATH}/a", {"preconditions": {"uid": "u"}}),
    ]
    assert len(server.connections) == 1


async def test_refusals_are_told_as_the_api_server_says_them() -> None:
    server = Server(answering(403, {"kind": "Status", "reason": "Forbidden", "message": "not you"}))

    def ask() -> None:
        with at(server) as api:
            for _ in range(2):  # the connection goes on
                with pytest.raises(ApiError) as caught:
                    api.create(PATH, {})
                assert (caught.value.status, caught.value.reason) == (403, "Forbidden")

    async with serving(server):
        await asyncio.to_thread(ask)
    assert len(server.connections) == 1


async def test_what_is_not_there_is_none() -> None:
    server = Server(answering(404, {"reason": "NotFound"}))

    def ask() -> None:
        with at(server) as api:
            assert api.get(f"{PATH}/a") is None
            api.delete(f"{PATH}/a", uid="u")

    async with serving(server):
        await asyncio.to_thread(ask)


def streaming(*events: Any, then: Callable[[web.Request], Awaitable[None]] | None = None) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for event in events:
            line = f"{json.dumps(event)}\n".encode()
            for part in (line[:7], line[7:]):  # a line may come in parts
                await response.write(part)
        if then is not None:
            await then(request)
        return response

    return answer


async def watched(server: Server, timeout_s: float = 60) -> list[tuple[str, Any]]:
    def watch() -> list[tuple[str, Any]]:
        with at(server) as api:
            return [*api.watch_object(PATH, "a", resource_version="5", timeout_s=timeout_s)]

    async with serving(server):
        return await asyncio.to_thread(watch)


async def test_watch_gives_the_changes_of_one_object() -> None:
    one: dict[str, Any] = {"metadata": {"name": "a"}, "status": {"text": "x" * 100_000}}
    two: dict[str, Any] = {"metadata": {}}
    server = Server(streaming({"type": "ADDED", "object": one}, {"type": "MODIFIED", "object": two}))
    assert await watched(server) == [("ADDED", one), ("MODIFIED", two)]
    ((_, url, _),) = server.asked
    assert "fieldSelector=metadata.name%3Da" in url or "fieldSelector=metadata.name=a" in url
    assert "resourceVersion=5" in url


@pytest.mark.parametrize(
    "answer",
    [
        streaming({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}),
        answering(410, {"reason": "Expired", "message": "too old"}),
    ],
    ids=["on the way", "at once"],
)
async def test_watch_that_is_too_old_says_so(answer: Handler) -> None:
    with pytest.raises(ApiError) as caught:
        await watched(Server(answer))
    assert (caught.value.status, caught.value.reason) == (410, "Expired")


async def test_broken_connection_is_told_as_one() -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    with pytest.raises(unreachable()):
        await watched(Server(breaks))


async def hangs(_request: web.Request) -> None:
    await asyncio.Event().wait()


async def never(request: web.Request) -> web.StreamResponse:
    await hangs(request)
    return web.Response()


@pytest.mark.parametrize(
    "answer", [never, streaming({"type": "ADDED", "object": {}}, then=hangs)], ids=["at once", "on the way"]
)
async def test_watch_is_bounded(answer: Handler) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(TimeoutError):
            await watched(Server(answer), timeout_s=0.05)


async def test_watch_is_bounded_though_there_is_always_something_new() -> None:
    async def talks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b'{"type": "MODIFIED", "object": {}}\n')
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        with pytest.raises(TimeoutError):
            await watched(Server(talks), timeout_s=0.05)


async def test_request_is_bounded_on_a_new_connection_and_on_one_that_was_used() -> None:
    async def once(request: web.Request) -> web.StreamResponse:
        return await (never(request) if request.path.endswith("/b") else answering(200, {})(request))

    server = Server(once)

    def ask() -> None:
        with at(server) as api:
            assert api.get(f"{PATH}/a") == {}
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    api.get(f"{PATH}/b", timeout_s=0.05)
            assert api.get(f"{PATH}/a") == {}, "with a connection of its own"

    async with asyncio.timeout(30), serving(server):
        await asyncio.to_thread(ask)


# Which kubeconfigs will do

AUTHORITY: Final = trustme.CA()
CLIENT: Final = AUTHORITY.issue_cert("person@acme.example")


def encoded(blob: trustme.Blob) -> str:
    return base64.b64encode(blob.bytes()).decode()


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Kubeconfig:
    file = folder / "config"
    content = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file.write_text(yaml.safe_dump(content))
    return find_kubeconfig(str(file), None, {}, folder)


HERE: Final = {"server": "https://127.0.0.1:6443", "certificate-authority-data": encoded(AUTHORITY.cert_pem)}


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({**HERE, "proxy-url": "socks5://127.0.0.1:1"}, {"token": "t"}),
        ({**HERE, "tls-server-name": "api"}, {"token": "t"}),
        (HERE, {"exec": {"command": "login"}}),
        (HERE, {"auth-provider": {"name": "oidc"}}),
        (HERE, {"username": "a", "password": "b"}),
        (HERE, {"token": "t", "as": "somebody"}),
        (HERE, {"tokenFile": "absent"}),
        ({**HERE, "certificate-authority-data": "%%%"}, {"token": "t"}),
        ({"server": "ftp://x"}, {"token": "t"}),
        ({}, {}),
    ],
)
def test_what_is_not_simple_is_left_to_the_official_client(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any]
) -> None:
    assert light_access(kubeconfig(tmp_path, cluster, user), {}) is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_proxy_of_the_environment_is_left_to_the_official_client(tmp_path: Path, name: str) -> None:
    found = kubeconfig(tmp_path, HERE, {"token": "t"})
    assert light_access(found, {name: "http://127.0.0.1:1"}) is None
    assert light_access(found, {}) is not None


def test_token_of_a_file_goes_first_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-file\n")
    access = light_access(kubeconfig(tmp_path, HERE, {"token": "t", "tokenFile": "token"}), {})
    assert access is not None
    assert access.headers == {"Authorization": "Bearer of-the-file"}
    assert "of-the-file" not in repr(access)


def test_kubeconfig_does_not_show_its_secrets(tmp_path: Path) -> None:
    assert "the-token" not in repr(kubeconfig(tmp_path, HERE, {"token": "the-token"}))


def read(access: LightAccess) -> Any:
    with LightApi(access) as api:
        return api.get(PATH)


@pytest.mark.parametrize("in_files", [False, True])
async def test_client_certificate_and_authority_are_used(tmp_path: Path, in_files: bool) -> None:
    cluster: dict[str, Any] = {"certificate-authority-data": encoded(AUTHORITY.cert_pem)}
    user: dict[str, Any] = {
        "client-certificate-data": encoded(CLIENT.cert_chain_pems[0]),
        "client-key-data": encoded(CLIENT.private_key_pem),
    }
    if in_files:  # beside the kubeconfig
        for entry in (cluster, user):
            for key in list(entry):
                name = key.removesuffix("-data")
                (tmp_path / name).write_bytes(base64.b64decode(entry.pop(key)))
                entry[name] = name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(LOOPBACK).configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(answering(200, {"kind": "it"}))
    async with serving(server, context):
        cluster["server"] = f"https://{LOOPBACK}:{server.port}"
        access = light_access(kubeconfig(tmp_path, cluster, user), {})
        assert access is not None
        assert await asyncio.to_thread(read, access) == {"kind": "it"}
        stranger = light_access(kubeconfig(tmp_path, cluster, {"token": "t"}), {})
        assert stranger is not None
        with pytest.raises(unreachable()):
            await asyncio.to_thread(read, stranger)
        other = {**cluster, "certificate-authority-data": encoded(trustme.CA().cert_pem)}
        deceived = light_access(kubeconfig(tmp_path, other, user), {})
        assert deceived is not None
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(read, deceived)
