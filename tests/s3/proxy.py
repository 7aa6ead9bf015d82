"""A proxy on loopback that makes an S3 server fail: seeded, a fault at most for each request."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter

BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s"
)
BODY = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
FAULTS = ("busy", "reset", "short", "late")


class FaultProxy:
    """Forwards requests to a server and spoils a share of them.

    Parameters
    ----------
    host, port
        Of the server.
    share : float
        Of requests that fail.
    seed : int
        Of which ones, and how.
    """

    def __init__(self, host: str, port: int, share: float, seed: int) -> None:
        self.share = share
        self.kinds = FAULTS
        self.faults: Counter[str] = Counter()
        self._upstream = (host, port)
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin1").split("\r\n")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        if fields.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        fault = self._random.choice(self.kinds) if self._random.random() < self.share else None
        if fault:
            self.faults[fault] += 1
        if fault == "busy":
            writer.write(BUSY % (len(BODY), BODY))
            await writer.drain()
            return
        if fault == "late":
            await asyncio.sleep(0.1)
        answer = await self._ask(lines, body)
        if fault == "reset":
            writer.transport.abort()
            return
        writer.write(answer[: len(answer) // 2] if fault == "short" else answer)
        await writer.drain()

    async def _ask(self, lines: list[str], body: bytes) -> bytes:
        """The server's whole answer, told to close its connection."""
        kept = [x for x in lines if x and not x.lower().startswith(("connection:", "expect:"))]
        request = "\r\n".join([*kept, "Connection: close", "", ""]).encode("latin1")
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request + body)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()
