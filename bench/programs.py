"""Other programs that benchmarks need beside them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from bench.errors import BenchError
from dev.role_process import ROOT


@asynccontextmanager
async def program(
    module: str, *arguments: str, says_within_s: float, environment: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Runs a module of this package until the block ends; gives the first line that it says.

    Raises:
        BenchError: it says nothing in time.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *arguments),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", **(environment or {})},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield await _first_line(process, says_within_s)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _first_line(process: asyncio.subprocess.Process, within_s: float) -> str:
    if process.stdout is None:
        raise BenchError("a program has no output")
    try:
        async with asyncio.timeout(within_s):
            line = await process.stdout.readline()
    except TimeoutError:
        raise BenchError(f"a program has said nothing for {within_s:.0f} s") from None
    if not line:
        raise BenchError("a program has ended and said nothing")
    return line.decode().strip()
