"""The books of all orders against what is at Stripe: after every step the two agree, but for what is in doubt.

In doubt is an open row that is leased, of unknown outcome, parked or held by Stripe: its money may have moved.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg.rows import DictRow

from tests.model.orders.stripe import Reversal, Stripe, Transfer
from tests.support.databases import Database, rows
from tests.support.side_by_side import NOT_REPLAYED

OPEN = ("pending", "failed", "reversal_pending")

_ROWS = """
    select
      t.id, t.root_id, t.split_from, t.successor_of, t.compensates, t.made_for, t.transfer_key, t.order_id,
      t.destination_account, t.original_amount, t.amount, t.currency, t.status, t.completed_at, t.stripe_transfer_id,
      t.stripe_reversal_id, t.reversal_request_id, t.call_part, t.call_unknown, t.call_minted_at, t.call_last_sent_at,
      t.lease_token, t.parked_reason, t.failure_code, r.withdrawn_at, c.database_id, c.look_up_first_since
    from marketplace.seller_transfers as t
    cross join marketplace.stripe_control as c
    left join marketplace.reversal_requests as r on r.reversal_request_id = t.reversal_request_id
    order by t.id
"""

_LINES = """
    select l.* from marketplace.reversal_request_lines as l
    inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
    where l.met + l.unmet <> l.asked or (l.unmet > 0 and r.withdrawn_at is null)
"""


@dataclass
class Books:
    """The rows as they stand, beside Stripe."""

    stripe: Stripe
    rows: dict[int, DictRow]

    @classmethod
    def read(cls, db: Database, stripe: Stripe) -> "Books":
        return cls(stripe, {each["id"]: each for each in rows(db, _ROWS)})

    def __post_init__(self) -> None:
        self.followed = {each["successor_of"] for each in self.rows.values()}
        self.sends: dict[str, list[DictRow]] = defaultdict(list)  # by identity
        self.reversals: dict[str, list[DictRow]] = defaultdict(list)
        for row in self.rows.values():
            self.sends[self._send_identity(row)].append(row)
            if row["call_part"] is not None and row["stripe_transfer_id"]:
                self.reversals[self._reversal_identity(row)].append(row)

    # What belongs together

    def key_of(self, row: DictRow) -> str:
        """The transfer_key of the transfer that the app named, whatever became of it since."""
        root = self.rows[row["root_id"] or row["id"]]
        while root["compensates"]:
            given_back = self.rows[root["compensates"]]
            root = self.rows[given_back["root_id"] or given_back["id"]]
        return str(root["transfer_key"])

    def _send_identity(self, row: DictRow) -> str:
        key = self.key_of(row)
        if row["made_for"] is None:
            return f"transfer:{row['database_id']}:{key}"
        return f"transfer:again:{row['database_id']}:{len(key)}:{key}:{row['made_for']}"

    def _reversal_identity(self, row: DictRow) -> str:
        names = ("database_id", "stripe_transfer_id", "reversal_request_id", "call_part")
        return ":".join(["reversal", *(str(row[name]) for name in names)])

    def identity_of(self, row: DictRow) -> str:
        """What Stripe knows the row's present obligation by."""
        return self._send_identity(row) if row["completed_at"] is None else self._reversal_identity(row)

    # What must be so after every step

    def check(self, unrecorded: set[str]) -> None:
        """`unrecorded`: transfers that the app has made and recorded without their id, or not yet."""
        self._check_families()
        self._check_given_back()
        for transfer in self.stripe.transfers.values():
            if transfer.id not in unrecorded and not transfer.is_strange:
                self._check_transfer(transfer)
        for row in self.rows.values():
            self._check_evidence(row)
        identities = Counter(each.identity for each in self.live() if each.identity)
        assert not [each for each, times in identities.items() if times > 1], f"money moved twice: {identities}"
        self._check_sums(unrecorded)

    def live(self) -> Iterator[Transfer | Reversal]:
        for transfer in self.stripe.transfers.values():
            yield transfer
            yield from transfer.live

    def _check_families(self) -> None:
        sums: Counter[int] = Counter()
        for row in self.rows.values():
            if row["id"] not in self.followed:
                sums[row["root_id"] or row["id"]] += row["amount"]
        roots = {row["id"]: row["original_amount"] for row in self.rows.values() if row["root_id"] is None}
        assert sums == roots, f"families do not sum up: {sums} {roots}"

    def _check_given_back(self) -> None:
        """What was reversed for a withdrawn request is given back, once, and nothing else is."""
        reversed_ones = [row for row in self.rows.values() if row["status"] == "reversed" and row["withdrawn_at"]]
        due = {row["id"]: row["amount"] for row in reversed_ones}
        given = {
            row["compensates"]: row["original_amount"]
            for row in self.rows.values()
            if row["compensates"] and row["root_id"] is None
        }
        assert given == due, f"given back {given} for {due}"

    def _check_transfer(self, transfer: Transfer) -> None:
        known = [row for row in self.rows.values() if row["stripe_transfer_id"] == transfer.id]
        counted = [row for row in known if row["id"] not in self.followed]
        if known:
            assert sum(row["amount"] for row in counted) == transfer.amount, f"{transfer.id} is not its rows' sum"
        else:
            sending = self.sends[transfer.identity or ""]
            assert any(is_in_doubt(row) for row in sending), f"nobody looks for {transfer}: {sending}"
        ours = sum(each.amount for each in transfer.live if each.identity is None)
        explained = sum(r["amount"] for r in known if r["status"] == "reversed" and r["stripe_reversal_id"] is None)
        assert explained <= ours, f"more of {transfer.id} is said to be reversed elsewhere than was: {explained} {ours}"
        for reversal in transfer.live:
            if reversal.identity is not None:
                self._check_reversal(reversal)

    def _check_reversal(self, reversal: Reversal) -> None:
        taking = self.reversals[reversal.identity or ""]
        done = [row for row in taking if row["stripe_reversal_id"] == reversal.id]
        assert done or any(is_in_doubt(row) for row in taking), f"nobody looks for {reversal}: {taking}"
        # Of a row that ended and was taken over from, a part may have been found reversed elsewhere since.
        taking = [row for row in taking if row["id"] not in self.followed]
        assert all(row["amount"] == reversal.amount for row in taking), f"not what was asked: {reversal} {taking}"

    def _check_evidence(self, row: DictRow) -> None:
        if row["completed_at"] and row["stripe_transfer_id"]:
            transfer = self.stripe.transfers[row["stripe_transfer_id"]]
            assert (transfer.currency, transfer.destination) == (row["currency"], row["destination_account"])
            if row["stripe_reversal_id"]:
                (made,) = [each for each in transfer.reversals if each.id == row["stripe_reversal_id"]]
                assert made.amount == row["amount"]
                assert made.status == "succeeded" or row["status"] in OPEN, f"reversed by {made}"

    def _check_sums(self, unrecorded: set[str]) -> None:
        """Sent less reversed is the same on both sides, by currency; what is in doubt may make a difference."""
        here: Counter[str] = Counter()
        there: Counter[str] = Counter()
        more: Counter[str] = Counter()  # sends in doubt
        less: Counter[str] = Counter()  # reversals in doubt, or made by others and not explained yet
        for row in self.rows.values():
            if row["stripe_transfer_id"] in unrecorded or row["id"] in self.followed:
                continue
            paid = row["completed_at"] and row["stripe_transfer_id"]
            here[row["currency"]] += row["amount"] if paid and row["status"] != "reversed" else 0
            if is_in_doubt(row):
                (less if paid else more)[row["currency"]] += row["amount"]
            if row["status"] == "reversed" and row["stripe_reversal_id"] is None:
                less[row["currency"]] -= row["amount"]
        for transfer in self.stripe.transfers.values():
            if transfer.id not in unrecorded and not transfer.is_strange:
                there[transfer.currency] += transfer.left
                less[transfer.currency] += sum(each.amount for each in transfer.live if each.identity is None)
        for currency in here | there:
            difference = there[currency] - here[currency]
            assert -less[currency] <= difference <= more[currency], (
                f"{currency}: {there[currency]} at Stripe, {here[currency]} here, in doubt -{less} +{more}"
            )

    def check_nobody_keeps_money_in_silence(self, whole: set[str]) -> None:
        """Of an order that was refunded in full, nothing is paid or to be paid but what is in doubt."""
        for row in self.rows.values():
            if row["order_id"] in whole:
                assert row["status"] != "completed", f"paid for a refunded order: {row}"
                assert row["status"] not in ("pending", "failed") or is_in_doubt(row) or row["look_up_first_since"], (
                    f"to be sent for a refunded order: {row}"
                )

    def check_records(self, db: Database) -> None:
        """What was written down on the way adds up, and what could be taken is."""
        paid = {self.key_of(row) for row in self.rows.values() if row["status"] == "completed"}
        for line in rows(db, _LINES):
            assert line["met"] + line["unmet"] == line["asked"], line
            assert line["transfer_key"] not in paid, f"asked for, there, and not taken: {line}"
        assert not rows(db, NOT_REPLAYED), "the status log does not replay"


def is_in_doubt(row: DictRow) -> bool:
    held = row["stripe_reversal_id"] is not None
    return row["status"] in OPEN and bool(row["lease_token"] or row["call_unknown"] or row["parked_reason"] or held)
