"""A proxy on loopback that adds faults to an S3 server: seeded, at most one a request."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress

from aiohttp import ClientSession, TCPConnector, web
from yarl import URL

REFUSALS = {"busy": 503, "throttled": 429, "broken": 500}
BODY = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
FAULTS = (*REFUSALS, "reset", "short", "late")
"""What fails unless said otherwise; there are also ``stall`` and ``corrupt``."""
_PIECE = 64 * 2**10
_NOT_FORWARDED = {"connection", "expect", "transfer-encoding", "content-length"}


class FaultProxy:
    """Forwards requests to a server and spoils a share of them.

    Parameters
    ----------
    host, port
        Address of the server.
    share : float
        Share of requests that fail.
    seed : int
        Seed of the choice of requests and faults.
    latency : float
        Seconds added to each request.

    Attributes
    ----------
    slow : str or None
        Paths with this end get one byte a second.
    hung : str or None
        Clients whose name (User-Agent) begins so get no answer.
    """

    def __init__(
        self, host: str, port: int, share: float = 0.0, seed: int = 0, latency: float = 0.0
    ) -> None:
        self.share = share
        self.kinds: tuple[str, ...] = FAULTS
        self.latency = latency
        self.faults: Counter[str] = Counter()
        self.slow: str | None = None
        self.hung: str | None = None
        self._refusal: tuple[int, str] | None = None
        self.requests: list[str] = []
        self._upstream = f"http://{host}:{port}"
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start within 10 s"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def refuse(self, status: int | None, code: str = "") -> None:
        """Answer every request with a status and an error code, until called with None."""
        self._refusal = None if status is None else (status, code)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        connector = TCPConnector(limit=0)
        async with ClientSession(connector=connector, auto_decompress=False) as self._client:
            self._ready.set()
            await self._over.wait()
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.content.read()  # no size limit, unlike request.read()
        self.requests.append(f"{request.method} {request.raw_path}")
        if self.hung and request.headers.get("User-Agent", "").startswith(self.hung):
            self.faults["hung"] += 1
            await self._over.wait()
            return web.Response(status=503)
        if self._refusal:
            status, code = self._refusal
            self.faults[code] += 1
            body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>"
            return web.Response(status=status, body=body.encode(), content_type="application/xml")
        fault = self._random.choice(self.kinds) if self._random.random() < self.share else None
        if fault:
            self.faults[fault] += 1
        if fault in REFUSALS:
            return web.Response(status=REFUSALS[fault], body=BODY)
        await asyncio.sleep(self.latency + (0.1 if fault == "late" else 0.0))
        async with self._client.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=[(k, v) for k, v in request.headers.items() if k.lower() not in _NOT_FORWARDED],
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            data=body,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in ("connection", "transfer-encoding"):
                    response.headers.add(name, value)
            if "kms" in answer.headers.get("x-amz-server-side-encryption", ""):
                # As S3 does: an etag that is no MD5. Moto's is one.
                response.headers["ETag"] = answer.headers["ETag"][::-1]
            if fault == "corrupt" and (request.method, answer.status) != ("GET", 200):
                fault = None  # a range has no checksum
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            if self.slow and request.path.endswith(self.slow):
                self.faults["slow"] += 1
                await self._trickle(response, await answer.read())
                return response
            await self._pass_on(request, response, answer.content.iter_chunked(_PIECE), fault)
        return response

    async def _trickle(self, response: web.StreamResponse, body: bytes) -> None:
        with suppress(ConnectionError, TimeoutError):
            for byte in body:
                await response.write(bytes([byte]))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), 1.0)
                    return

    async def _pass_on(self, request, response, pieces, fault: str | None) -> None:
        """Write the body; some faults damage or cut its first piece."""
        async for piece in pieces:
            if fault in ("reset", "short", "stall"):
                await response.write(piece[: len(piece) // 2])
                if fault == "stall":
                    await self._over.wait()
                if fault == "reset":
                    request.transport.abort()
                else:
                    request.transport.close()
                return
            if fault == "corrupt":
                piece, fault = bytes([piece[0] ^ 1]) + piece[1:], None
            await response.write(piece)
        await response.write_eof()
