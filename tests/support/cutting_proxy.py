"""A line between a program and PostgreSQL that can be cut at the worst moment: after the commit, before the answer."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlencode

from tests.support.databases import ServerAddress

# ReadyForQuery, in no transaction: what the server says last about a statement that is committed.
_COMMITTED = b"Z\x00\x00\x00\x05I"
_CHUNK_BYTES = 1 << 16


class CuttingProxy:
    """Passes everything on, but for the answer to a statement it was told to `cut`."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._armed: bytes | None = None
        self._sockets: list[socket.socket] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def dsn(self, address: ServerAddress, dbname: str) -> str:
        """Connection URI of that database, by way of this line."""
        where = urlencode({"sslmode": "disable", "gssencmode": "disable"})
        port = self._listener.getsockname()[1]
        return f"postgresql://{address.user}@127.0.0.1:{port}/{quote(dbname, safe='')}?{where}"

    def cut(self, statement_part: str) -> None:
        """Let the next statement with this text commit, then close its connection instead of answering. Once."""
        with self._lock:
            self._armed = statement_part.encode()

    def close(self) -> None:
        """Close the line and everything that goes over it."""
        # A thread in accept() or recv() notices a shutdown, not a close.
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                self._sockets += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        cutting = False
        held_back = b""
        with contextlib.suppress(OSError), client, server:
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for source in readable:
                    data = source.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    if source is client:
                        cutting = cutting or self._is_to_be_cut(data)
                        server.sendall(data)
                    elif not cutting:
                        client.sendall(data)
                    else:
                        held_back += data
                        if held_back.endswith(_COMMITTED):
                            self.cuts += 1
                            return

    def _is_to_be_cut(self, data: bytes) -> bool:
        with self._lock:
            if self._armed is None or self._armed not in data:
                return False
            self._armed = None
            return True


@contextmanager
def cutting_proxy(address: ServerAddress) -> Iterator[CuttingProxy]:
    """Run such a line to the server behind this address (a folder with its socket) until the end of the block."""
    proxy = CuttingProxy(f"{address.host}/.s.PGSQL.{address.port}")
    try:
        yield proxy
    finally:
        proxy.close()
