"""The endpoint that Stripe delivers events to: whatever is answered with 2xx is in the database.

Checked in the order of what it costs: what the head says of size, signature and age, then the body, its signature and
its shape. What gets another answer is delivered again, for days, so that nothing needs to be remembered here; and the
database knows what it has had. Who has signed nothing is let in as long as there is room; callers.py says how.
"""

import asyncio
import hashlib
import time
from collections import Counter

import psycopg
import structlog
from aiohttp import web

from runner.callers import Callers, Server
from runner.clean import safe_text
from runner.connection import DatabaseUnavailable, SchemaUnusable
from runner.database import Database
from runner.event import NotAnEvent, parse_event
from runner.inbox import Inbox
from runner.records import IngestedEvent
from runner.settings import Settings
from runner.signature import BadSignature, read_signature
from runner.waiting import Backoff, first_of

BODY_SECONDS = 10.0
# Without a request, or a whole head of one: longer than proxies keep a connection that they may use again.
_IDLE_SECONDS = 75.0
# Of one connection, before it is read on.
_BUFFER_BYTES = 1 << 14
_RETRY_AFTER_SECONDS = 10
_RETRY_EVENTS_SECONDS = 60.0
_RETRY_EVENTS_LIMIT = 100
_HEALTH_PATH = "/healthz"
_HEALTH_SECONDS = 5.0
_CHORE_SECONDS = 30.0
# For what is in flight: longer than its own deadlines.
_STOP_SECONDS = 30.0
# So long the rest of a refused body is read and dropped, that the sender may see the answer.
LINGER_SECONDS = 2.0
# The SQLSTATEs of data that cannot be meant; it is the event's fault, and the same tomorrow.
_BAD_DATA = "22"

_log = structlog.get_logger()


class CannotListen(Exception):
    """The address cannot be listened on; the text says why."""


class _Refused(Exception):
    """The answer is this status, with these words; `cause` is for the log alone."""

    def __init__(self, status: int, words: str, cause: Exception | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.cause = cause


class Webhook:
    """The endpoint: `run` until `stop`."""

    def __init__(self, settings: Settings, path: str) -> None:
        conninfo = settings.database_url.get_secret_value()
        self._settings = settings
        self._path = path
        self._secrets = settings.webhook_secrets()
        self._too_long = f"more than {settings.webhook_body_limit} bytes (SELLER_TRANSFERS_WEBHOOK_BODY_LIMIT)"
        self._inbox = Inbox(conninfo, "seller-transfers webhook", settings.webhook_connections)
        self._health = Database(conninfo, "seller-transfers webhook health", statement_seconds=_HEALTH_SECONDS)
        self._chores = Database(conninfo, "seller-transfers webhook retries", statement_seconds=_CHORE_SECONDS)
        self._stopping = asyncio.Event()
        self._callers = Callers()
        self._looking: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Take no more deliveries; `run` returns when those in flight have been answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Answer deliveries until `stop`. Raises CannotListen."""
        # The signature is of the bytes as they came: nothing is unpacked.
        server = Server(
            self._answer,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=_BUFFER_BYTES,
        )
        server.callers = self._callers
        runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
        await runner.setup()
        retries: asyncio.Task[None] | None = None
        try:
            try:
                await web.TCPSite(
                    runner, self._settings.webhook_host, self._settings.webhook_port, backlog=1024
                ).start()
            except OSError as error:
                where = f"{self._settings.webhook_host}, port {self._settings.webhook_port}"
                raise CannotListen(f"cannot listen on {where}: {error.strerror or error}") from error
            host, port = runner.addresses[0][:2]
            _log.info("listening", host=host, port=port, path=self._path)
            retries = asyncio.create_task(self._retry_kept_events())
            await self._stopping.wait()
            _log.info("stopping: finishing deliveries in flight")
        finally:
            await runner.cleanup()
            if retries is not None:
                retries.cancel()
                await asyncio.gather(retries, return_exceptions=True)
            await self._inbox.close()
            await self._health.close()
            await self._chores.close()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request for what there is here: deliveries and health."""
        known = {self._path: (self._deliver, ("POST",)), _HEALTH_PATH: (self._healthz, ("GET", "HEAD"))}
        if request.path not in known:
            return _refuse(request, 404, "no such path: give Stripe the URL with the path of --path")
        answer, methods = known[request.path]
        if request.method not in methods:
            allowed = ", ".join(methods)
            return _refuse(request, 405, f"only {allowed} here", {"Allow": allowed})
        return await answer(request)

    async def _deliver(self, request: web.BaseRequest) -> web.Response:
        """Answer one delivery, and log it in one line."""
        begun = time.monotonic()
        try:
            ingested = await self._ingest(request)
        except _Refused as refusal:
            cause = {} if refusal.cause is None else {"error": safe_text(str(refusal.cause), 300)}
            _log.warning("delivery refused", status=refusal.status, reason=str(refusal), **cause, ms=_ms_since(begun))
            headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if refusal.status == 503 else None
            return web.Response(status=refusal.status, text=f"{refusal}\n", headers=headers)
        facts = {"event_id": ingested.event_id, "type": ingested.type, "result": ingested.result}
        if ingested.result == "kept":
            # Its detail may quote the event.
            _log.warning("delivery", **facts, see="marketplace.kept_events", ms=_ms_since(begun))
        else:
            _log.info("delivery", **facts, ms=_ms_since(begun))
        return web.json_response(facts)

    async def _ingest(self, request: web.BaseRequest) -> IngestedEvent:
        """Check a delivery and have it stored. Raises _Refused."""
        if (request.content_length or 0) > self._settings.webhook_body_limit:
            raise _Refused(413, self._too_long)
        try:
            signed = read_signature(request.headers.get("Stripe-Signature"), time.time())
            body = await self._read(request)
            signed.check(body, self._secrets)
            event = parse_event(body)
        except (BadSignature, NotAnEvent) as flaw:
            raise _Refused(400, str(flaw)) from flaw
        self._callers.serve(request.protocol)
        try:
            return await self._inbox.ingest(event, hashlib.sha256(body).hexdigest())
        except (DatabaseUnavailable, SchemaUnusable) as error:
            raise _Refused(503, "the database cannot take it now", error) from error
        except psycopg.Error as error:
            # Its text may quote the event.
            if (error.sqlstate or "").startswith(_BAD_DATA):
                raise _Refused(400, f"the database cannot read the event (SQLSTATE {error.sqlstate})") from error
            raise _Refused(500, f"the database refuses (SQLSTATE {error.sqlstate})") from error
        finally:
            self._callers.served(request.protocol)

    async def _read(self, request: web.BaseRequest) -> bytes:
        """Give the body, or raise _Refused: it may be too long, or never end."""
        limit = self._settings.webhook_body_limit
        body = bytearray()
        try:
            if request.content.is_eof():  # it came with the head, as nearly always
                whole = request.content.read_nowait()
                if len(whole) > limit:
                    raise _Refused(413, self._too_long)
                return whole
            if request.headers.get("Expect", "").lower() == "100-continue":
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise _Refused(413, self._too_long)
                    self._callers.hold(request.protocol, len(chunk))
        except TimeoutError:
            raise _Refused(408, f"the body was not there within {BODY_SECONDS:g} s") from None
        except (ConnectionError, web.RequestPayloadError) as error:
            raise _Refused(400, "the body ends early") from error
        finally:
            self._callers.release(request.protocol)
        return bytes(body)

    async def _healthz(self, _request: web.BaseRequest) -> web.Response:
        """Answer 200 if the database answers. It is asked once at a time: who comes meanwhile gets the same answer."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._health.answer())
        try:
            await asyncio.shield(self._looking)
        except (DatabaseUnavailable, SchemaUnusable, psycopg.Error):
            return web.Response(status=503, text="the database does not answer\n")
        return web.Response(text="ok\n")

    async def _retry_kept_events(self) -> None:
        """Have kept events tried again, now and every minute: what they waited for may be there."""
        failures = Backoff("trying kept events again")
        while not self._stopping.is_set():
            try:
                tried = await self._chores.retry_events(_RETRY_EVENTS_LIMIT)
            except (DatabaseUnavailable, SchemaUnusable, psycopg.Error) as error:
                failures.next_delay(error)
            else:
                failures.over()
                if tried:
                    _log.info("kept events tried again", **Counter(event.result for event in tried))
            await first_of(self._stopping, seconds=_RETRY_EVENTS_SECONDS)


def _ms_since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


def _refuse(request: web.BaseRequest, status: int, words: str, headers: dict[str, str] | None = None) -> web.Response:
    """Refuse what is no delivery, and log it: the endpoint's URL at Stripe may be wrong."""
    asked = {"method": request.method, "path": safe_text(request.path, 100)}
    _log.warning("delivery refused", status=status, reason=words, **asked)
    return web.Response(status=status, text=f"{words}\n", headers=headers)
