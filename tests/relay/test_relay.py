"""The relay with real clients, before a mail server on aiosmtpd and one that misbehaves to order."""

import asyncio
import base64
import gc
import smtplib
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiosmtplib
import pytest

from mailsettings.core.egress import EgressPolicy
from mailsettings.core.redact import redact
from mailsettings.core.relay.audit import Outcome
from mailsettings.core.relay.bundle import Bundle
from mailsettings.core.relay.faults import RelayFault
from mailsettings.core.relay.passwords import hash_password, new_password
from mailsettings.core.relay.replies import MAX_LINES, MAX_SEEN_OCTETS, Reply
from mailsettings.core.relay.session import Limits
from mailsettings.edges.relay import channel, upstream
from mailsettings.edges.relay.channel import PeerGoneError
from mailsettings.edges.relay.server import Bounds, Options, Patience
from mailsettings.edges.relay.upstream import Connection
from tests.support.proxies import PROXY_LOGIN, real_proxy
from tests.support.relay import (
    ACCOUNT,
    HASH,
    MESSAGE,
    RECIPIENT,
    SECRET,
    SENDER,
    RawClient,
    RunningRelay,
    bundle,
    eventually,
    running,
    tenant,
)
from tests.support.smtp_server import (
    BEARER_MECHANISMS,
    HEALTHY,
    PASSWORD,
    USERNAME,
    Peer,
    certificate,
    close,
    mail_server,
    reset,
    say,
    scripted_server,
)

T = TypeVar("T")


def with_smtplib(where: RunningRelay, work: Callable[[smtplib.SMTP], T], *, implicit: bool = False) -> Any:
    """What the work gives, with a client that has logged in, in a thread."""
    context = ssl.create_default_context(cadata=where.certificate.ca_pem)

    def run() -> T:
        if implicit:
            client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", where.implicit, context=context, timeout=20)
        else:
            client = smtplib.SMTP("127.0.0.1", where.start_tls, timeout=20)
            client.starttls(context=context)
        with client:
            client.login(ACCOUNT, SECRET)
            return work(client)

    return asyncio.to_thread(run)


class TestClients:
    @pytest.mark.parametrize("implicit", [True, False])
    async def test_smtplib(self, *, implicit: bool) -> None:
        async with (
            mail_server(auth_without_tls=True, auth_required=True) as server,
            running(bundle(server.port)) as relay,
        ):
            refused = await with_smtplib(
                relay, lambda c: c.sendmail(SENDER, [RECIPIENT, "b@c.example"], MESSAGE), implicit=implicit
            )
            assert refused == {}
            [mail] = server.mails
            assert (mail.sender, mail.recipients, mail.data) == (SENDER, [RECIPIENT, "b@c.example"], MESSAGE)
            assert [(name, password) for _, name, password in server.attempts] == [(USERNAME, PASSWORD)]
            [record] = relay.sink.records
            assert (record.outcome, record.recipients, record.octets) == (Outcome.ACCEPTED, 2, len(MESSAGE))
            assert (record.namespace, record.settings, record.sender) == ("acme", "notifications", SENDER)
            assert (record.code, record.enhanced, record.text) == (250, "2.0.0", "kept")
            assert record.addresses == ()

    @pytest.mark.parametrize("implicit", [True, False])
    async def test_aiosmtplib(self, *, implicit: bool) -> None:
        async with mail_server(auth_without_tls=True) as server, running(bundle(server.port)) as relay:
            context = ssl.create_default_context(cadata=relay.certificate.ca_pem)
            port = relay.implicit if implicit else relay.start_tls
            client = aiosmtplib.SMTP(
                hostname="127.0.0.1", port=port, use_tls=implicit, start_tls=not implicit, tls_context=context
            )
            async with client:
                await client.login(ACCOUNT, SECRET)
                for _ in range(3):
                    await client.sendmail(SENDER, [RECIPIENT], MESSAGE)
            assert [mail.data for mail in server.mails] == [MESSAGE] * 3
            assert server.connections == 1

    async def test_connections_are_kept_between_clients(self) -> None:
        async with mail_server(auth_without_tls=True) as server, running(bundle(server.port)) as relay:
            for _ in range(3):
                await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            assert (len(server.mails), server.connections) == (3, 1)

    async def test_they_are_not_kept_for_long(self) -> None:
        options = Options(upstream_idle_s=0.01)
        async with mail_server(auth_without_tls=True) as server, running(bundle(server.port), options=options) as relay:
            await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            await server.closed()

    async def test_they_end_politely(self) -> None:
        async with scripted_server() as server:
            async with running(bundle(server.port)) as relay:
                await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            await server.left.wait()
            assert server.lines[-1] == "QUIT"

    async def test_a_transaction_that_is_given_up_leaves_no_trace(self) -> None:
        async with mail_server(auth_without_tls=True) as server, running(bundle(server.port)) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("250")
                assert (await client.say(b"RCPT TO:<other@acme.example>")).startswith("250")
                assert (await client.say(b"RSET")).startswith("250")
                await client.begin()
                await client.send(MESSAGE.replace(b"\r\n.", b"\r\n.."))
                assert (await client.say(b".")).startswith("250 2.0.0 kept")
            assert [mail.recipients for mail in server.mails] == [[RECIPIENT]]
            assert [record.outcome for record in relay.sink.records] == [Outcome.ABANDONED, Outcome.ACCEPTED]


class TestUpstream:
    @pytest.mark.parametrize("mechanism", BEARER_MECHANISMS)
    async def test_tokens_over_tls(self, mechanism: str) -> None:
        own = certificate("127.0.0.1")
        login = {"username": USERNAME, "accessToken": "t" * 1500}
        async with mail_server(start_tls=own.context, mechanisms=(mechanism,), login=(USERNAME, "t" * 1500)) as server:
            given = bundle(server.port, server={"tlsMode": "StartTLS", "caBundle": own.ca_pem}, login=login)
            async with running(given) as relay:
                await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
                assert [mail.data for mail in server.mails] == [MESSAGE]

    async def test_a_refused_token_is_renewed_once(self) -> None:
        class Renewing:
            asked = 0

            async def renewed(self, old: Bundle) -> Bundle:
                self.asked += 1
                assert old.login is not None
                return old.model_copy(update={"login": old.login.model_copy(update={"access_token": "new"})})

        tokens = Renewing()
        async with mail_server(auth_without_tls=True, mechanisms=("XOAUTH2",), login=(USERNAME, "new")) as server:
            given = bundle(server.port, login={"username": USERNAME, "accessToken": "old"})
            options = Options(upstream_idle_s=0.01)
            async with running(given, tokens=tokens, options=options) as relay:
                for _ in range(2):
                    await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
                    await server.closed()
            assert [token for _, _, token in server.attempts] == ["old", "new", "new"]
            assert tokens.asked == 1
            assert len(server.mails) == 2

    async def test_a_login_that_is_refused_is_not_tried_again_at_once(self) -> None:
        async with (
            mail_server(auth_without_tls=True, login=(USERNAME, "other")) as server,
            running(bundle(server.port)) as relay,
        ):
            for _ in range(3):
                with pytest.raises(smtplib.SMTPSenderRefused) as error:
                    await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
                assert (error.value.smtp_code, error.value.smtp_error[:5]) == (451, b"4.7.0")
            assert len(server.attempts) == 1
            assert relay.sink.failures == [("system", "BadCredentials")]
            assert {record.fault for record in relay.sink.records} == {"login"}

    async def test_no_token_yet(self) -> None:
        async with running(bundle(9, login={"username": USERNAME})) as relay:
            with pytest.raises(smtplib.SMTPSenderRefused) as error:
                await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            assert error.value.smtp_code == 451

    async def test_nobody_there(self) -> None:
        async with scripted_server() as server:
            port = server.port
        async with running(bundle(port)) as relay:
            with pytest.raises(smtplib.SMTPSenderRefused) as error:
                await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            assert (error.value.smtp_code, error.value.smtp_error[:5]) == (451, b"4.4.1")

    @pytest.mark.parametrize(
        ("script", "reply"),
        [
            ({"MAIL": say("550 5.7.60 SendAsDenied")}, "550 5.7.60 SendAsDenied"),
            ({"MAIL": say("421 4.3.2 too many")}, "451 4.3.2 too many"),
            ({"MAIL": say("530 5.7.57 not authenticated")}, "451 4.7.0 the mail server refuses"),
            ({"MAIL": close}, "451 4.4.1"),
            ({"MAIL": say("what?")}, "451 4.5.0"),
            ({"MAIL": say("354 go")}, "451 4.5.0"),
            ({"RCPT": say("550 5.1.1 no such user")}, "550 5.1.1 no such user"),
            ({"RCPT": say("452 4.5.3 full\n452 4.5.3 really")}, "452"),
            ({"RCPT": reset}, "451 4.4.1"),
            ({"DATA": say("554 5.7.1 no")}, "554 5.7.1 no"),
            ({"DATA": say("250 2.0.0 taken, before it was sent")}, "451 4.5.0"),
            ({"DATA": close}, "451 4.4.1"),
            ({".": say("554 5.6.0 spam")}, "554 5.6.0 spam"),
            ({".": say("452 4.2.2 full")}, "452 4.2.2 full"),
            ({".": close}, "451 4.4.2"),
            ({".": reset}, "451 4.4.2"),
            ({".": say("what?")}, "451 4.4.2"),
            ({".": say("250 2.0.0 queued as 4711")}, "250 2.0.0 queued as 4711"),
            ({".": say(f"250 2.0.0 {PASSWORD}")}, "250 2.0.0 ok"),
            ({".": say(f"550 5.0.0 {PASSWORD}")}, "550 5.0.0 [redacted]"),
        ],
    )
    async def test_its_word_is_passed_on_and_faults_are_for_a_while(self, script: dict[str, Any], reply: str) -> None:
        async with (
            scripted_server(script) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            said = [
                await client.say(f"MAIL FROM:<{SENDER}>".encode()),
                await client.say(f"RCPT TO:<{RECIPIENT}>".encode()),
            ]
            said.append(await client.say(b"DATA"))
            if said[-1].startswith("354"):
                await client.send(b"From: no-reply@acme.example\r\n\r\nhello\r\n")
                said.append(await client.say(b"."))
            assert any(each.startswith(reply.partition("\n")[0]) for each in said), said
            assert (await client.say(b"NOOP")).startswith("250")
            assert server.lines.count(".") <= 1

    async def test_what_is_not_passed_on_of_a_reply_is_not_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: list[int] = []
        longest: list[int] = []

        def counted(text: str, secrets: Iterable[str], *, tokens: Iterable[str]) -> str:
            lines.append(text.count("\n") + 1)
            longest.append(max(map(len, text.split("\n"))))
            return redact(text, secrets, tokens=tokens)

        monkeypatch.setattr(upstream, "redact", counted)
        long = "\n".join(["550-5.1.1 no" + 60_000 * "x"] + ["550-5.1.1 no"] * 200 + ["550 5.1.1 no"])
        async with (
            scripted_server({"MAIL": say(long)}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("550-5.1.1 no")
        assert max(lines) == MAX_LINES
        assert max(longest) == MAX_SEEN_OCTETS

    @pytest.mark.parametrize("login", [{"password": 999 * "pass"}, {"password": 99 * "word"}])
    @pytest.mark.parametrize("before", [0, 400, 470, MAX_SEEN_OCTETS - 100])
    async def test_a_secret_in_a_long_line_is_not_passed_on(self, login: dict[str, str], before: int) -> None:
        (secret,) = login.values()
        refusal = say(f"550 5.1.1 {before * '-'}{secret}{9999 * '-'}")
        async with (
            scripted_server({"MAIL": refusal}) as server,
            running(bundle(server.port, login={"username": USERNAME, **login})) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            reply = await client.say(f"MAIL FROM:<{SENDER}>".encode())
            assert reply.startswith("550 5.1.1")
            assert secret[:12] not in reply

    async def test_where_it_may_not_connect_to(self) -> None:
        async with scripted_server() as server:
            given = bundle(server.port, level="Tenant")
            async with running(given, egress=EgressPolicy.parse()) as relay, RawClient.to(relay) as client:
                await client.log_in()
                assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("451 4.4.1")
                assert relay.sink.failures == [("system", "EgressDenied")]
            assert server.lines == []

    async def test_through_a_proxy(self, tmp_path: Path) -> None:
        async with mail_server(auth_without_tls=True) as server, real_proxy(tmp_path, PROXY_LOGIN) as proxy:
            spec = {
                "protocol": "SOCKS5",
                "host": "127.0.0.1",
                "port": proxy.port,
                "username": PROXY_LOGIN.username,
                "password": PROXY_LOGIN.password,
            }
            async with running(bundle(server.port, server={"proxy": spec})) as relay:
                await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            assert [mail.data for mail in server.mails] == [MESSAGE]
            assert f":{server.port}" in proxy.log

    async def test_a_dead_connection_is_replaced_before_a_message_is_begun(self) -> None:
        ends = iter([HEALTHY["."], HEALTHY["."]])
        mails = 0

        async def mail_once(peer: Peer) -> None:
            nonlocal mails
            mails += 1
            await (close(peer) if mails == 2 else peer.say(b"250 2.1.0 ok\r\n"))

        async with scripted_server({"MAIL": mail_once, ".": next(ends)}) as server:
            async with running(bundle(server.port)) as relay:
                for _ in range(2):
                    await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            assert server.lines.count(".") == 2
            assert mails == 3

    @pytest.mark.parametrize("farewell", [b"421 4.4.2 idle for too long\r\n", b"250 ok\r\n", b"4"])
    async def test_a_server_that_says_something_by_itself_is_not_trusted_with_another_message(
        self, farewell: bytes
    ) -> None:
        """A late reply, or one too many, would be taken for that to the next command."""

        async def twice(peer: Peer) -> None:
            await peer.say(b"250 2.0.0 kept\r\n" + farewell)

        async with scripted_server({".": twice}) as server, running(bundle(server.port)) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                for _ in range(2):
                    await client.begin()
                    await client.send(b"From: no-reply@acme.example\r\n\r\n.\r\n")
                    assert (await client.reply()).startswith("250")
            assert server.lines.count(".") == 2
            assert sum(line.startswith("AUTH") for line in server.lines) == 2

    async def test_nothing_is_sent_again_after_the_final_dot(self) -> None:
        async with scripted_server({".": close}) as server, running(bundle(server.port)) as relay:
            with pytest.raises(smtplib.SMTPDataError) as error:
                await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            assert (error.value.smtp_code, error.value.smtp_error[:5]) == (451, b"4.4.2")
            assert server.lines.count(".") == 1
            assert relay.sink.records[0].outcome is Outcome.UNKNOWN

    async def test_what_the_server_lacks(self) -> None:
        script = {"EHLO": say("250-mail.acme.example\n250 AUTH PLAIN")}
        async with (
            scripted_server(script) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            assert (await client.say(f"MAIL FROM:<{SENDER}> BODY=8BITMIME".encode())).startswith("554 5.6.3")
            assert (await client.say(f"MAIL FROM:<{SENDER}> SIZE=5 RET=HDRS".encode())).startswith("250")
            assert f"MAIL FROM:<{SENDER}>" in server.lines

    @pytest.mark.parametrize(
        ("pieces", "reply"),
        [
            ([b"552 5.3.4 too large\r\n"], "552 5.3.4 too large"),
            ([b"452-4.3.1 no", b" room\r\n452 4.3.1 today\r\n"], "452-4.3.1 no room"),
            ([b"421 4.3.2 I am leaving\r\n"], "451 4.3.2 I am leaving"),
            ([b"250 2.0.0 enough\r\n"], "451 4.5.0"),
            ([b"what?\r\n"], "451 4.4.1"),
            ([], "451 4.4.1"),
        ],
    )
    async def test_while_the_client_is_silent(self, pieces: list[bytes], reply: str) -> None:
        """What the server says to an unfinished message ends its connection at once, and the client is told later."""
        begun = asyncio.Event()

        async def speak(peer: Peer) -> None:
            await peer.say(b"354 go\r\n")
            await begun.wait()
            for piece in pieces:
                await asyncio.sleep(0.02)  # most of the time they come one by one
                await peer.say(piece)
            if not pieces:
                await peer.close()
            await peer.gone()

        async with (
            scripted_server({"DATA": speak}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            await client.begin()
            (connection,) = relay.relay.pools.of("system")._of
            await client.send(b"From: no-reply@acme.example\r\n\r\nhello\r\n")
            await eventually(lambda: connection._in_message)
            begun.set()
            await eventually(lambda: relay.relay.pools.connections == 0)
            assert (await client.say(b"and more\r\n.")).startswith(reply)

    async def test_early_refusals(self) -> None:
        """The server refuses the message while it still comes."""

        async def refuse(peer: Peer) -> None:
            await peer.say(b"354 go\r\n")
            await peer.reader.readexactly(1000)
            await peer.say(b"552 5.3.4 too large\r\n")
            await peer.gone()

        async with (
            scripted_server({"DATA": refuse}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            await client.begin()
            await client.send(b"From: no-reply@acme.example\r\n\r\n" + b"x" * 5000 + b"\r\n")
            await eventually(lambda: server.left.is_set() or _poke(client))
            assert (await client.say(b".")).startswith("552 5.3.4 too large")

    @pytest.mark.parametrize(
        "pieces", [(b"552 5.3.4 too large\r\n",), (b"552-5.3.4 too large\r\n", b"552 5.3.4 for us\r\n")]
    )
    async def test_a_refusal_by_a_server_that_reads_no_more(self, pieces: tuple[bytes, ...]) -> None:
        """It keeps the connection, too: nothing but its reply tells that it has ended the message."""
        blocked = asyncio.Event()

        async def refuse(peer: Peer) -> None:
            await peer.say(b"354 go\r\n")
            await blocked.wait()
            for piece in pieces:
                await peer.say(piece)
                await asyncio.sleep(0.05)  # so that they come one by one, most of the time
            await asyncio.Event().wait()

        async with (
            scripted_server({"DATA": refuse}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            await _send_more_than_is_read(relay, client, then=blocked.set)
            await eventually(lambda: relay.relay.pools.connections == 0)
            assert (await client.say(b".")).startswith("552-5.3.4 too large" if pieces[1:] else "552 5.3.4 too large")

    async def test_a_server_that_ends_the_connection_and_reads_no_more(self) -> None:
        blocked = asyncio.Event()

        async def leave(peer: Peer) -> None:
            await peer.say(b"354 go\r\n")
            await blocked.wait()
            peer.writer.write_eof()
            await asyncio.Event().wait()

        async with (
            scripted_server({"DATA": leave}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            await _send_more_than_is_read(relay, client, then=blocked.set)
            assert (await client.say(b".")).startswith("451 4.4.1")


async def _send_more_than_is_read(relay: RunningRelay, client: RawClient, then: Callable[[], None]) -> None:
    """Sends a message to a mail server that reads no more; something happens once the relay waits for it."""
    await client.begin()
    (connection,) = relay.relay.pools.of("system")._of
    line = b"x" * 990 + b"\r\n"
    sending = asyncio.ensure_future(client.send(b"From: no-reply@acme.example\r\n\r\n" + line * 20_000))
    await eventually(lambda: connection._channel._writable is not None)
    then()
    await sending


def _poke(client: RawClient) -> bool:
    """A little more of the message."""
    client.writer.write(b"x\r\n")
    return False


def _is_heard(relay: RunningRelay) -> bool:
    """Whether a client's connection stands, as far as the relay knows."""
    return any(client.channel.is_open for client in relay.relay._clients.values())


class TestLoss:
    @pytest.mark.parametrize("orderly", [True, False])
    async def test_a_message_whose_client_has_vanished_is_never_ended(self, *, orderly: bool) -> None:
        async with scripted_server() as server, running(bundle(server.port)) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                await client.begin()
                await client.send(b"From: no-reply@acme.example\r\n\r\nhello\r\n")
                await eventually(lambda: "DATA" in server.lines)
                if orderly:
                    client.writer.close()
            await server.left.wait()
            assert "." not in server.lines
            assert [record.outcome for record in relay.sink.records] == [Outcome.ABANDONED]

    async def test_nor_is_one_whose_client_vanished_while_the_mail_server_was_slow(self) -> None:
        asked, released = asyncio.Event(), asyncio.Event()
        heard = bytearray()

        async def slowly(peer: Peer) -> None:
            asked.set()
            await released.wait()
            await peer.say(b"354 go\r\n")
            while data := await peer.reader.read(4096):
                heard.extend(data)

        options = Options(patience=Patience(close_s=0.1))
        async with (
            scripted_server({"DATA": slowly}) as server,
            running(bundle(server.port), options=options) as relay,
        ):
            async with RawClient.to(relay) as client:
                await client.log_in()
                await client.begin()
                await client.send(b"From: no-reply@acme.example\r\n\r\nhello\r\n.\r\n")
                await asked.wait()
            await eventually(lambda: not _is_heard(relay))
            released.set()
            await eventually(lambda: relay.sink.records or heard)
            assert heard == b""
            [record] = relay.sink.records
            assert (record.outcome, record.fault) == (Outcome.ABANDONED, RelayFault.CLIENT_GONE)

    async def test_nor_one_whose_client_vanished_while_the_mail_server_did_not_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocked, released = asyncio.Event(), asyncio.Event()
        write = Connection.write

        async def slowly(connection: Connection, data: bytes) -> None:
            await write(connection, data)
            blocked.set()
            await released.wait()

        monkeypatch.setattr(Connection, "write", slowly)
        async with scripted_server() as server, running(bundle(server.port)) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                await client.begin()
                await client.send(b"From: no-reply@acme.example\r\n\r\nhello\r\n")
                await eventually(lambda: "DATA" in server.lines)
                await client.send(b"hello again\r\n")
                await blocked.wait()
                await client.send(b"and again\r\n.\r\n")
            await eventually(lambda: not _is_heard(relay))
            released.set()
            await eventually(lambda: relay.sink.records)
            assert "." not in server.lines
            [record] = relay.sink.records
            assert (record.outcome, record.fault) == (Outcome.ABANDONED, RelayFault.CLIENT_GONE)

    async def test_nothing_is_added_to_a_message_that_is_not_ended(self) -> None:
        heard = bytearray()

        async def listen(peer: Peer) -> None:
            await peer.say(b"354 go\r\n")
            while data := await peer.reader.read(4096):
                heard.extend(data)

        async with scripted_server({"DATA": listen}) as server, running(bundle(server.port)) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                await client.begin()
                await client.send(b"From: no-reply@acme.example\r\n\r\n" + b"x" * 200_000)
                await eventually(lambda: heard)
            await server.left.wait()
        assert heard.startswith(b"From: no-reply@acme.example\r\n\r\nxxx")
        assert not heard.strip(b"x").endswith(b"\r\n.\r\n")
        assert b"RSET" not in heard

    async def test_no_250_before_the_servers(self) -> None:
        asked, released = asyncio.Event(), asyncio.Event()

        async def slowly(peer: Peer) -> None:
            asked.set()
            await released.wait()
            await peer.say(b"250 2.0.0 kept\r\n")

        async with (
            scripted_server({".": slowly}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            await client.begin()
            await client.send(b"From: no-reply@acme.example\r\n\r\n.\r\n")
            await asked.wait()
            answer = asyncio.ensure_future(client.reply())
            done, _ = await asyncio.wait([answer], timeout=0.05)
            assert not done
            released.set()
            assert (await answer).startswith("250")

    async def test_the_end_finishes_what_has_begun(self) -> None:
        asked, released = asyncio.Event(), asyncio.Event()

        async def slowly(peer: Peer) -> None:
            asked.set()
            await released.wait()
            await peer.say(b"250 2.0.0 kept\r\n")

        async with (
            scripted_server({".": slowly}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as busy,
            RawClient.to(relay) as writing,
            RawClient.to(relay) as idle,
        ):
            for client in (busy, writing, idle):
                await client.log_in()
            await busy.begin()
            await busy.send(b"From: no-reply@acme.example\r\n\r\n.\r\n")
            await asked.wait()
            await writing.begin()
            await writing.send(b"From: no-reply@acme.example\r\n\r\n")
            end = asyncio.ensure_future(relay.relay.close())
            assert (await idle.reply()).startswith("421 4.3.2")
            with pytest.raises(OSError, match="Connect"):
                await asyncio.open_connection("127.0.0.1", relay.start_tls)
            released.set()
            assert (await busy.reply()).startswith("250")
            assert (await busy.reply()).startswith("421")
            assert (await writing.say(b".")).startswith("250")
            assert (await writing.reply()).startswith("421")
            await end
            assert relay.relay.connections == 0

    async def test_the_end_does_not_wait_for_ever(self) -> None:
        options = Options(patience=Patience(close_s=0.05))
        async with scripted_server() as server, running(bundle(server.port), options=options) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                await client.begin()
                await client.send(b"From: no-reply@acme.example\r\n\r\n")
                await relay.relay.close()
                assert await client.reply() == ""
            await server.left.wait()
            assert "." not in server.lines

    async def test_what_nobody_knows_at_the_end_is_said(self) -> None:
        asked = asyncio.Event()

        async def never(peer: Peer) -> None:
            asked.set()
            await peer.gone()

        options = Options(patience=Patience(close_s=0.05))
        async with scripted_server({".": never}) as server, running(bundle(server.port), options=options) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                await client.begin()
                await client.send(b"From: no-reply@acme.example\r\n\r\n.\r\n")
                await asked.wait()
                await relay.relay.close()
                assert (await client.reply()).startswith("451 4.4.2")
            [record] = relay.sink.records
            assert (record.outcome, record.code) == (Outcome.UNKNOWN, 451)

    async def test_a_mistake_at_a_messages_end_leaves_room_for_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def broken(_connection: Connection, _rest: bytes) -> Reply:
            raise RuntimeError

        given = {"limits": {"connections": 1, "messagesPerMinute": 600}}
        options = Options(upstream_wait_s=5)
        async with scripted_server() as server, running(bundle(server.port, **given), options=options) as relay:
            with monkeypatch.context() as patched:
                patched.setattr(Connection, "end_data", broken)
                async with RawClient.to(relay) as client:
                    await client.log_in()
                    await client.begin()
                    await client.send(b"From: no-reply@acme.example\r\n\r\n.\r\n")
                    assert (await client.reply()).startswith("451 4.4.2")
            async with RawClient.to(relay) as client:
                await client.log_in()
                assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("250")


class TestRules:
    @pytest.mark.parametrize(
        ("changes", "sender", "recipient", "message", "reply"),
        [
            ({"sending": "Blocked"}, SENDER, RECIPIENT, MESSAGE, "550 5.7.1 sending: "),
            ({}, "ceo@acme.example", RECIPIENT, MESSAGE, "550 5.7.1 allowedFrom: "),
            ({}, "", RECIPIENT, MESSAGE, "550 5.7.1 allowedFrom: "),
            ({}, SENDER, RECIPIENT, b"From: ceo@acme.example\r\n\r\nx\r\n", "550 5.7.1 allowedFrom: "),
            ({}, SENDER, RECIPIENT, b"Subject: x\r\n\r\nx\r\n", "554 5.6.0 header: "),
            ({"recipientDomains": ["b.example"]}, SENDER, RECIPIENT, MESSAGE, "550 5.7.1 recipientDomains: "),
            ({"maxMessageOctets": 50}, SENDER, RECIPIENT, MESSAGE, "552 5.3.4 maxMessageSize: "),
            ({"rateLimits": "1:3600"}, SENDER, RECIPIENT, MESSAGE, ""),
        ],
    )
    async def test_a_refusal_names_the_rule(
        self, changes: dict[str, Any], sender: str, recipient: str, message: bytes, reply: str
    ) -> None:
        async with (
            scripted_server() as server,
            running(bundle(server.port, tenant=changes)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            said = [await client.say(f"MAIL FROM:<{sender}>".encode())]
            said.append(await client.say(f"RCPT TO:<{recipient}>".encode()))
            said.append(await client.say(b"DATA"))
            if said[-1].startswith("354"):
                await client.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
                said.append(await client.reply())
            if reply:
                assert any(each.startswith(reply) for each in said), said
                assert "." not in server.lines
                assert (await client.say(b"QUIT")).startswith("221")
                [record] = relay.sink.records
                assert record.outcome is Outcome.DENIED
                assert f"{record.rule}: " in record.text
            else:
                assert said[-1].startswith("250")
                assert (await client.say(f"MAIL FROM:<{sender}>".encode())).startswith("450 4.7.28 rateLimits: ")

    async def test_a_message_that_grows_beyond_the_bound(self) -> None:
        changes = {"maxMessageOctets": 100_000}
        async with scripted_server() as server, running(bundle(server.port, tenant=changes)) as relay:
            async with RawClient.to(relay) as client:
                await client.log_in()
                await client.begin()
                await client.send(b"From: no-reply@acme.example\r\n\r\n" + (b"x" * 998 + b"\r\n") * 200 + b".\r\n")
                assert (await client.reply()).startswith("552 5.3.4")
                assert (await client.say(b"NOOP")).startswith("250")
            await server.left.wait()
            assert "." not in server.lines

    async def test_rewriting(self) -> None:
        async with (
            mail_server(auth_without_tls=True) as server,
            running(bundle(server.port, tenant={"foreignSender": "Rewrite"})) as relay,
        ):
            message = b"From: ceo@acme.example\r\nSubject: x\r\n\r\nhello\r\n"
            await with_smtplib(relay, lambda c: c.sendmail("ceo@acme.example", [RECIPIENT], message))
            [mail] = server.mails
            assert mail.sender == SENDER
            assert mail.data == b"From: Acme <no-reply@acme.example>\r\nSubject: x\r\n\r\nhello\r\n"

    async def test_settings_hold_from_the_next_message_on(self) -> None:
        async with scripted_server() as server, running(bundle(server.port)) as relay, RawClient.to(relay) as client:
            await client.log_in()
            relay.bundles.replace([bundle(server.port, tenant={"sending": "Blocked"})])
            assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("550 5.7.1 sending: ")
            relay.bundles.replace([])
            assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("451 4.3.5")

    @pytest.mark.parametrize(
        "changes",
        [
            {"passwords": [hash_password(new_password())]},
            {"passwords": [], "tokens": True},
            {"passwords": [hash_password(new_password()), HASH], "until": "2026-01-01T00:00:00Z"},
            {"namespace": "other"},
            {"settings": "other"},
        ],
    )
    async def test_no_session_outlives_its_login(self, changes: dict[str, Any]) -> None:
        async with scripted_server() as server, running(bundle(server.port)) as relay, RawClient.to(relay) as client:
            await client.log_in()
            kept = [hash_password(new_password()), HASH]
            relay.bundles.replace([bundle(server.port, tenant={"passwords": kept})])
            assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("250")
            assert (await client.say(b"RSET")).startswith("250")
            relay.bundles.replace([bundle(server.port, tenant=changes)])
            assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("421 4.7.0")
            assert await client.reply() == ""
            assert len(relay.sink.records) == 1

    async def test_no_session_lasts_for_ever(self) -> None:
        options = Options(patience=Patience(session_s=0.2))
        async with (
            scripted_server() as server,
            running(bundle(server.port), options=options) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            async with asyncio.timeout(20):
                while (reply := await client.say(b"NOOP")).startswith("250"):  # noqa: ASYNC110 - the relay says when
                    await asyncio.sleep(0.01)
            assert reply.startswith("421 4.4.2")

    async def test_no_message_makes_a_session_last(self) -> None:
        async with scripted_server() as server, running(bundle(server.port)) as relay, RawClient.to(relay) as client:
            await client.log_in()
            await client.begin()
            [session] = relay.relay._clients.values()
            session._session_by_s = 0
            await client.send(f"From: {SENDER}\r\n\r\n.\r\nMAIL FROM:<{SENDER}>\r\n".encode())
            assert (await client.reply()).startswith("250")
            assert (await client.reply()).startswith("421 4.7.0")

    async def test_another_server_gets_no_message_for_the_old_one(self) -> None:
        async with (
            mail_server(auth_without_tls=True) as old,
            mail_server(auth_without_tls=True) as new,
            running(bundle(old.port)) as relay,
        ):
            await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            relay.bundles.replace([bundle(new.port)])
            await with_smtplib(relay, lambda c: c.sendmail(SENDER, [RECIPIENT], MESSAGE))
            assert (len(old.mails), len(new.mails)) == (1, 1)
            await old.closed()


class TestAudit:
    @pytest.mark.parametrize("recorded", [True, False])
    async def test_recipients_are_recorded_where_they_may_be(self, *, recorded: bool) -> None:
        kept = {".": say(f"250 2.0.0 for {RECIPIENT}")}
        for acts in (kept, {**kept, "RCPT": say(f"550 5.1.1 <{RECIPIENT}>: no such user")}):
            async with (
                scripted_server(acts) as server,
                running(bundle(server.port, tenant={"auditRecipients": recorded})) as relay,
                RawClient.to(relay) as client,
            ):
                await client.log_in()
                await client.say(f"MAIL FROM:<{SENDER}>".encode())
                if (await client.say(f"RCPT TO:<{RECIPIENT}>".encode())).startswith("250"):
                    await client.say(b"DATA")
                    await client.say(b"From: no-reply@acme.example\r\n\r\n.")
                await client.say(b"QUIT")
                await eventually(relay.sink.records.copy)
                assert (RECIPIENT in relay.sink.records[0].line()) is recorded


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """What has cycles stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class TestConnections:
    @pytest.mark.parametrize(
        ("changes", "tries_again"),
        [
            ({}, False),
            ({"tenant": {"sending": "Allowed", "mailFrom": "Other <no-reply@acme.example>"}}, False),
            ({"tenants": [tenant(), tenant(username="other.x", namespace="other")]}, False),
            ({"login": {"username": USERNAME, "password": "another"}}, True),
            ({"login": {"username": "another", "password": PASSWORD}}, True),
            ({"login": {"username": USERNAME, "accessToken": "another"}}, True),
            ({"server": {"timeoutSeconds": 11}}, True),
        ],
    )
    async def test_a_refused_login_is_tried_again_once_it_has_changed(
        self, changes: dict[str, Any], *, tries_again: bool
    ) -> None:
        """What changes of a tenant changes nothing: mail servers lock accounts after some wrong logins."""
        async with (
            scripted_server({"AUTH": say("535 5.7.8 wrong")}) as server,
            running(bundle(server.port)) as relay,
            RawClient.to(relay) as client,
        ):
            await client.log_in()
            assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("451 4.7.0")
            tried = len(relay.sink.failures)
            relay.bundles.replace([bundle(server.port, **changes)])
            assert (await client.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("451 4.")
            assert (len(relay.sink.failures) > tried) is tries_again

    async def test_no_more_than_permitted_and_tenants_in_turn(self) -> None:
        """One tenant's many messages do not make another's wait for all of them."""
        most = now = 0
        order: list[str] = []

        async def counted(peer: Peer) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await peer.say(b"250 2.1.0 ok\r\n")

        async def end(peer: Peer) -> None:
            nonlocal now
            await asyncio.sleep(0.005)
            now -= 1
            await peer.say(b"250 2.0.0 kept\r\n")

        async with scripted_server({"MAIL": counted, ".": end}) as server:
            tenants = [tenant(), tenant(username="other.x", namespace="other")]
            async with running(bundle(server.port, connections=3, tenants=tenants)) as relay:

                async def send(account: str) -> None:
                    async with RawClient.to(relay) as client:
                        await client.log_in(account)
                        await client.begin()
                        await client.send(b"From: no-reply@acme.example\r\n\r\n.\r\n")
                        assert (await client.reply()).startswith("250")
                        order.append(account)

                many = [asyncio.ensure_future(send(ACCOUNT)) for _ in range(12)]
                await eventually(lambda: most == 2)
                await send("other.x")
                await asyncio.gather(*many)
            assert 2 <= most <= 3
            assert order.index("other.x") < 8

    async def test_one_connection_is_left_to_the_others(self) -> None:
        tenants = [tenant(), tenant(username="acme.second"), tenant(username="other.x", namespace="other")]
        options = Options(upstream_wait_s=0.05)
        mail = f"MAIL FROM:<{SENDER}>".encode()
        async with (
            scripted_server() as server,
            running(bundle(server.port, connections=2, tenants=tenants), options=options) as relay,
            RawClient.to(relay) as first,
            RawClient.to(relay) as second,
            RawClient.to(relay) as other,
        ):
            await first.log_in()
            await second.log_in("acme.second")
            await other.log_in("other.x")
            await first.begin()
            waiting = asyncio.ensure_future(second.say(mail))
            assert (await other.say(mail)).startswith("250")
            assert (await waiting).startswith("451 4.3.2")
            assert (await other.say(b"RSET")).startswith("250")
            assert (await second.say(mail)).startswith("451 4.3.2")
            assert (await first.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")
            assert (await second.say(mail)).startswith("250")

    async def test_who_is_alone_has_all_connections(self) -> None:
        tenants = [tenant(), tenant(username="acme.second")]
        async with (
            scripted_server() as server,
            running(bundle(server.port, connections=2, tenants=tenants)) as relay,
            RawClient.to(relay) as first,
            RawClient.to(relay) as second,
        ):
            await first.log_in()
            await second.log_in("acme.second")
            await first.begin()
            await second.begin()

    async def test_commands_do_not_make_an_envelope_last(self) -> None:
        options = Options(patience=Patience(envelope_s=0.2), limits=Limits(commands_per_message=1_000_000))
        async with (
            scripted_server() as server,
            running(bundle(server.port, connections=1), options=options) as relay,
            RawClient.to(relay) as busy,
            RawClient.to(relay) as quick,
        ):
            await busy.log_in()
            await quick.log_in()
            assert (await busy.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("250")
            async with asyncio.timeout(20):
                while (reply := await busy.say(b"NOOP")).startswith("250"):  # noqa: ASYNC110 - the relay says when
                    await asyncio.sleep(0.01)
            assert reply.startswith("421 4.4.2")
            await quick.begin()

    async def test_a_message_does_not_wait_for_ever(self) -> None:
        options = Options(upstream_wait_s=0.05)
        async with (
            scripted_server() as server,
            running(bundle(server.port, connections=1), options=options) as relay,
            RawClient.to(relay) as first,
            RawClient.to(relay) as second,
        ):
            await first.log_in()
            await second.log_in()
            await first.begin()
            assert (await second.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("451 4.3.2")
            assert (await first.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")
            assert (await second.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("250")

    @pytest.mark.parametrize("where", ["envelope", "body"])
    async def test_a_slow_client_does_not_sit_on_a_connection(self, where: str) -> None:
        patience = Patience(envelope_s=0.2, body_s=0.5, body_octets_per_s=1 << 20)
        async with scripted_server() as server:
            async with (
                running(bundle(server.port, connections=1), options=Options(patience=patience)) as relay,
                RawClient.to(relay) as slow,
                RawClient.to(relay) as quick,
            ):
                await slow.log_in()
                await quick.log_in()
                if where == "envelope":
                    assert (await slow.say(f"MAIL FROM:<{SENDER}>".encode())).startswith("250")
                else:
                    await slow.begin()
                    await slow.send(b"From: no-reply@acme.example\r\n\r\n")
                    dripping = asyncio.ensure_future(_drip(slow))
                await quick.begin()
                await quick.send(b"From: no-reply@acme.example\r\n\r\n.\r\n")
                assert (await quick.reply()).startswith("250")
                if where == "body":
                    await dripping
                assert (await slow.reply()).startswith("421 4.4.2")
            assert server.lines.count(".") == 1

    @pytest.mark.usefixtures("no_garbage_collector")
    @pytest.mark.parametrize("goodbye", [smtplib.SMTP.quit, smtplib.SMTP.close])
    async def test_nothing_is_kept_of_clients_that_have_gone(self, goodbye: Callable[[smtplib.SMTP], object]) -> None:
        """TLS has buffers of 256 KB for each connection, and the garbage collector comes long after many."""

        def send() -> None:
            client = smtplib.SMTP("127.0.0.1", relay.start_tls, timeout=20)
            client.starttls(context=ssl.create_default_context(cadata=relay.certificate.ca_pem))
            client.login(ACCOUNT, SECRET)
            client.sendmail(SENDER, [RECIPIENT], MESSAGE)
            goodbye(client)

        before = _tls_connections()  # other tests' servers
        async with scripted_server() as server, running(bundle(server.port)) as relay:
            await asyncio.to_thread(send)
            await eventually(lambda: relay.relay.connections == 0)
            await eventually(lambda: _tls_connections() <= before)


async def _drip(client: RawClient) -> None:
    """An octet now and then, until the relay ends it."""
    async with asyncio.timeout(20):
        while not client.reader.at_eof() and not client.writer.transport.is_closing():
            client.writer.write(b"x")
            if client.reader._buffer:  # type: ignore[attr-defined]
                return
            await asyncio.sleep(0.01)


async def test_tls_takes_no_more_memory_than_a_record() -> None:
    """Of 2,000 connections; asyncio's own is 256 KB each. Nobody promises that it can be told so."""
    async with running(bundle(9)) as relay, RawClient.to(relay) as client:
        await client.reply()
        held = [found for found in gc.get_objects() if type(found) is sslproto.SSLProtocol]
        assert {len(found._ssl_buffer) for found in held} == {16 * 1024}  # type: ignore[attr-defined]


def _tls_connections() -> int:
    return sum(type(found) is sslproto.SSLProtocol for found in gc.get_objects())


class TestStrangers:
    async def test_there_is_no_open_relay(self) -> None:
        async with scripted_server() as server, running(bundle(server.port, login=None)) as relay:
            for implicit in (True, False):
                async with RawClient.to(relay, implicit=implicit) as client:
                    await client.reply()
                    await client.say(b"EHLO app")
                    for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA"):
                        assert (await client.say(line.encode())).startswith("530")
            assert server.lines == []

    async def test_somebody_else_s_password(self) -> None:
        tenants = [tenant(), tenant(username="other.x", namespace="other", passwords=[])]
        async with running(bundle(9, tenants=tenants)) as relay:
            for username, password in [
                ("other.x", SECRET),
                ("nobody", SECRET),
                (ACCOUNT, "wrong"),
                (ACCOUNT, USERNAME),
            ]:
                async with RawClient.to(relay) as client:
                    with pytest.raises(AssertionError):
                        await client.log_in(username, password)

    async def test_those_who_wait_before_the_login_are_few(self) -> None:
        options = Options(bounds=Bounds(before_login_per_source=2))
        async with running(bundle(9), options=options) as relay, RawClient.to(relay) as known:
            await known.log_in()
            async with (
                RawClient.to(relay) as first,
                RawClient.to(relay, implicit=False) as second,
                RawClient.to(relay, implicit=False) as third,
            ):
                assert (await first.reply()).startswith("220")
                assert (await second.reply()).startswith("220")
                assert (await third.reply()).startswith("421 4.7.0")
                assert await third.reply() == ""

    @pytest.mark.parametrize("implicit", [False, True])
    async def test_a_flood_from_many_addresses_ends_its_own_oldest_connections(self, *, implicit: bool) -> None:
        """Those who wait for nothing, log in, or have done so, go on."""
        options = Options(bounds=Bounds(before_login=8, before_login_per_source=3))
        async with (
            running(bundle(9), options=options) as relay,
            RawClient.to(relay) as known,
            RawClient.to(relay) as slow,
        ):
            await known.log_in()
            port = relay.implicit if implicit else relay.start_tls
            flood = []
            for number in range(18):
                address = (f"127.0.0.{2 + number % 3}", 0)
                flood.append(await asyncio.open_connection("127.0.0.1", port, local_addr=address))
            try:
                async with asyncio.timeout(20):
                    first = await flood[0][0].read()
                assert (b"\r\n421 4.7.0 too many" in first) is not implicit
                async with RawClient.to(relay) as again:
                    await again.log_in()
                await slow.log_in()
                assert (await known.say(b"NOOP")).startswith("250")
                await eventually(lambda: relay.relay.connections <= 2 + 8)
            finally:
                for _, writer in flood:
                    writer.transport.abort()
                await asyncio.sleep(0)

    async def test_those_who_begin_no_tls_are_counted(self) -> None:
        options = Options(bounds=Bounds(before_login_per_source=2))
        async with running(bundle(9), options=options) as relay:
            silent = [await asyncio.open_connection("127.0.0.1", relay.implicit) for _ in range(3)]
            assert await silent[2][0].read() == b""
            for _, writer in silent:
                writer.transport.abort()
            await eventually(lambda: relay.relay.connections == 0)
            async with RawClient.to(relay) as client:
                await client.log_in()

    async def test_those_who_keep_a_connection_open_that_has_ended_are_counted(self) -> None:
        """It has its buffers until it is gone, and TLS waits for the client's end of it."""
        options = Options(bounds=Bounds(before_login_per_source=1))
        async with running(bundle(9), options=options) as relay:
            context = ssl.create_default_context(cadata=relay.certificate.ca_pem)

            def kept_open() -> ssl.SSLSocket:
                plain = socket.create_connection(("127.0.0.1", relay.implicit), timeout=20)
                client = context.wrap_socket(plain, server_hostname="127.0.0.1")
                client.sendall(b"QUIT\r\n")
                received = b""
                while b"\n221 " not in received:
                    received += client.recv(1024)
                return client

            client = await asyncio.to_thread(kept_open)
            async with RawClient.to(relay, implicit=False) as second:
                assert (await second.reply()).startswith("421 4.7.0")
            client.close()
            await eventually(lambda: relay.relay.connections == 0)
            async with RawClient.to(relay, implicit=False) as second:
                assert (await second.reply()).startswith("220")

    async def test_who_has_sent_its_end_and_reads_nothing_is_soon_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channel, "CLOSE_WITHIN_S", 0.01)
        ours, theirs = socket.socketpair()
        with theirs:
            here = channel.Channel()
            await asyncio.get_running_loop().create_connection(lambda: here, sock=ours)
            here.write(b"x" * 4_000_000)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(PeerGoneError):
                await here.read(20)
            here.close()
            await here.closed()
            assert ours.fileno() == -1

    async def test_they_do_not_wait_for_tls_for_long(self) -> None:
        options = Options(patience=Patience(login_s=0.1))
        async with running(bundle(9), options=options) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.implicit)
            assert await reader.read() == b""
            writer.transport.abort()

    async def test_no_tenant_takes_the_others_place(self) -> None:
        tenants = [tenant(), tenant(username="acme.second"), tenant(username="other.x", namespace="other")]
        options = Options(bounds=Bounds(per_namespace=1))
        async with running(bundle(9, tenants=tenants), options=options) as relay, RawClient.to(relay) as other:
            async with RawClient.to(relay) as first, RawClient.to(relay) as second:
                await first.log_in()
                assert (await second.reply()).startswith("220")
                await second.say(b"EHLO app")
                login = base64.b64encode(f"\0acme.second\0{SECRET}".encode())
                assert (await second.say(b"AUTH PLAIN " + login)).startswith("421 4.7.0")
                await other.log_in("other.x")
            await eventually(lambda: relay.relay.connections == 1)
            async with RawClient.to(relay) as third:
                await third.log_in()

    async def test_however_many_have_logged_in_others_are_heard(self) -> None:
        tenants = [tenant(), tenant(username="other.x", namespace="other")]
        options = Options(bounds=Bounds(logged_in=1, before_login=1))
        async with running(bundle(9, tenants=tenants), options=options) as relay, RawClient.to(relay) as first:
            await first.log_in()
            async with RawClient.to(relay) as second:
                assert (await second.reply()).startswith("220")
                await second.say(b"EHLO app")
                login = base64.b64encode(f"\0other.x\0{SECRET}".encode())
                assert (await second.say(b"AUTH PLAIN " + login)).startswith("421 4.7.0")
            await first.say(b"QUIT")
            await eventually(lambda: relay.relay.connections == 0)
            async with RawClient.to(relay) as third:
                await third.log_in("other.x")

    async def test_a_name_that_nobody_has_is_not_recorded(self) -> None:
        async with running(bundle(9)) as relay, RawClient.to(relay) as client:
            with pytest.raises(AssertionError):
                await client.log_in("my-password", ACCOUNT)
            assert relay.sink.logins == [("", False)]

    async def test_they_do_not_wait_for_long(self) -> None:
        options = Options(patience=Patience(login_s=0.1))
        async with running(bundle(9), options=options) as relay, RawClient.to(relay, implicit=False) as client:
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("421 4.4.2")
            assert await client.reply() == ""

    async def test_who_does_not_speak_tls_is_soon_gone(self) -> None:
        async with running(bundle(9)) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.implicit)
            writer.write(b"EHLO app\r\n" * 10)
            assert await reader.read() == b""
            writer.close()
            await eventually(lambda: relay.relay.connections == 0)

    async def test_nothing_is_injected_before_tls(self) -> None:
        async with running(bundle(9)) as relay, RawClient.to(relay, implicit=False) as client:
            await client.reply()
            await client.say(b"EHLO app")
            assert (await client.say(b"STARTTLS\r\nEHLO evil")).startswith("554")
            assert await client.reply() == ""

    async def test_a_flood_of_lines(self) -> None:
        async with (
            running(bundle(9), options=Options(limits=Limits(commands_before_login=5))) as relay,
            RawClient.to(relay) as client,
        ):
            await client.reply()
            client.writer.write(b"NOOP\r\n" * 100_000)
            replies = [await client.reply() for _ in range(6)]
            assert [reply[:3] for reply in replies] == ["250"] * 5 + ["421"]

    async def test_a_mistake_ends_one_session_only(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken:
            async def take(self, _account: object) -> None:
                raise RuntimeError("secret")

        async with running(bundle(9), rates=Broken()) as relay, RawClient.to(relay) as other:
            async with RawClient.to(relay) as client:
                await client.log_in()
                assert await client.say(f"MAIL FROM:<{SENDER}>".encode()) == ""
            await other.log_in()
        assert "RuntimeError" in caplog.text
        assert "secret" not in caplog.text
