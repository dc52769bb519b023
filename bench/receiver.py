"""Owns an endpoint that answers 202 to whatever comes and looks at nothing, so that it keeps out of the way.

It knows no more of what it was sent than how many bytes it was.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
LENGTH = b"content-length:"


@dataclass
class Receiver:
    """What was sent to the address, in bytes, heads included."""

    address: str
    taken: int = 0


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    async def take(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        while head := await _head(reading):
            lines = head.lower().split(b"\r\n")
            [length] = [int(line[len(LENGTH) :]) for line in lines if line.startswith(LENGTH)]
            running.taken += len(head) + len(await reading.readexactly(length))
            writing.write(ACCEPTED)
        writing.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    running = Receiver(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield running
    finally:
        server.close()


async def _head(reading: asyncio.StreamReader) -> bytes:
    try:
        return await reading.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
