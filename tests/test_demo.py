"""The demo as a person runs it, and the parts of it that a person has to believe: orders made up, books compared."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runner.sandbox.demo_ledger import Books, Row, find_differences, keep_books
from runner.sandbox.demo_orders import Order, Story, make_orders, payouts_of, refunds_in_order
from runner.sandbox.owned_process import owned_command
from runner.sandbox.server_folders import open_data_folder, remove_data_folder
from runner.sandbox.simulator import LedgerEntry
from tests.support.runners import wait_until

SECONDS = 90


@dataclass(frozen=True, slots=True)
class Place:
    """A folder outside the checkout to run the demo in, so that nobody's database of a demo is replaced."""

    folder: Path
    data: Path

    def start(self, module: str, *arguments: str) -> "subprocess.Popen[str]":
        """Run a module of ours there, with settings for real work around it that lead nowhere."""
        (self.folder / "error").touch()
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "DATABASE_URL": "postgresql://somebody:geheim@127.0.0.1:1/real",
            "STRIPE_API_KEY": "sk_live_geheim",
            "SELLER_TRANSFERS_SLOTS": "none",
            "PGHOST": "nowhere.invalid",
            "PGOPTIONS": "-c default_transaction_isolation=serializable",
        }
        command = [sys.executable, "-m", module, *arguments]
        with (self.folder / "output").open("w") as output, (self.folder / "error").open("w") as error:
            return subprocess.Popen(
                owned_command(command, death_signal=signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                env=environment,
                cwd=self.folder,
                text=True,
            )

    @property
    def output(self) -> str:
        """What was written so far."""
        return (self.folder / "output").read_text()

    @property
    def error(self) -> str:
        """What was written to standard error so far."""
        return (self.folder / "error").read_text()

    def processes(self) -> list[str]:
        """Processes that work here: all of the demo's do, and so does its database's server."""
        places = (str(self.folder), str(self.data.resolve()))
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if str(link.readlink()).startswith(places):
                    found.append((link.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it has ended, or is somebody else's
                continue
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    data = tmp_path / "cache" / "seller-transfers" / "demo"
    yield Place(tmp_path, data)
    remove_data_folder(data)


def table_rows(output: str) -> list[list[str]]:
    """The cells of every line of every table."""
    lines = (line.strip() for line in output.splitlines())
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


def test_the_demo_ends_well_and_touches_nothing_else(place: Place) -> None:
    demo = place.start("runner", "demo", "--orders", "25")
    assert demo.wait(SECONDS) == 0, place.output + place.error
    output = place.output

    assert (
        "DATABASE_URL and STRIPE_API_KEY: set, but the demo will not touch that and uses parts of its own."
        in output.splitlines()
    )
    assert "geheim" not in output
    assert place.error == ""
    assert max(len(line) for line in output.splitlines()) <= 100
    assert re.search(r"runner-[12] \(pid \d+\) is killed with SIGKILL while it waits for an? ", output)
    assert "runner-3 (pid " in output
    assert re.search(r"19 of 19 refunds requested: \d+ transfers reversed, 0 waiting, 0 unknown, \d+ failed", output)
    assert "2 got money back before anybody knew of a seller" in output
    assert re.search(r"of \d+ events [1-9]\d* were lost and [1-9]\d* came twice", output)
    assert re.search(r"events since \S+: \d+ read, [1-9]\d* new or tried again", output)
    assert "Database and ledger agree to the minor unit: " in output
    assert "-m runner.sandbox.psql" in output
    assert place.processes() == []

    rows = table_rows(output)
    agree = [row for row in rows if row[0] in ("eur", "gbp", "jpy", "kwd", "usd")]
    assert [row[-1] for row in agree] == ["yes"] * 5
    assert ["refunded in full", "usd", "50.00", "50.00", "45.00", "45.00", "0.00", "yes"] in rows
    assert ["disputed, and lost", "usd", "80.00", "80.00", "72.00", "72.00", "0.00", "yes"] in rows
    assert ["inquired about, no money taken", "jpy", "4,000", "0", "3,600", "0", "3,600", "yes"] in rows
    # Of these the amounts say less than who has them: paid, taken back and paid again, or not taken back at all.
    assert [row[-2:] for row in rows if row[0] == "disputed, and won"] == [["54.00", "yes"]]
    assert ["ann", "usd", "132.00", "132.00", "132.00", "yes"] in rows
    assert not [row for row in rows if row[-1] == "NO"]
    # One of each story at this size: calls at the simulator, and the end.
    ends = {row[0]: (row[2], row[3]) for row in rows if row[0] in list(Story)}
    assert set(ends) == set(Story) - {Story.KEPT}
    assert ends[Story.REFUNDED_TWICE] == ("1", "reversed")
    assert ends[Story.PART_OF_ORDER] == ("1", "completed, reversed")
    assert ends[Story.PART_OF_ONE] == ("2", "completed, reversed")
    assert ends[Story.UNKNOWN_ID] == ("1", "permanently_failed")
    assert ends[Story.REVERSED_BY_HAND] == ("1", "reversed")
    assert ends[Story.NO_ID] == ("0", "permanently_failed")
    assert ends[Story.NEVER_SENT] == ("0", "permanently_failed")
    assert ends[Story.REFUSED_TWICE] == ("3", "reversed")
    assert ends[Story.ALWAYS_REFUSED] == ("6", "permanently_failed")
    assert ends[Story.RUNNER_KILLED] == ("1", "reversed")  # found by a look-up
    failed = {Story.UNKNOWN_ID, Story.NO_ID, Story.NEVER_SENT, Story.ALWAYS_REFUSED}
    in_part = {Story.PART_OF_ORDER, Story.PART_OF_ONE}
    assert {story for story, (_, end) in ends.items() if end != "reversed"} == failed | in_part

    psql = place.start("runner.sandbox.psql", "-AtXc", "select status, transfers > 0 from marketplace.transfer_totals")
    assert psql.wait(SECONDS) == 0, place.error
    assert set(place.output.splitlines()) == {"completed|t", "reversed|t", "permanently_failed|t"}
    assert place.processes() == []


def test_ctrl_c_ends_the_demo_at_once_with_everything_it_started(place: Place) -> None:
    demo = place.start("runner", "demo", "--orders", "20")
    wait_until(lambda: "refunds requested" in place.output, "refunds have begun", within_seconds=SECONDS)
    running = " ".join(place.processes())
    for part in ("runner demo", "runner run", "runner webhook", "runner.sandbox.simulator", "postgres"):
        assert part in running
    demo.send_signal(signal.SIGINT)
    assert demo.wait(10) == 130
    assert place.output.endswith("Stopped. Nothing is left running.\n")
    assert place.error == ""
    assert place.processes() == []


def test_a_demo_whose_database_is_open_elsewhere_says_so_in_a_line(place: Place) -> None:
    held = open_data_folder(place.data)
    demo = place.start("runner", "demo")
    assert demo.wait(SECONDS) == 1
    held.release()
    assert re.fullmatch(r"seller-transfers demo: .* is in use by another process\n", place.error)


def test_psql_without_a_demo_says_what_makes_one(place: Place) -> None:
    psql = place.start("runner.sandbox.psql")
    assert psql.wait(SECONDS) == 1
    assert re.fullmatch(r".*no database of a demo yet.*seller-transfers demo.*\n", place.error)


def stories(orders: list[Order]) -> Counter[Story]:
    return Counter(order.story for order in orders)


@pytest.mark.parametrize("count", [20, 25, 300, 5000])
def test_the_orders_are_the_same_every_time_and_hold_every_story(count: int) -> None:
    orders = make_orders(count)
    assert orders == make_orders(count)
    assert len({order.id for order in orders}) == count
    assert set(stories(orders)) >= set(Story) - {Story.PLAIN}
    refunds = refunds_in_order(orders)
    assert sorted(order.id for order in refunds) == [order.id for order in orders if order.refund is not None]
    assert refunds[0].story is Story.ALWAYS_REFUSED
    # About two thirds, but with few orders the odd ones alone are more.
    assert len(refunds) == {20: 19, 25: 19, 300: 200, 5000: 3333}[count]
    assert {len(order.payouts) for order in orders} == {1, 2, 3}
    assert {payout.currency for payout in payouts_of(orders)} == {"usd", "eur", "gbp", "jpy", "kwd"}
    # Stripe refuses three-decimal amounts that do not end in 0.
    assert all(payout.amount % 10 == 0 for payout in payouts_of(orders) if payout.currency == "kwd")
    # Only what is a part is a story of one.
    for order in orders:
        assert 0 < order.half < sum(payout.amount for payout in order.payouts)
        assert 0 < 2 * order.third_of_first < order.payouts[0].amount
        assert {order.half % 10, order.third_of_first % 10} == {0}


def entry(kind: str, number: int, amount: int, currency: str = "usd", *, of: int | None = None) -> LedgerEntry:
    """Transfer tr_n to acct_n, or reversal trr_n of it (of another one: `of`)."""
    transfer = number if of is None else of
    seller, platform = f"acct_{transfer}", "acct_platform"
    back = kind == "reversal"
    return LedgerEntry(
        seq=1,
        kind="reversal" if back else "transfer",
        at=0.0,
        monotonic=0.0,
        livemode=False,
        debit=seller if back else platform,
        credit=platform if back else seller,
        amount=amount,
        moved=amount,
        currency=currency,
        transfer=f"tr_{transfer}",
        reversal=f"trr_{number}" if back else None,
        destination=seller,
    )


def row(number: int, amount: int, currency: str = "usd", **changes: object) -> Row:
    """Row n about tr_n, paid and kept."""
    kept = Row(
        id=number,
        order_id=f"order-{number}",
        amount=amount,
        currency=currency,
        destination_account=f"acct_{number}",
        is_paid=True,
        is_reversed=False,
        stripe_transfer_id=f"tr_{number}",
        stripe_reversal_id=None,
    )
    return replace(kept, **changes)  # type: ignore[arg-type]  # the fields are the test's to choose


def part_of_8(number: int, amount: int, **changes: object) -> Row:
    """Row n about a part of tr_8."""
    return row(
        number, amount, "gbp", order_id="order-8", destination_account="acct_8", stripe_transfer_id="tr_8", **changes
    )


def sound_rows() -> list[Row]:
    return [
        row(1, 1000, is_reversed=True, stripe_reversal_id="trr_1"),
        row(2, 500, "jpy"),
        row(3, 700, is_reversed=True),  # by somebody else
        row(4, 300, stripe_transfer_id=None),  # its id was never kept
        row(5, 200, stripe_transfer_id="tr_mistyped"),
        row(6, 900, is_paid=False, stripe_transfer_id=None),  # refunded before it was sent
        row(7, 1500, "kwd", is_reversed=True, stripe_reversal_id="trr_7"),
        # Two parts of a transfer came back; the third was to, but was withdrawn, and another row has taken over.
        row(8, 400, "gbp", is_reversed=True, stripe_reversal_id="trr_8"),
        part_of_8(9, 300, is_reversed=True, stripe_reversal_id="trr_9"),
        part_of_8(10, 300, is_paid=False),
        part_of_8(11, 300),
    ]


def sound_ledger() -> list[LedgerEntry]:
    paid = [("usd", 1, 1000), ("jpy", 2, 500), ("usd", 3, 700), ("usd", 4, 300), ("usd", 5, 200), ("kwd", 7, 1500)]
    transfers = [entry("transfer", number, amount, currency) for currency, number, amount in [*paid, ("gbp", 8, 1000)]]
    parts = [entry("reversal", 8, 400, "gbp"), entry("reversal", 9, 300, "gbp", of=8)]
    back = [entry("reversal", 1, 1000), entry("reversal", 33, 700, of=3), entry("reversal", 7, 1500, "kwd")]
    return [*transfers, *parts, *back]


def test_books_that_agree_have_no_differences_and_add_up() -> None:
    assert find_differences(sound_rows(), sound_ledger()) == []
    assert keep_books(sound_rows(), sound_ledger()) == [
        Books("gbp", 1000, 1000, 700, 700),
        Books("jpy", 500, 500, 0, 0),
        Books("kwd", 1500, 1500, 1500, 1500),
        Books("usd", 2200, 2200, 1700, 1700),
    ]
    assert all(books.agree for books in keep_books(sound_rows(), sound_ledger()))


def ledger_with(number: int, **changes: object) -> list[LedgerEntry]:
    """The sound ledger with one entry changed: numbers from the end are reversals, -3 for trr_1."""
    ledger = sound_ledger()
    ledger[number] = replace(ledger[number], **changes)  # type: ignore[arg-type]  # the test's to choose
    return ledger


DOCTORED: dict[str, tuple[Callable[[], list[LedgerEntry]], list[str]]] = {
    "one minor unit less came back": (
        lambda: ledger_with(-3, amount=999, moved=999),
        [
            "row 1 .* trr_1 is one of 999 usd of tr_1",
            "tr_1 .* 1000 usd came back, by the ledger 999",
            "acct_1: .* 1000 usd were paid and 1000 came back, by the ledger 1000 and 999",
        ],
    ),
    "it came back twice": (
        lambda: [*sound_ledger(), entry("reversal", 99, 1000, of=1)],
        [
            "tr_1 .* by the ledger 2000",
            "tr_1 .* 1 reversals were made, by the ledger 2",
            "tr_1: 1000 were paid and 2000 came back",
            "acct_1: .* by the ledger 1000 and 2000",
        ],
    ),
    "it came back in two parts": (
        lambda: [*ledger_with(-3, amount=600, moved=600), entry("reversal", 99, 400, of=1)],
        ["row 1 .* trr_1 is one of 600 usd of tr_1", "tr_1 .* 1 reversals were made, by the ledger 2"],
    ),
    "it never came back": (
        lambda: [each for each in sound_ledger() if each.reversal != "trr_1"],
        [
            "row 1 .* does not have its reversal trr_1",
            "tr_1 .* 1000 usd came back, by the ledger 0",
            "tr_1 .* 1 reversals were made, by the ledger 0",
            "acct_1: .* by the ledger 1000 and 0",
        ],
    ),
    "the reversal was accepted and moved nothing": (
        lambda: ledger_with(-3, moved=0),
        ["tr_1 .* 1000 usd came back, by the ledger 0", "acct_1: .* by the ledger 1000 and 0"],
    ),
    "what the seller keeps came back": (
        lambda: [*sound_ledger(), entry("reversal", 99, 500, "jpy", of=2)],
        [
            "tr_2 .* 0 jpy came back, by the ledger 500",
            "tr_2 .* 0 reversals were made, by the ledger 1",
            "acct_2: .* 500 jpy were paid and 0 came back, by the ledger 500 and 500",
        ],
    ),
    "the wrong one of two came back": (
        lambda: ledger_with(-3, transfer="tr_2", destination="acct_2", currency="jpy"),
        [
            "row 1 .* trr_1 is one of 1000 jpy of tr_2",
            "tr_1 .* 1000 usd came back, by the ledger 0",
            "tr_1 .* 1 reversals were made, by the ledger 0",
            "tr_2 .* 0 jpy came back, by the ledger 1000",
            "tr_2 .* 0 reversals were made, by the ledger 1",
            "tr_2: 500 were paid and 1000 came back",
            "acct_1: .* by the ledger 1000 and 0",
            "acct_2: .* by the ledger 500 and 1000",
        ],
    ),
    "it came back in another currency": (
        lambda: ledger_with(-3, currency="eur"),
        [
            "row 1 .* trr_1 is one of 1000 eur of tr_1",
            "acct_1: by the database 0 eur were paid and 0 came back, by the ledger 0 and 1000",
            "acct_1: by the database 1000 usd were paid and 1000 came back, by the ledger 1000 and 0",
        ],
    ),
    "only one of two parts came back": (
        lambda: [each for each in sound_ledger() if each.reversal != "trr_9"],
        [
            "row 9 .* does not have its reversal trr_9",
            "tr_8 .* 700 gbp came back, by the ledger 400",
            "tr_8 .* 2 reversals were made, by the ledger 1",
            "acct_8: by the database 1000 gbp were paid and 700 came back, by the ledger 1000 and 400",
        ],
    ),
    "the transfer of an old row came back": (
        lambda: [*sound_ledger(), entry("reversal", 99, 300, of=4)],
        ["tr_4: 300 came back, and no row", "acct_4: .* by the ledger 300 and 300"],
    ),
    "a seller got more": (
        lambda: ledger_with(1, amount=501, moved=501),
        ["tr_2 .* has 500 jpy for acct_2, the ledger 501 jpy for acct_2", "acct_2: .* by the ledger 501 and 0"],
    ),
    "another seller got it": (
        lambda: ledger_with(1, destination="acct_9"),
        [
            "tr_2 .* has 500 jpy for acct_2, the ledger 500 jpy for acct_9",
            "acct_2: .* 500 jpy were paid and 0 came back, by the ledger 0 and 0",
            "acct_9: .* 0 jpy were paid and 0 came back, by the ledger 500 and 0",
        ],
    ),
    "somebody was paid whom no row knows": (
        lambda: [*sound_ledger(), entry("transfer", 99, 50)],
        ["acct_99: by the database 0 usd were paid and 0 came back, by the ledger 50 and 0"],
    ),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_ledger_is_found_out(name: str) -> None:
    ledger, expected = DOCTORED[name]
    found = find_differences(sound_rows(), ledger())
    assert len(found) == len(expected), found
    for difference, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, difference), difference


def test_one_reversal_as_evidence_for_two_rows_is_found_out() -> None:
    rows = sound_rows()
    rows[6] = row(7, 1500, "kwd", is_reversed=True, stripe_reversal_id="trr_1")
    found = find_differences(rows, sound_ledger())
    assert any(re.search("trr_1: 2 rows", difference) for difference in found)
    assert any(re.search("row 7 .* trr_1 is one of 1000 usd of tr_1", difference) for difference in found)
