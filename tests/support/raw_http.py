"""A raw HTTP server for tests: it answers byte for byte what a test wants, also what no HTTP library would."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_HEAD_LIMIT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as it came in; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


Answer = Callable[[RawRequest, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class RawServer:
    """What a test sees of the server: where it is and what came in."""

    base: str
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0


def http(status: int, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    """Give a whole answer; `body` as bytes, or anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def always(answer: bytes, *, then_close: bool = False) -> Answer:
    """Answer every request with these bytes."""

    async def reply(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if then_close:
            writer.close()

    return reply


async def hang(_request: RawRequest, _writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.sleep(_HEAD_LIMIT_SECONDS)


async def hang_half_way(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
    """Promise a body and send only the beginning of it."""
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nRequest-Id: req_half\r\n\r\n{"object": "tran')
    await writer.drain()
    await asyncio.sleep(_HEAD_LIMIT_SECONDS)


@asynccontextmanager
async def raw_server(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Run a server on a free port of 127.0.0.1 that gives every request to `answer`."""
    seen = RawServer(base="")
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        seen.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                request = await _read_request(reader)
                seen.requests.append(request)
                await answer(request, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    seen.base = f"http://{host}:{port}"
    try:
        yield seen
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> RawRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return RawRequest(method, path, headers, body.decode())
