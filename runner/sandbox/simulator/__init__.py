"""A stateful stand-in for Stripe: connected accounts, transfers and their reversals, over real HTTP.

Stripe's own SDK talks to it through `base_addresses={"api": base_url}`. It keeps balances that add up,
answers in Stripe's shapes and wordings, stores answers under idempotency keys as Stripe does, and misbehaves
on command. What really happened to the money stands in an append-only ledger; checks read that, never what a
client was told.

    python -m runner.sandbox.simulator --port 4242        a server of its own, on 127.0.0.1 only with
    simulator_process() as simulator: …              the same as a child process, with a client for its
    controls

Where things are: `app` and `service` take a request through Stripe's gates, `endpoints` are Stripe's, `world` and
`payments` the state (of `objects`), `shapes` and `errors` the wire, `events` and `deliveries` what it tells by itself,
`idempotency`, `limits` and `faults` what their names say, `control` the /_sandbox/ endpoints and `client` the way to
call those.
"""

from .calls import LIVE_KEY, TEST_KEY
from .client import SimulatorClient
from .connection import ControlRefused, StripeAnswer
from .ledger import LedgerEntry
from .process import SimulatorNotStarted, simulator_process
from .requestlog import LoggedDelivery, LoggedRequest

__all__ = [
    "LIVE_KEY",
    "TEST_KEY",
    "ControlRefused",
    "LedgerEntry",
    "LoggedDelivery",
    "LoggedRequest",
    "SimulatorClient",
    "SimulatorNotStarted",
    "StripeAnswer",
    "simulator_process",
]
