"""A mail server as a program of its own, so that its work is not taken for that of whoever asks it.

    python -m bench.mail_server

It says its port and runs until it is killed.
"""

import asyncio

from tests.support.smtp_server import mail_server


async def _serve() -> None:
    async with mail_server(auth_required=True, auth_without_tls=True) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
