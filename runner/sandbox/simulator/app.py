"""The HTTP server: requests in, answers out, and the ways an answer can fail to arrive."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from . import control, faults
from .calls import Call, read_call
from .errors import StripeError
from .idempotency import Answer
from .objects import new_id
from .service import Simulator, refused

HOST = "127.0.0.1"

_CONTROL_BODY_LIMIT = 8 * 1024 * 1024  # bytes: thousands of transfers in one go
_LOOK_EVERY_SECONDS = 0.05
_SHUTDOWN_SECONDS = 0.05  # not 0: that means for ever to aiohttp


class Server:
    """Serves one simulator at a time; a reset puts a new one in its place."""

    def __init__(self, rules: list[faults.Fault] | None = None) -> None:
        self.simulator = Simulator()
        self.simulator.faults.add(rules or [])
        self.app = web.Application(client_max_size=_CONTROL_BODY_LIMIT)
        self.app.router.add_route("*", "/_sandbox/{command:.*}", control.Control(self).handle)
        self.app.router.add_route("*", "/{path:.*}", self._stripe)

    def reset(self) -> None:
        """Start over with nothing; what is under way, or held, ends in the simulator it began in."""
        self.simulator.close()
        self.simulator.holds.release(None)
        self.simulator = Simulator()

    async def _stripe(self, request: web.Request) -> web.StreamResponse:
        simulator = self.simulator  # a reset does not concern what is under way
        body = await request.read()
        try:
            call = read_call(request.method, request.path, request.query_string, request.headers, body)
        except StripeError as refusal:
            call = Call(request.method, request.path)
            simulator.log_call(call).finish(refusal.status, "whole")
            return _response(call, refused(refusal))
        entry = simulator.log_call(call)
        status: int | None = None
        delivery: faults.Delivery = "none"
        try:
            answer, fault = await simulator.answer(call.numbered(entry.seq), entry)
            response = _response(call, answer)
            entry.request_id = response.headers["Request-Id"]
            delivery = fault.delivery if fault is not None else "whole"
            status = None if delivery == "none" else answer.status
            if delivery == "whole":
                return response
            bound_seconds = fault.seconds if isinstance(fault, faults.HangBody) else 0.0
            return await _deliver_less(request, answer, response, delivery, bound_seconds)
        finally:
            entry.finish(status, "half" if delivery == "hang" else delivery)


def _response(call: Call, answer: Answer) -> web.Response:
    request_id = new_id("req") if answer.replayed else answer.request_id
    headers = {
        "Content-Type": "application/json",
        "Request-Id": request_id,
        "Stripe-Version": call.api_version,
        **answer.headers,
    }
    if call.idempotency_key is not None:
        headers["Idempotency-Key"] = call.idempotency_key
        headers["Original-Request"] = answer.request_id
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def _deliver_less(
    request: web.Request, answer: Answer, whole: web.Response, delivery: faults.Delivery, bound_seconds: float
) -> web.StreamResponse:
    """Send nothing, or the head and half of the body; then close the connection.

    Hanging, it does so when the client has gone or after `bound_seconds`.
    """
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    if delivery != "none":
        response.content_length = len(answer.body)
        with suppress(ConnectionResetError):  # the client may have gone while its request was held
            await response.prepare(request)
            await response.write(answer.body[: len(answer.body) // 2])
    if delivery == "hang":
        for _ in range(math.ceil(bound_seconds / _LOOK_EVERY_SECONDS)):
            if request.transport is None or request.transport.is_closing():
                break
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
    if request.transport is not None:
        request.transport.close()
    return response


@asynccontextmanager
async def serving(server: Server, port: int = 0) -> AsyncIterator[str]:
    """Listen on 127.0.0.1 (port 0: a free one) and give the base URL.

    Leaving the block stops the server at once, whatever is under way.
    """
    runner = web.AppRunner(server.app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port, backlog=1024)
        await site.start()
        bound_port = runner.addresses[0][1]
        yield f"http://{HOST}:{bound_port}"
    finally:
        server.simulator.close()
        await runner.cleanup()
