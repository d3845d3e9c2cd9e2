"""The second part of the demo: orders from the buyer's payment to their end, told to the database by Stripe's events.

The demo calls create_transfer, and nothing after that: the runners send, and what is to be taken back or paid again is
asked for by events. These come twice, in another order, and some not at all, until a catch-up reads the list.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from runner.sandbox.demo_app import App
from runner.sandbox.demo_buyers import Buyers
from runner.sandbox.demo_lives import Do, Life, Step
from runner.sandbox.demo_progress import Progress
from runner.sandbox.demo_runners import Runners
from runner.sandbox.demo_webhook import Webhook
from runner.sandbox.simulator import SimulatorClient

_TICK_SECONDS = 0.05
_WAIT_SECONDS = 20.0  # for one round
# How the endpoint is treated: one event in five comes twice, and those of a moment change places.
_UNRELIABLE = {"duplicate": 0.2, "reorder": 6, "seed": 20_25}
_LOSSY = {**_UNRELIABLE, "drop": 0.1}

# What befalls the sends: the answers to two get lost, and one request.
_SENDS = {"method": "POST", "path": "/v1/transfers$"}
_TROUBLE = [{"action": action, "match": _SENDS} for action in ("drop_after", "error_after", "drop_before")]

_WORDS = {
    Do.REFUND: "refunds",
    Do.REFUND_FAILS: "refunds that fail after all",
    Do.INQUIRE: "inquiries",
    Do.CLOSE: "inquiries closed",
    Do.DISPUTE: "disputes",
    Do.WITHDRAW: "with the money taken by the bank",
    Do.WIN: "disputes won",
    Do.REINSTATE: "with the money given back",
    Do.LOSE: "disputes lost",
}

_OPEN = """
select count(*) from marketplace.seller_transfers as t where t.status in ('pending', 'failed', 'reversal_pending')
"""

_STANDING = """
select
  count(*) filter (where t.completed_at is not null and t.root_id is null) as sent,
  count(*) filter (where t.status = 'reversed') as reversed,
  count(*) filter (where t.completed_at is not null and t.compensates is not null) as paid_again
from marketplace.seller_transfers as t
where t.order_id = any (%s)
"""

_RETRY = "select * from marketplace.retry_events()"

_KEPT = "select k.event_id, k.type, k.detail from marketplace.kept_events as k order by k.kept_since, k.event_id"


@dataclass(frozen=True, slots=True)
class LivesEnd:
    """How it ended: the charge of each order, how many rows are open yet, and the events kept for want of something."""

    charges: dict[str, str]
    open: int
    kept: list[str]


class Lives:
    """Plays whole lives of orders. `watcher` is a connection in autocommit."""

    def __init__(
        self,
        app: App,
        watcher: psycopg.Connection[Any],
        simulator: SimulatorClient,
        runners: Runners,
        webhook: Webhook,
        progress: Progress,
    ) -> None:
        self._app = app
        self._watcher = watcher
        self._simulator = simulator
        self._runners = runners
        self._webhook = webhook
        self._progress = progress
        self._buyers = Buyers(simulator)
        self._begun = 0.0

    def play(self, lives: Sequence[Life]) -> LivesEnd:
        """Play all of them to their end; every wait has one."""
        self._begun, began_at = time.monotonic(), datetime.now(UTC)
        self._app.leave_refunds_to_events()
        url = self._webhook.wait_for_url()
        endpoint = self._simulator.add_endpoint(url, self._webhook.secret, **_UNRELIABLE)
        charges = self._pay_out(lives)
        self._tell_standing(charges)
        self._simulator.remove_endpoint(endpoint)
        self._simulator.add_endpoint(url, self._webhook.secret, **_LOSSY)
        self._tell("from now on one event in ten gets lost on its way")
        for number in range(max(len(life.rounds) for life in lives)):
            self._play_round([(life, life.rounds[number]) for life in lives if number < len(life.rounds)])
            self._tell_standing(charges)
        self._catch_up(began_at)
        self._tell_standing(charges)
        kept = [f"{event} ({its_type}): {why}" for event, its_type, why in self._watcher.execute(_KEPT).fetchall()]
        return LivesEnd(charges, self._count_open(), kept)

    def _pay_out(self, lives: Sequence[Life]) -> dict[str, str]:
        """Buyers pay, a few are refunded at once, and the runners send what is left of the sellers' money."""
        charges = self._buyers.pay(lives)
        early = [life for life in lives if life.early]
        for life in early:
            for step in life.early:
                self._buyers.do(life, step)
        self._simulator.wait_until_delivered(within_seconds=_WAIT_SECONDS)
        self._tell(f"{len(lives)} buyers have paid, and {len(early)} got money back before anybody knew of a seller")
        self._simulator.add_faults(_TROUBLE)
        created = self._app.create_transfers(lives, charges)
        self._tell(
            f"the app has called marketplace.create_transfer(…) {created} times; of the runners' requests to Stripe one"
            " gets lost, and of the answers two"
        )
        self._wait()
        return charges

    def _play_round(self, steps_of: Sequence[tuple[Life, Sequence[Step]]]) -> None:
        done: Counter[Do] = Counter()
        for life, steps in steps_of:
            for step in steps:
                self._buyers.do(life, step)
                done[step.do] += 1
        self._tell(", ".join(f"{words}: {done[each]}" for each, words in _WORDS.items() if done[each]))
        self._wait()

    def _catch_up(self, since: datetime) -> None:
        deliveries = self._simulator.deliveries()
        events = len({each.event for each in deliveries})
        lost = sum(each.dropped for each in deliveries)
        twice = sum(each.duplicate and each.attempt == 1 for each in deliveries)
        self._tell(f"of {events} events {lost} were lost and {twice} came twice; what was lost is on Stripe's list:")
        command, said = self._webhook.catch_up(self._simulator.base_url, since)
        self._tell(command)
        self._tell(said)
        self._wait()
        # What came while its transfer was under way is tried again by the webhook, every minute: too long for a demo.
        self._watcher.execute(_RETRY)
        self._wait()

    def _wait(self) -> None:
        """Wait, but not forever, until every event is delivered and the runners have done what these asked for."""
        until = time.monotonic() + _WAIT_SECONDS
        self._simulator.wait_until_delivered(within_seconds=_WAIT_SECONDS)
        while self._count_open() and time.monotonic() < until:
            self._runners.check()
            self._webhook.program.check()
            time.sleep(_TICK_SECONDS)
        # What the runners did is told by events too. These ask for nothing: nothing new is due after them.
        self._simulator.wait_until_delivered(within_seconds=_WAIT_SECONDS)

    def _tell_standing(self, charges: Mapping[str, str]) -> None:
        standing = self._watcher.execute(_STANDING, [list(charges)]).fetchone()
        assert standing is not None  # noqa: S101 - an aggregate gives a row
        sent, taken_back, paid_again = standing
        again = f"; {paid_again} of the transfers pay again what was taken back" if paid_again else ""
        self._tell(f"so far {sent} transfers and {taken_back} reversals{again}")

    def _count_open(self) -> int:
        found = self._watcher.execute(_OPEN).fetchone()
        assert found is not None  # noqa: S101 - an aggregate gives a row
        return int(found[0])

    def _tell(self, text: str) -> None:
        self._progress.tell(time.monotonic() - self._begun, text)
