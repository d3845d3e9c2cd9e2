"""The simulator's ledger and request log: append-only, complete, and in agreement with every balance."""

from collections import defaultdict
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.sandbox.simulator import LedgerEntry, SimulatorClient

SELLERS = ["acct_1Ann", "acct_1Ben"]
PLATFORM = "acct_1SandboxPlatform"


def balances_from(ledger: list[LedgerEntry]) -> dict[str, dict[str, int]]:
    """Add up a ledger by hand."""
    balances: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in ledger:
        balances[entry.debit][entry.currency] -= entry.moved
        balances[entry.credit][entry.currency] += entry.moved
    return {account: dict(held) for account, held in balances.items()}


AMOUNT = st.integers(0, 120)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), AMOUNT),
        st.tuples(st.just("reverse"), st.integers(0, 5), AMOUNT),
        st.tuples(st.just("reverse later"), st.integers(0, 5), AMOUNT),
        st.tuples(st.just("settle"), st.integers(0, 5), st.sampled_from(["succeeded", "failed", "canceled"])),
        st.tuples(st.just("fail after"), st.integers(0, 5), AMOUNT),
    ),
    max_size=12,
)


class Marketplace:
    """Does the operations of a generated sequence; what is refused is refused."""

    def __init__(self, simulator: SimulatorClient) -> None:
        self.simulator = simulator
        self.transfers: list[str] = []
        self.pending: list[str] = []
        simulator.reset()
        for seller in SELLERS:
            simulator.create_account(seller)
        simulator.fund(300, "usd")

    def reverse(self, index: int, amount: int) -> Any:
        if not self.transfers:
            return {}
        transfer = self.transfers[index % len(self.transfers)]
        return self.simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", {"amount": amount}).json()

    def do(self, operation: str, index: int, value: Any) -> None:
        if operation == "send":
            params = {"amount": value, "currency": "usd", "destination": SELLERS[index]}
            answer = self.simulator.stripe("POST", "/v1/transfers", params)
            self.transfers += [answer.json()["id"]] if answer.status == 200 else []
        elif operation == "settle" and self.pending:
            reversal = self.pending.pop(index % len(self.pending))
            available = self.simulator.balances()[self.seller_of(reversal)]["usd"]
            amount = next(each.amount for each in self.simulator.ledger() if each.reversal == reversal)
            self.simulator.settle_reversal(reversal, value if available >= amount else "failed")
        elif operation == "reverse":
            self.reverse(index, value)
        elif operation == "reverse later":
            self.simulator.add_fault("pending_reversal")
            self.pending += [reversal["id"]] if "id" in (reversal := self.reverse(index, value)) else []
            self.simulator.clear_faults()
        elif operation == "fail after":
            self.simulator.add_fault("error_after")
            self.reverse(index, value)
            self.simulator.clear_faults()

    def seller_of(self, reversal: str) -> str:
        return next(each.debit for each in self.simulator.ledger() if each.reversal == reversal)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_money_is_conserved_and_the_ledger_explains_every_balance(
    simulator: SimulatorClient, operations: list[tuple[str, int, Any]]
) -> None:
    marketplace = Marketplace(simulator)
    for operation, index, value in operations:
        marketplace.do(operation, index, value)
        balances = simulator.balances()
        assert sum(balances.get(account, {}).get("usd", 0) for account in [PLATFORM, *SELLERS]) == 300
        assert all(held.get("usd", 0) >= 0 for account, held in balances.items() if account != "outside")
        assert balances_from(simulator.ledger()) == balances
    for transfer in marketplace.transfers:
        found = simulator.stripe("GET", f"/v1/transfers/{transfer}").json()
        taken = sum(each.amount for each in simulator.ledger(kind="reversal") if each.transfer == transfer)
        given_back = sum(
            each.amount
            for each in simulator.ledger(kind="reversal_status")
            if each.transfer == transfer and each.status != "succeeded"
        )
        assert found["amount_reversed"] == taken - given_back <= found["amount"]
        assert found["reversed"] == (found["amount_reversed"] == found["amount"])


def test_the_ledger_explains_what_buyers_paid_and_got_back(simulator: SimulatorClient) -> None:
    pending, available = simulator.create_charge(1000, "usd"), simulator.create_charge(70, "usd", available=True)
    simulator.create_charge(500, "jpy")
    failing = simulator.refund(pending, 300)
    simulator.refund(available, 7)
    simulator.settle_refund(failing, "failed")
    won, lost = simulator.open_dispute(pending, 200), simulator.open_dispute(available, 50)
    for dispute in (won, lost):
        simulator.withdraw_funds(dispute)
    simulator.reinstate_funds(won)
    simulator.create_transfer("acct_1Ann", 40, "usd")

    assert simulator.balances() == {
        "outside": {"usd": -1053, "jpy": -500},  # 1000 + 70 - 7 - 50, and 40 for the transfer
        f"{PLATFORM}/pending": {"usd": 1000, "jpy": 500},
        PLATFORM: {"usd": 13},
        "acct_1Ann": {"usd": 40},
    }
    assert balances_from(simulator.ledger()) == simulator.balances()
    assert [each.kind for each in simulator.ledger()] == [
        *["charge"] * 3,
        *["refund"] * 2,
        "refund_status",
        *["dispute"] * 2,
        "reinstatement",
        "funding",
        "transfer",
    ]


def test_the_ledger_only_ever_grows_and_numbers_its_entries(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer("acct_1Ann", 100, "usd")
    before = simulator.ledger()
    simulator.add_fault("pending_reversal")
    made = simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals").json()
    simulator.settle_reversal(made["id"], "succeeded")
    after = simulator.ledger()
    assert after[: len(before)] == before
    assert [entry.seq for entry in after] == list(range(1, len(after) + 1))
    assert [entry.kind for entry in after] == ["funding", "transfer", "reversal", "reversal_status"]
    assert simulator.ledger(since=3) == after[3:]
    assert [entry.monotonic for entry in after] == sorted(entry.monotonic for entry in after)


def test_an_entry_tells_who_caused_it(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer("acct_1Ann", 500, "jpy")
    answer = simulator.stripe(
        "POST",
        f"/v1/transfers/{transfer}/reversals",
        {"amount": 200, "metadata[refund]": "re_1"},
        idempotency_key="key-1",
    )
    entry = simulator.ledger()[-1]
    [request] = simulator.requests(method="POST")
    assert (entry.kind, entry.livemode, entry.amount, entry.moved) == ("reversal", False, 200, 200)
    assert (entry.currency, entry.debit, entry.credit) == ("jpy", "acct_1Ann", PLATFORM)
    assert (entry.transfer, entry.reversal) == (transfer, answer.json()["id"])
    assert (entry.destination, entry.metadata, entry.status) == ("acct_1Ann", {"refund": "re_1"}, None)
    assert (entry.idempotency_key, entry.request) == ("key-1", request.seq)
    assert (request.request_id, request.key_suffix) == (answer.headers["request-id"], "dbox")
    assert request.params == {"amount": "200", "metadata": {"refund": "re_1"}}
    assert request.finished_monotonic is not None
    assert request.arrived_monotonic <= entry.monotonic <= request.finished_monotonic


def test_what_is_refused_replayed_or_only_read_is_not_in_the_ledger(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer("acct_1Ann", 100, "usd")
    path = f"/v1/transfers/{transfer}/reversals"
    simulator.stripe("POST", path, {"amount": 100}, idempotency_key="key-1")
    before = simulator.ledger()
    simulator.stripe("POST", path, {"amount": 100}, idempotency_key="key-1")
    simulator.stripe("POST", path, {"amount": 100}, idempotency_key="key-2")
    simulator.stripe("POST", path, {"amount": 100}, api_key=None)
    simulator.stripe("GET", path)
    assert simulator.ledger() == before
    outcomes = [(entry.status, entry.executed, entry.replayed) for entry in simulator.requests()]
    assert outcomes == [
        (200, True, False),
        (200, False, True),
        (400, True, False),
        (401, False, False),
        (200, True, False),
    ]


def test_requests_are_found_by_number_method_path_and_key(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer("acct_1Ann", 100, "usd")
    simulator.stripe("GET", "/v1/balance")
    simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", {"amount": 1}, idempotency_key="key-1")
    simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", {"amount": 1}, idempotency_key="key-2")

    def numbers(**wanted: Any) -> list[int]:
        return [entry.seq for entry in simulator.requests(**wanted)]

    assert numbers() == [1, 2, 3]
    assert numbers(since=1) == [2, 3]
    assert numbers(method="GET") == [1]
    assert numbers(path="/reversals") == [2, 3]
    assert numbers(idempotency_key="key-2") == [3]


def test_long_logs_are_read_whole_and_a_reset_empties_them(simulator: SimulatorClient) -> None:
    new = {"destination": "acct_1Ann", "amount": 1, "currency": "usd"}
    ids = simulator.create_transfers([new] * 1100)
    assert [entry.transfer for entry in simulator.ledger(kind="transfer")] == ids
    assert len(simulator.ledger()) == 2200
    simulator.reset()
    assert simulator.ledger() == []
    assert simulator.requests() == []
    assert simulator.stripe("GET", f"/v1/transfers/{ids[0]}").status == 404


def test_the_log_never_holds_a_whole_api_key(simulator: SimulatorClient) -> None:
    for key in ("sk_test_0123456789abcdefghijklmn", "short"):
        simulator.stripe("GET", "/v1/balance", api_key=key)
        assert key not in repr(simulator.requests())
    assert [entry.key_suffix for entry in simulator.requests()] == ["klmn", None]
