"""A mail server as a program of its own, which takes everything and answers a message after 5 ms.

    python -m bench.relay_upstream CERTIFICATE KEY

It says its port and runs until it is killed. It does as little as can be, so that little of what is measured is its.
"""

import asyncio
import contextlib
import ssl
import sys
from typing import Final

from tests.support.listening import LOOPBACK

THINKING_S: Final = 0.005
READ_OCTETS: Final = 1 << 16
REPLIES: Final = {
    b"AUTH": b"235 2.7.0 ok\r\n",
    b"DATA": b"354 go\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
    b"STAR": b"220 2.0.0 go\r\n",
    b"EHLO": b"250-mail\r\n250-STARTTLS\r\n250-SIZE 50000000\r\n250 AUTH PLAIN XOAUTH2\r\n",
}
"""By the first four letters of a command."""


async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
    writer.write(b"220 mail ESMTP\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb == b"AUTH" and line.count(b" ") < 2:  # the response comes on a line of its own
            writer.write(b"334 \r\n")
            await reader.readline()
        writer.write(REPLIES.get(verb, b"250 2.0.0 ok\r\n"))
        if verb == b"STAR":
            await writer.start_tls(context)
        elif verb == b"DATA":
            tail = b"\r\n"
            while not tail.endswith(b"\r\n.\r\n"):
                tail = (tail + await reader.read(READ_OCTETS))[-5:]
            await asyncio.sleep(THINKING_S)
            writer.write(b"250 2.0.0 kept\r\n")
        elif verb == b"QUIT":
            break


async def _serve(chain: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _session(reader, writer, context)
        writer.close()

    server = await asyncio.start_server(client, LOOPBACK, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:3]))
