"""The SQL and its model doing the same: each step is done by the real functions, then compared to the last column."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.model.dated.answers import Answer, LookFate, PostFate
from tests.model.dated.database import Call
from tests.model.dated.database import Database as Model
from tests.model.dated.policy import QUIET, Window
from tests.model.dated.refinement import check_claim, check_report, check_stale_report
from tests.model.dated.row import Row
from tests.model.dated.stripe import Request, Stripe
from tests.support.databases import Database, rows, value
from tests.support.moved_clock import let_pass, reversals_at
from tests.support.transfers import at_commit, call, record, record_transfer, register, report

TOTAL = 1000
WORKER = "worker-1"

NOT_REPLAYED = """
    with log as (
      select l.*, lag(l.to_status) over entries as before, lead(l.id) over entries is null as is_last
      from marketplace.transfer_status_log as l
      window entries as (partition by l.transfer_id order by l.id)
    )
    select t.id from marketplace.seller_transfers as t
    left join log on log.transfer_id = t.id
    where log.from_status is distinct from log.before or (log.is_last and log.to_status <> t.status) or log.id is null
"""


@dataclass(slots=True)
class Held:
    """A call in a worker's hands."""

    call: Call
    leased: DictRow
    ends_at: datetime
    answer: Answer | None = None
    times_told: int = 0


@dataclass
class SideBySide:
    """One database, its model, and the Stripe that both talk of. `moved`: how much time was made to pass."""

    db: Database
    model: Model = field(default_factory=Model)
    stripe: Stripe = field(default_factory=Stripe)
    moved: timedelta = timedelta()
    transfers: int = 0
    held: list[Held] = field(default_factory=list)
    found: dict[int, DictRow] = field(default_factory=dict)
    asked: list[tuple[int, str, int | None]] = field(default_factory=list)  # all requests: transfer, id, amount
    sent_under: dict[tuple[int, int], object] = field(default_factory=dict)  # row and generation: call_params

    def __post_init__(self) -> None:
        self.database_id = value(self.db, "select database_id from marketplace.stripe_control")
        register(self.db, WORKER)
        self.db.execute("select setseed(0)")  # the chance in the delays, the same each time

    def now(self) -> datetime:
        """By the database's clock, which is this machine's."""
        return datetime.now(UTC) + self.moved

    def wait(self, by: timedelta) -> None:
        let_pass(self.db, by)
        self.moved += by

    # The app

    def sell(self, *, known: bool) -> int:
        """Pay a seller; `known` at Stripe, too."""
        self.transfers += 1
        record_transfer(self.db, self.transfers)
        if known:
            self.stripe.transfers[f"tr_{self.transfers}"] = TOTAL
        return self.transfers

    def ask_back(self, n: int, request: str, amount: int | None = None) -> None:
        """Ask for what is left of a transfer, or for so much of it; and once more, which is the same request."""
        self.asked.append((n, request, amount))
        asked: dict[str, object] = {"p_order_id": f"order-{n}", "p_reversal_request_id": request}
        if amount is not None:
            asked["p_allocation"] = Jsonb([{"transfer_key": f"key-{n}", "amount": amount}])
        for new in call(self.db, "request_reversal", **asked):
            at = new["call_minted_at"] + self.moved
            self.model.rows[new["id"]] = Row(
                id=new["id"],
                identity=f"reversal:{self.database_id}:tr_{n}:{request}:1",
                transfer=f"tr_{n}",
                account=f"acct_{n}",
                amount=new["amount"],
                whole=new["amount"] == TOTAL,
                minted_at=at,
                due=Window.at(at),
                doubted_at=self.model.control.took_over_at,
            )
        call(self.db, "request_reversal", **asked)
        self.read()
        self.compare()

    # Workers

    def claim(self, limit: int, lease: timedelta) -> list[Held]:
        """A worker asks for calls."""
        before, asked_at = self.found, self.now()
        found = call(self.db, "claim_due_reversals", p_worker=WORKER, p_limit=limit, p_lease=lease)
        calls = {each["id"]: each for each in found}
        after = self.read()
        touched = {each for each in after if after[each]["lease_token"] != before[each]["lease_token"]}
        if not touched:
            assert self.model.is_silent(asked_at, lease) or self.model.picked(asked_at, limit) == [[]]
            assert not calls
            return []
        now = max(after[each]["leased_at" if each in calls else "said_at"] for each in touched)
        assert not self.model.is_silent(now, lease)
        answers = [rows for rows in self.model.picked(now, limit) if {row.id for row in rows} == touched]
        assert answers
        picked = answers[0]
        claimed = []
        for row in picked:
            if row.lease:
                row.lose(now, self.model.policy)
                self._see_due(row)
            if not row.doubted_at:
                check_claim(before[row.id], after[row.id], now)
            if row.is_due(now):
                claimed.append(self._hold(row, calls.pop(row.id), now, lease))
        assert not calls
        if claimed:
            self.model.probed(now)
        self.held += claimed
        self.compare()
        return claimed

    def _hold(self, row: Row, leased: DictRow, now: datetime, lease: timedelta) -> Held:
        token = str(leased["lease_token"])
        action = row.take(now, lease, token)
        expected = {
            "action": action,
            "stripe_transfer_id": row.transfer,
            "stripe_reversal_id": row.reversal,
            "amount": row.amount,
            "currency": "usd",
            "destination_account": row.account,
            "idempotency_key": f"{row.identity}:{row.generation}",
        }
        assert {name: leased[name] for name in expected} == expected
        if action == "reverse":
            written = self.found[row.id]["call_params"]
            assert written == {"amount": leased["amount"], "metadata": leased["metadata"]}
            assert leased["metadata"]["seller_transfers_identity"] == row.identity
            assert leased["metadata"]["seller_transfers_generation"] == f"{row.generation}"
        return Held(Call(row.id, token, action), leased, now + lease)

    def ask_stripe(self, held: Held, post: PostFate, look: LookFate) -> None:
        """The worker makes its call, unless its lease has run out."""
        now, leased = self.now(), held.leased
        if now >= held.ends_at:
            held.answer = Answer("not sent", {"sent": False})
        elif held.call.action == "look_up_reversals":
            held.answer = self.stripe.look(leased["stripe_transfer_id"], look, now)
        else:
            request = Request(
                leased["stripe_transfer_id"],
                leased["idempotency_key"],
                leased["amount"],
                leased["metadata"],
                dies_at=now + QUIET,
            )
            held.answer = self.stripe.post(request, post, now)

    def tell(self, told: Sequence[Held]) -> None:
        """Workers report, all in one call; each has an answer, and no two are of one row."""
        if not told:
            return
        self._report([(each.call, each.answer) for each in told if each.answer], [each.leased for each in told])
        for each in told:
            each.times_told += 1

    def tell_otherwise(self, held: Held, token: str | None = None) -> None:
        """A worker reports other facts than before, or under another token."""
        assert held.answer is not None
        held.times_told += token is None
        facts = {**held.answer.facts, "error_message": "said otherwise"}
        call = held.call._replace(token=token or held.call.token)
        leased = {**held.leased, "lease_token": call.token}
        self._report([(call, held.answer._replace(facts=facts))], [leased])

    def _report(self, said: Sequence[tuple[Call, Answer]], leased: Sequence[DictRow]) -> None:
        before = self.found
        recorded = record(
            self.db, *(report(each, **answer.facts) for each, (_, answer) in zip(leased, said, strict=True))
        )
        if any(answer.kind == "bad key" for _, answer in said):
            register(self.db, WORKER)  # a worker whose key is refused has to show another
        after = self.read()
        now = next(iter(after.values()))["said_at"]
        expected = self.model.report(said, now, new=after.keys() - before.keys())
        for (made, answer), (result, verdict), row in zip(said, expected, recorded, strict=True):
            assert (row["id"], row["result"]) == (made.row, result)
            assert verdict is None or row["verdict"] == verdict, (row["verdict"], verdict, answer.kind)
            reported = self.model.rows[made.row]
            if reported.doubted_at:
                continue  # after a failover the specification knows less of a row than the table
            if result == "applied":
                check_report(before[made.row], after[made.row], answer, reported.identity, now)
            elif result == "stale":
                check_stale_report(before[made.row], after[made.row], now)
        self.compare()

    # What must be so

    def check_records(self) -> None:
        """What was written down on the way adds up."""
        twice = "select lease_token from marketplace.transfer_attempts where disposition = 'applied'"
        assert not rows(self.db, f"{twice} group by lease_token having count(*) > 1"), "a token counted twice"
        assert not rows(self.db, NOT_REPLAYED), "the status log does not replay"
        at_commit(self.db)

    def read(self) -> dict[int, DictRow]:
        self.found = reversals_at(self.db, self.moved)
        return self.found

    def _see_due(self, row: Row) -> None:
        """Delays have some chance in them: the model takes over what came of it, if it is within bounds."""
        seen = self.found[row.id]["next_retry_at"]
        if row.due is None:
            assert seen is None, seen
            return
        tolerance = timedelta(milliseconds=1)
        assert row.due.earliest - tolerance <= seen <= row.due.latest + tolerance, (row.due, seen)
        row.due = Window.at(seen)

    def compare(self) -> None:
        """Every row is what the model says, and so is the pause."""
        found = self.found
        assert found.keys() == self.model.rows.keys()
        for row in self.model.rows.values():
            self._see_due(row)
            mine, theirs = _columns(row), {name: found[row.id][name] for name in _columns(row)}
            assert mine == theirs, {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}
            assert (found[row.id]["parked_reason"] is not None) == row.parked
            assert (found[row.id]["call_params"] is not None) == row.written
        control = self.model.control
        for seen in list(found.values())[:1]:
            assert (seen["paused_by"], seen["probe_at"]) == (control.paused_by, control.probe_at)
            if control.proven_by:
                assert seen["proven_by"] in control.proven_by
                control.proven_by = {seen["proven_by"]}
        self._check_generations()

    def _check_generations(self) -> None:
        for seen in self.found.values():
            key = seen["id"], seen["call_generation"]
            assert all(other[1] <= key[1] for other in self.sent_under if other[0] == key[0])
            if seen["call_params"] is not None:
                assert self.sent_under.setdefault(key, seen["call_params"]) == seen["call_params"]


def _columns(row: Row) -> dict[str, object]:
    lease = row.lease
    always = {"status": row.status, "stripe_reversal_id": row.reversal, "call_generation": row.generation}
    if not row.is_open:
        return {**always, "call_unknown": False, "lease_token": None}
    return {
        **always,
        "call_unknown": row.unknown,
        "call_replayed": row.replayed,
        "call_minted_at": row.minted_at,
        "call_last_sent_at": row.sent_at,
        "call_absent_at": row.absent_at,
        "retry_count": row.retries,
        "streak": row.streak,
        "streak_verdict": row.streak_verdict,
        "streak_since": row.streak_since,
        "waiting_since": row.waiting_since,
        "lease_token": lease and UUID(lease.token),
        "lease_action": lease and lease.action,
        "leased_at": lease and lease.taken_at,
        "lease_expires_at": lease and lease.ends_at,
    }
