"""Deliveries of every sort, from a seed: good, repeated, cut, forged, stale and malformed; each knows how it must end.

No sort is left to chance: what is random is which event, which byte, which moment. That a body with a random byte in it
is refused would have to be computed by a reader like the one under test; so here every change is one that cannot pass.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.webhooks import PATH, encoded, event, signature

_AT_ONCE = 16
TYPES = ("customer.created", "invoice.paid", "payout.failed", "a.type.nobody.knows")
TAKEN, REFUSED = 200, 400


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is sent, and how it must be answered."""

    kind: str
    body: bytes
    header: str | None
    status: int


@dataclass(slots=True)
class Outcome:
    """How many of each sort were sent, which events must be there, and what was answered otherwise than it must be."""

    kinds: Counter[str] = field(default_factory=Counter)
    good: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)


class Sender:
    """Makes deliveries; the events it made so far are there to be repeated and forged."""

    def __init__(self, seed: int, secret: str) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.secret = secret
        self.sent: list[bytes] = []
        self.good: list[str] = []

    def event(self, word: str) -> dict[str, Any]:
        number = len(self.good) + self.random.randrange(10**9)
        words = "".join(self.random.choice('aé€\U0001f600"\\\n\t{}[]:, ') for _ in range(self.random.randrange(40)))
        content = {"id": f"cus_{number}", "object": "customer", "description": words, "balance": -number}
        return event(f"evt_{word}{self.seed}x{number}", event_type=self.random.choice(TYPES), data={"object": content})

    def taken(self, kind: str, body: bytes) -> Delivery:
        return Delivery(kind, body, signature(body, self.secret), TAKEN)

    def refused(self, kind: str, body: bytes, header: str | None = None) -> Delivery:
        return Delivery(kind, body, signature(body, self.secret) if header is None else header, REFUSED)


def new(sender: Sender) -> Delivery:
    made = sender.event("good")
    body = encoded(made) if sender.random.random() < 0.5 else json.dumps(made, ensure_ascii=False).encode()
    sender.good.append(made["id"])
    sender.sent.append(body)
    return sender.taken("new", body)


def repeated(sender: Sender) -> Delivery:
    if not sender.sent:
        return new(sender)
    return sender.taken("repeated", sender.random.choice(sender.sent))


def cut_on_the_way(sender: Sender) -> Delivery:
    body = encoded(sender.event("cut"))
    return sender.refused("cut on the way", body[: sender.random.randrange(len(body))], signature(body, sender.secret))


def cut_and_signed(sender: Sender) -> Delivery:
    body = encoded(sender.event("cut"))
    return sender.refused("cut and signed", body[: sender.random.randrange(len(body) - 1)])


def changed(sender: Sender) -> Delivery:
    body = encoded(sender.event("changed"))
    at = sender.random.randrange(len(body))
    other = bytes([body[at] ^ (1 << sender.random.randrange(8))])
    return sender.refused("changed", body[:at] + other + body[at + 1 :], signature(body, sender.secret))


def forged(sender: Sender) -> Delivery:
    """Somebody who knows everything but the secret."""
    body = encoded(sender.event("forged"))
    genuine = signature(body, sender.secret)
    another = signature(encoded(sender.event("forged")), sender.secret)
    header = sender.random.choice(
        [
            signature(body, "whsec_guessed"),
            signature(body, ""),
            signature(body, sender.secret[:-1]),
            signature(body, sender.secret.removeprefix("whsec_")),
            another,
            genuine.replace("v1=", "v0="),
            genuine.replace("t=", "t=1"),
            genuine[:-1],
            genuine.replace(",", ";"),
            "t=0,v1=" + "0" * 64,
            "v1=" + "f" * 64,
            " ",
        ]
    )
    return sender.refused("forged", body, header)


def unsigned(sender: Sender) -> Delivery:
    return Delivery("unsigned", encoded(sender.event("unsigned")), None, REFUSED)


def stale(sender: Sender) -> Delivery:
    """A delivery that was overheard, and is sent again later."""
    body = encoded(sender.event("stale"))
    age = 310 + sender.random.randrange(10**6)
    return sender.refused("stale", body, signature(body, sender.secret, age_seconds=age))


def malformed(sender: Sender) -> Delivery:
    """Signed, and no event."""
    made = sender.event("malformed")
    field_name = sender.random.choice(["id", "object", "type", "data"])
    wrong = sender.random.choice([None, "", 7, 1.5, True, [], {}, [made], {"object": "event"}])
    text = encoded(made).decode()
    body = sender.random.choice(
        [
            encoded({**made, field_name: wrong}),
            encoded({name: kept for name, kept in made.items() if name != field_name}),
            encoded([made]),
            encoded(text),
            encoded({"event": made}),
            text.encode("utf-16"),
            b"\x00" + text.encode(),
            text.encode() + b"\xff",
            text.encode() * 2,
            text.replace('"created"', f'"id": "{made["id"]}", "created"').encode(),
            text.replace('"pending_webhooks": 1', f'"pending_webhooks": {sender.random.choice(_NUMBERS)}').encode(),
            text.replace('"cus_', "[" * sender.random.randrange(60, 3000) + '"cus_').encode(),
            sender.random.randbytes(sender.random.randrange(1, 2000)) + b"\xff",
        ]
    )
    return sender.refused("malformed", body)


_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e400", "01", "0x1", "1_000", "9" * 30, "-" + "9" * 5000, "+1", ".5")

KINDS: dict[str, Callable[[Sender], Delivery]] = {
    "new": new,
    "repeated": repeated,
    "cut on the way": cut_on_the_way,
    "cut and signed": cut_and_signed,
    "changed": changed,
    "forged": forged,
    "unsigned": unsigned,
    "stale": stale,
    "malformed": malformed,
}


def deliveries(sender: Sender, count: int) -> Iterator[Delivery]:
    """So many, of all sorts."""
    for _ in range(count):
        yield sender.random.choice([*KINDS.values()])(sender)


def deliver_all(port: int, count: int, *, seed: int, secret: str) -> Outcome:
    """Send so many, several at once, and compare every answer."""
    sender, outcome = Sender(seed, secret), Outcome()
    asyncio.run(_send(port, deliveries(sender, count), outcome))
    outcome.good = sorted(sender.good)
    return outcome


async def _send(port: int, coming: Iterator[Delivery], outcome: Outcome) -> None:
    async def work(session: aiohttp.ClientSession) -> None:
        for delivery in coming:
            headers = {} if delivery.header is None else {"Stripe-Signature": delivery.header}
            async with session.post(f"http://127.0.0.1:{port}{PATH}", data=delivery.body, headers=headers) as answer:
                words = await answer.text()
            outcome.kinds[delivery.kind] += 1
            if answer.status != delivery.status:
                outcome.surprises.append(f"{delivery.kind}: {answer.status} {words!r} to {delivery.body[:200]!r}")

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(work(session))
