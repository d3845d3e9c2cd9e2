"""The simulator's webhooks: signed, at least once, in no particular order, and worse on command."""

import http.server
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
import stripe

from runner.sandbox.simulator import ControlRefused, SimulatorClient

SECRET = "whsec_sandbox"


class Receiver(http.server.ThreadingHTTPServer):
    """A webhook endpoint that keeps what it gets and answers the statuses it was told to, then 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[bytes, dict[str, str]]] = []
        self.statuses: list[int | None] = []  # null: close the connection without an answer
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/stripe/events?from=test"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body, _ in self.got]

    def amounts(self) -> list[int]:
        """The amounts of the objects of the events, in the order they came."""
        return [event["data"]["object"]["amount"] for event in self.events()]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        receiver = cast(Receiver, self.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.got.append((body, {name.lower(): value for name, value in self.headers.items()} | {"path": self.path}))
        receiver.go_on.wait(10)
        status = receiver.statuses.pop(0) if receiver.statuses else 200
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def charge(simulator: SimulatorClient, *amounts: int) -> None:
    """Make an event of each of these amounts."""
    for amount in amounts:
        simulator.create_charge(amount, "usd")


def test_every_event_arrives_signed_as_it_is_listed(simulator: SimulatorClient, receiver: Receiver) -> None:
    charge(simulator, 1)  # before there was anybody to tell
    endpoint = simulator.add_endpoint(receiver.url, SECRET)
    made = simulator.create_charge(1000, "usd")
    simulator.refund(made)
    simulator.wait_until_delivered()

    listed = simulator.stripe("GET", "/v1/events").json()["data"][:3]
    assert {event["id"]: event["type"] for event in receiver.events()} == {each["id"]: each["type"] for each in listed}
    assert {event["pending_webhooks"] for event in receiver.events()} == {1}
    assert {event["pending_webhooks"] for event in listed} == {0}
    for body, headers in receiver.got:
        assert stripe.WebhookSignature.verify_header(body.decode(), headers["stripe-signature"], SECRET, 300)
        assert headers["content-type"] == "application/json; charset=utf-8"
        assert headers["path"] == "/stripe/events?from=test"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header("{}", receiver.got[0][1]["stripe-signature"], SECRET, 300)
    answered = [(each.endpoint, each.attempt, each.status, each.error) for each in simulator.deliveries()]
    assert answered == [(endpoint, 1, 200, None)] * 3


def test_while_secrets_are_rolled_each_one_signs(simulator: SimulatorClient, receiver: Receiver) -> None:
    simulator.add_endpoint(receiver.url, ["whsec_old", "whsec_new"])
    charge(simulator, 1)
    simulator.wait_until_delivered()

    ((body, headers),) = receiver.got
    for secret in ("whsec_old", "whsec_new"):
        assert stripe.WebhookSignature.verify_header(body.decode(), headers["stripe-signature"], secret, 300)
    assert headers["stripe-signature"].count("v1=") == 2


def test_a_delivery_is_tried_again_until_it_is_answered_2xx(simulator: SimulatorClient, receiver: Receiver) -> None:
    receiver.statuses = [500, None, 302, 400, 204]
    simulator.add_endpoint(receiver.url, SECRET)
    charge(simulator, 1)
    simulator.wait_until_delivered()

    tries = simulator.deliveries()
    assert [(each.attempt, each.status) for each in tries] == [(1, 500), (2, None), (3, 302), (4, 400), (5, 204)]
    assert tries[1].error is not None
    assert {event["id"] for event in receiver.events()} == {tries[0].event}
    assert len(receiver.got) == 5  # the redirect was not followed


def test_an_endpoint_that_takes_nothing_is_given_up_and_the_event_stays_pending(
    simulator: SimulatorClient, receiver: Receiver
) -> None:
    receiver.statuses = [500] * 3
    simulator.add_endpoint(receiver.url, SECRET, attempts=3)
    charge(simulator, 1)
    simulator.wait_until_delivered()

    assert [each.status for each in simulator.deliveries()] == [500] * 3
    assert simulator.stripe("GET", "/v1/events").json()["data"][0]["pending_webhooks"] == 1


def test_nobody_there_and_no_answer_in_time_are_reasons_to_try_again(
    simulator: SimulatorClient, receiver: Receiver
) -> None:
    receiver.go_on.clear()
    simulator.add_endpoint(receiver.url, SECRET, attempts=1, timeout_seconds=0.05)
    simulator.add_endpoint("http://127.0.0.1:1/", SECRET, attempts=2)
    charge(simulator, 1)
    simulator.wait_until_delivered()

    errors = Counter((each.error or "").partition(":")[0] for each in simulator.deliveries())
    assert errors == {"TimeoutError": 1, "ClientConnectorError": 2}


def test_an_endpoint_gets_the_types_and_the_mode_it_asked_for(simulator: SimulatorClient, receiver: Receiver) -> None:
    simulator.add_endpoint(receiver.url, SECRET, types=["refund.created", "charge.succeeded"])
    made = simulator.create_charge(5, "usd")
    simulator.refund(made)
    simulator.create_charge(6, "usd", livemode=True)
    simulator.wait_until_delivered()

    assert {event["type"] for event in receiver.events()} == {"refund.created", "charge.succeeded"}
    assert len(receiver.got) == 2


def test_a_removed_endpoint_gets_nothing_more(simulator: SimulatorClient, receiver: Receiver) -> None:
    endpoint = simulator.add_endpoint(receiver.url, SECRET)
    charge(simulator, 1)
    simulator.remove_endpoint(endpoint)
    charge(simulator, 2)
    simulator.wait_until_delivered()

    assert receiver.amounts() == [1]
    with pytest.raises(ControlRefused, match="no such endpoint"):
        simulator.remove_endpoint(endpoint)


def test_deliveries_are_sent_twice_dropped_and_shuffled_as_the_seed_says(
    simulator: SimulatorClient, receiver: Receiver
) -> None:
    amounts = list(range(1, 21))

    def arrived(**treatment: object) -> list[int]:
        endpoint = simulator.add_endpoint(receiver.url, SECRET, at_once=1, **treatment)
        receiver.got.clear()
        # By one command, so that they gather however busy the machine is.
        simulator.create_transfers(
            [{"destination": "acct_1Ann", "amount": each, "currency": "usd"} for each in amounts]
        )
        simulator.wait_until_delivered()
        simulator.remove_endpoint(endpoint)
        return receiver.amounts()

    assert arrived() == amounts
    assert Counter(arrived(duplicate=1)) == dict.fromkeys(amounts, 2)
    assert arrived(drop=1) == []
    some = arrived(drop=0.5, seed=7)
    assert 0 < len(some) < 20
    assert some == [amount for amount in amounts if amount in some] == arrived(drop=0.5, seed=7)
    shuffled = arrived(reorder=10, seed=3)
    assert shuffled != amounts
    assert (sorted(shuffled[:10]), sorted(shuffled[10:])) == (amounts[:10], amounts[10:])
    assert shuffled == arrived(reorder=10, seed=3)
    late = arrived(delay_seconds=0.1, seed=3)
    assert late != amounts
    assert sorted(late) == amounts
    # Fewer than are to gather wait for no more of them than a moment.
    assert sorted(arrived(reorder=1000)) == amounts
    assert sum(each.dropped for each in simulator.deliveries()) == 20 + 2 * (20 - len(some))


def test_only_this_machine_is_posted_to(simulator: SimulatorClient) -> None:
    for url in ("http://example.com/", "https://127.0.0.1/", "http://127.0.0.1.example.com/", "ftp://localhost/"):
        with pytest.raises(ControlRefused, match="url"):
            simulator.add_endpoint(url, SECRET)


def test_a_reset_ends_what_is_under_way(simulator: SimulatorClient, receiver: Receiver) -> None:
    receiver.go_on.clear()
    simulator.add_endpoint(receiver.url, SECRET)
    charge(simulator, 1)
    simulator.wait_until(lambda: len(receiver.got) == 1, "it is being delivered")
    simulator.reset()
    receiver.go_on.set()
    charge(simulator, 2)
    simulator.wait_until_delivered()

    assert simulator.deliveries() == []
    assert receiver.amounts() == [1]


def test_everything_stops_with_the_simulator(receiver: Receiver) -> None:
    receiver.go_on.clear()
    command = [sys.executable, "-m", "runner.sandbox.simulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        simulator = SimulatorClient(process.stdout.readline().rpartition(" ")[2].strip())
        simulator.add_endpoint(receiver.url, SECRET)
        simulator.add_endpoint("http://127.0.0.1:1/", SECRET, attempts=1000)
        simulator.add_endpoint(receiver.url, SECRET, delay_seconds=60)
        charge(simulator, 1, 2, 3)
        simulator.wait_until(lambda: len(receiver.got) == 3, "they are being delivered")
        process.terminate()
        assert (process.wait(5), *process.communicate()) == (0, "", "")
