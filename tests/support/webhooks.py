"""Webhook endpoints as people run them, and deliveries as Stripe makes them, or nearly."""

import asyncio
import hashlib
import hmac
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from runner.sandbox.owned_process import owned_command
from runner.settings import load_settings
from runner.webhook import Webhook
from tests.support.runners import REPOSITORY, Runner, wait_until

SECRET = "whsec_5b1f0c8e6a2d49739f4e"
NEXT_SECRET = "whsec_c07d2e8f1b3a46859d60"
PATH = "/stripe/events"
# Of no kind that anything is done about.
IDLE_TYPE = "customer.created"


def event(event_id: str, *, event_type: str = IDLE_TYPE, **fields: object) -> dict[str, Any]:
    """An event in Stripe's shape, of a customer unless another type and object are given."""
    return {
        "id": event_id,
        "object": "event",
        "api_version": "2026-08-26",
        "created": int(time.time()),
        "data": {"object": {"id": "cus_1", "object": "customer", "metadata": {}}},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
        **fields,
    }


def encoded(content: object) -> bytes:
    """The body of a delivery, as Stripe formats it."""
    return json.dumps(content, indent=2).encode()


def signature(body: bytes, *secrets: str, age_seconds: int = 0) -> str:
    """The header by which Stripe vouches for the body, with a signature per secret; written after its documentation."""
    timestamp = int(time.time()) - age_seconds
    signed = f"{timestamp}.".encode() + body
    made = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets or (SECRET,)]
    return ",".join([f"t={timestamp}", *(f"v1={each}" for each in made)])


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def result(self) -> str:
        """What a delivery that was taken came to."""
        assert self.status == 200, self
        return str(json.loads(self.text)["result"])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint on this machine."""

    port: int

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Make a request of its own connection; header names with _ for -."""
        with closing(self.connection()) as connection:
            names = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body or None, names)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read().decode())

    def deliver(self, body: bytes, header: str | None = None) -> Answer:
        """Deliver a body, signed unless a header is given."""
        return self.request("POST", PATH, body, Stripe_Signature=signature(body) if header is None else header)

    def deliver_event(self, event_id: str, **fields: Any) -> Answer:
        """Deliver an event."""
        return self.deliver(encoded(event(event_id, **fields)))

    def connection(self) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)


@dataclass(frozen=True, slots=True)
class EndpointProcess(Endpoint):
    """A `seller-transfers webhook` under way, or ended."""

    runner: Runner


@contextmanager
def endpoint(dsn: str, folder: Path, *, secrets: str = SECRET, **settings: object) -> Iterator[EndpointProcess]:
    """Run an endpoint on a free port until the end of the block; its log is in `folder`."""
    log_file = folder / "webhook.log"
    ours = {"webhook_port": 0, "log_format": "json", **settings}
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "STRIPE_WEBHOOK_SECRET": secrets,
        **{f"SELLER_TRANSFERS_{name.upper()}": str(setting) for name, setting in ours.items()},
    }
    command = owned_command([sys.executable, "-m", "runner", "webhook"], death_signal=signal.SIGKILL)
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY
        )
    runner = Runner("webhook", process, log_file)
    try:
        runner.wait_for("listening")
        (listening,) = runner.log("listening")
        yield EndpointProcess(listening["port"], runner)
    finally:
        process.kill()
        process.wait()


@contextmanager
def endpoint_here(dsn: str, **settings: object) -> Iterator[Endpoint]:
    """Run an endpoint in a thread of this process: for a test that makes one of its times shorter."""
    environment = {"DATABASE_URL": dsn, "STRIPE_WEBHOOK_SECRET": SECRET, "SELLER_TRANSFERS_WEBHOOK_PORT": "0"}
    environment |= {f"SELLER_TRANSFERS_{name.upper()}": str(setting) for name, setting in settings.items()}
    webhook: list[tuple[asyncio.AbstractEventLoop, Webhook]] = []

    async def run() -> None:
        here = Webhook(load_settings(environment, need_stripe=False, need_webhook=True), PATH)
        webhook.append((asyncio.get_running_loop(), here))
        await here.run()

    with structlog.testing.capture_logs() as logged, ThreadPoolExecutor(max_workers=1) as thread:
        running = thread.submit(asyncio.run, run())
        try:
            wait_until(lambda: running.done() or any(line["event"] == "listening" for line in logged), "it listens")
            (port,) = [line["port"] for line in logged if line["event"] == "listening"]
            yield Endpoint(port)
        finally:
            for loop, here in webhook:
                loop.call_soon_threadsafe(here.stop)
            running.result(20)
