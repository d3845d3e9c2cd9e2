"""A line between a program and PostgreSQL that can be cut at the worst moment: after the commit, before the answer."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import quote, urlencode

from tests.support.databases import ServerAddress

Moment = Literal["unsent", "mid-answer", "committed", "held"]
"""Before the statement reaches the server; with half of the answer on its way; after the commit, with none of it.

Held is not cut: the answer stays on the line until it is let go.
"""

# ReadyForQuery, in no transaction: what the server says last about a statement that is committed.
_COMMITTED = b"Z\x00\x00\x00\x05I"
_CHUNK_BYTES = 1 << 16


class CuttingProxy:
    """Passes everything on, but for the answer to a statement it was told to `cut` or to `hold`."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._armed: dict[bytes, Moment] = {}
        self._sockets: set[socket.socket] = set()
        self._is_down = False
        self._answers: list[threading.Event] = []
        self.cuts = 0
        self.held = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def dsn(self, address: ServerAddress, dbname: str) -> str:
        """Connection URI of that database, by way of this line."""
        where = urlencode({"sslmode": "disable", "gssencmode": "disable"})
        port = self._listener.getsockname()[1]
        return f"postgresql://{address.user}@127.0.0.1:{port}/{quote(dbname, safe='')}?{where}"

    def cut(self, statement_part: str, moment: Moment = "committed") -> None:
        """Close the connection of the next statement with this text, at this moment instead of answering. Once."""
        with self._lock:
            self._armed[statement_part.encode()] = moment

    def hold(self, statement_part: str) -> None:
        """Let the next statement with this text commit, but keep its answer back until `let_go`. Once."""
        self.cut(statement_part, "held")

    def let_go(self) -> None:
        """Pass on the answers that are held."""
        while self._answers:
            self._answers.pop().set()

    def cut_everything(self) -> None:
        """Close every connection there is now, whatever goes over it."""
        with self._lock:
            going = list(self._sockets)
        for each in going:
            _shut(each)
        self.cuts += len(going) // 2

    def take_down(self) -> None:
        """Cut everything, and let nobody in until `bring_up`."""
        self._is_down = True
        self.cut_everything()

    def bring_up(self) -> None:
        """Let everybody in again, and forget what was to be cut."""
        with self._lock:
            self._armed.clear()
        self._is_down = False

    def close(self) -> None:
        """Close the line and everything that goes over it."""
        # A thread in accept() or recv() notices a shutdown, not a close.
        _shut(self._listener)
        self._listener.close()
        self.cut_everything()
        self.let_go()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    if self._is_down:
                        raise ConnectionRefusedError
                    server.connect(self._upstream)
                except OSError:  # no server there for the moment
                    client.close()
                    server.close()
                    continue
                with self._lock:
                    self._sockets |= {client, server}
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client, server:
            self._pass_on(client, server)
        with self._lock:
            self._sockets -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        moment: Moment | None = None
        held_back = b""
        while True:
            readable, _, _ = select.select([client, server], [], [])
            for source in readable:
                data = source.recv(_CHUNK_BYTES)
                if not data:
                    return
                if source is client:
                    moment = moment or self._moment_of(data)
                    if moment == "unsent":
                        self.cuts += 1
                        return
                    server.sendall(data)
                elif moment is None:
                    client.sendall(data)
                else:
                    held_back += data
                    if not held_back.endswith(_COMMITTED):
                        continue
                    if moment == "held":
                        self._wait_to_be_let_go()
                        client.sendall(held_back)
                        moment, held_back = None, b""
                    else:
                        self.cuts += 1
                        if moment == "mid-answer":
                            client.sendall(held_back[: len(held_back) // 2])
                        return

    def _wait_to_be_let_go(self) -> None:
        let_go = threading.Event()
        self._answers.append(let_go)
        self.held += 1
        let_go.wait()

    def _moment_of(self, data: bytes) -> Moment | None:
        with self._lock:
            for part in self._armed:
                if part in data:
                    return self._armed.pop(part)
        return None


def _shut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(address: ServerAddress) -> Iterator[CuttingProxy]:
    """Run such a line to the server behind this address (a folder with its socket) until the end of the block."""
    proxy = CuttingProxy(f"{address.host}/.s.PGSQL.{address.port}")
    try:
        yield proxy
    finally:
        proxy.close()
