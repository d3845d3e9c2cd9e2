"""The database: which rows a claim gets, what a report does, and when calls are paused."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations
from typing import Literal, NamedTuple

from tests.model.dated.answers import Answer
from tests.model.dated.policy import Policy
from tests.model.dated.row import Action, Row, Verdict

# What an answer to a POST means, by its kind.
VERDICTS: dict[str, Verdict] = {
    "succeeded": "succeeded",
    "accepted": "accepted",
    "made and failed": "insufficient_balance",
    "refused": "transient",
    "short of balance": "insufficient_balance",
    "already reversed": "already_reversed",
    "not found": "not_found",
    "other parameters": "conflict",
    "server error": "unknown",
    "replayed server error": "unknown",
    "throttled": "throttled",
    "key in use": "throttled",
    "bad key": "configuration",
    "bad account": "configuration",
    "no answer": "unknown",
    "garbled": "unknown",
    "another reversal": "mismatch",
    "not sent": "not_sent",
}


class Call(NamedTuple):
    """What a worker holds: a lease and what to do under it."""

    row: int
    token: str
    action: Action


class Read(NamedTuple):
    """What an answer comes to for a row."""

    verdict: Verdict
    reversal: str | None = None
    says: str = ""
    elsewhere: int = 0  # so much of it was taken by others


SILENCE = timedelta(minutes=2)  # after a failover, at least


@dataclass(slots=True)
class Control:
    """Whether calls are made at all."""

    paused_by: Literal["person", "verdict"] | None = None
    paused_at: datetime | None = None
    probe_at: datetime | None = None
    probes: int = 0
    proven_at: datetime | None = None
    proven_by: set[int] = field(default_factory=set)
    took_over_at: datetime | None = None  # commits up to then may be lost

    def pause(self, by: Literal["person", "verdict"], now: datetime, probe_at: datetime | None) -> None:
        self.paused_by, self.paused_at, self.probe_at, self.probes = by, now, probe_at, 0

    def resume(self) -> None:
        self.paused_by = self.paused_at = self.probe_at = None
        self.probes = 0


@dataclass(slots=True)
class Database:
    """All rows, and the row of stripe_control."""

    rows: dict[int, Row] = field(default_factory=dict)
    control: Control = field(default_factory=Control)
    policy: Policy = field(default_factory=Policy)
    verdicts: dict[str, Verdict] = field(default_factory=lambda: dict(VERDICTS))
    kept: dict[tuple[str, int], dict[str, Answer]] = field(default_factory=dict)  # reports, by token and row

    # Claims

    def took_over(self, now: datetime) -> None:
        """What happened up to now may be lost."""
        self.control.took_over_at = now
        for row in self.rows.values():
            row.doubted_at = now

    def is_silent(self, now: datetime, lease: timedelta) -> bool:
        """Leases of a lost history may be live."""
        return self.control.took_over_at is not None and now < self.control.took_over_at + max(2 * lease, SILENCE)

    def picked(self, now: datetime, limit: int) -> list[list[Row]]:
        """The rows that a claim leases, or finds abandoned; several answers where rows are due at the same moment."""
        control = self.control
        if control.paused_by and (control.probe_at is None or control.probe_at > now):
            return [[]]
        leased = {row.transfer for row in self.rows.values() if row.lease and row.lease.is_live(now)}
        due = [row for row in self.rows.values() if row.is_due(now) and row.transfer not in leased]
        if control.paused_by:
            limit = 1
            troubled = {row.account for row in self.rows.values() if row.is_open and not row.parked and row.troubled}
            due = [row for row in due if row.account not in troubled] or due
        due.sort(key=_due_at)
        last = [_due_at(row) for row in due][:limit][-1:]
        first = [row for row in due if _due_at(row) < last[0]] if last else []
        at_once = [row for row in due if _due_at(row) in last]
        answers = combinations(at_once, min(limit, len(due)) - len(first))
        return [_one_of_each_transfer([*first, *some]) for some in answers]

    def probed(self, now: datetime) -> None:
        """A trial call was claimed."""
        if self.control.paused_by == "verdict":
            self.control.probes += 1
            wait = self.policy.delays["configuration"].after(now, self.control.probes + 1)
            self.control.probe_at = wait.earliest

    # Reports

    def report(
        self, reports: Iterable[tuple[Call, Answer]], now: datetime, new: Collection[int] = ()
    ) -> list[tuple[str, Verdict | None]]:
        """Workers say what they were told, all at once; what becomes of each, and the verdict if it is applied.

        `new`: ids for what is split off, in the order of the reports.
        """
        ids = iter(sorted(new))
        results: list[tuple[str, Verdict | None]] = []
        refused: list[Row] = []
        answered: list[tuple[Row, bool, datetime]] = []
        for call, answer in reports:
            row = self.rows[call.row]
            kept = self.kept.setdefault((call.token, call.row), {})
            if answer in kept.values():
                results.append(("already_recorded", None))
                continue
            kind = "second" if kept else answer.kind if answer.kind == "not sent" else "call"
            kept.setdefault(kind, answer)
            row.known = row.known or answer.facts.get("http_status") == 200
            if row.lease is None or row.lease.token != call.token:
                results.append(("stale", None))
                self._stale(row, call, answer, now)
                continue
            taken_at = row.lease.taken_at
            read = self.read(row, row.lease.action, answer, now)
            results.append(("applied", read.verdict))
            was_troubled = row.troubled
            if row.lease.action == "reverse":
                row.posted(read.verdict, now, self.policy, reversal=read.reversal, says=read.says)
            elif 0 < read.elsewhere < row.amount:
                slice_id = next(ids)
                self.rows[slice_id] = row.split(slice_id, read.elsewhere, now)
            else:
                row.looked_up(read.verdict, now, self.policy, reversal=read.reversal)
            if read.verdict == "configuration":
                row.parked = was_troubled and answer.kind != "bad key" and self._is_at_fault(row)
                refused += [] if row.parked else [row]
            elif status := answer.facts.get("http_status") if "action" not in answer.facts else None:
                answered.append((row, status == 200, taken_at))
        assert not list(ids), "nothing else was split off"
        self._lift(answered, now)
        if refused and not self.control.paused_by:
            self.control.pause("verdict", now, self.policy.delays["configuration"].after(now, 1).earliest)
        return results

    def read(self, row: Row, action: Action, answer: Answer, now: datetime) -> Read:
        """What an answer means for a row."""
        if action == "reverse":
            if "action" in answer.facts:  # it is about something else than was asked
                return Read("unknown")
            if answer.kind == "not found" and row.known and not row.reversal:
                return Read("configuration")  # what Stripe has known does not vanish
            made = answer.facts.get("object") or {}
            return Read(self.verdicts[answer.kind], made.get("id"), answer.kind)
        match answer.kind:
            case "listed":
                return self._read_list(row, answer, now)
            case "not found" if row.reversal or self._may_be_under_way(row):
                return Read("unclear")
            case "not found" if row.known:
                return Read("configuration")
            case "not found" | "throttled" | "bad key" | "not sent":
                return Read(self.verdicts[answer.kind])
            case _:
                return Read("unclear")

    def _read_list(self, row: Row, answer: Answer, now: datetime) -> Read:
        live = [one for one in answer.seen if one.status in ("pending", "succeeded")]
        ours = [one for one in answer.seen if one.identity == row.identity]
        alive = [one for one in ours if one in live]
        if len(alive) > 1:
            return Read("moved_twice")
        if alive:
            return Read("accepted" if alive[0].status == "pending" else "succeeded", alive[0].id)
        lease = row.lease
        if lease is None or not lease.is_live(now):
            return Read("unclear")  # it may have been read at any time since
        if row.reversal or any(one.generation == row.generation for one in ours):
            return Read("insufficient_balance")
        left = answer.total - sum(one.amount for one in live)
        if left >= row.amount:
            return Read("absent")
        family = {each.identity for each in self.rows.values() if each.transfer == row.transfer}
        elsewhere = [one for one in live if one.identity not in family]
        if self._may_be_under_way(row) or any(one.status == "pending" for one in elsewhere):
            return Read("unclear")
        return Read("already_reversed", elsewhere=row.amount - left)

    def _may_be_under_way(self, row: Row) -> bool:
        """A request was, or may be, on its way when the row was last claimed."""
        quiet_from = row.quiet_from()
        return row.unknown and quiet_from is not None and row.lease is not None and row.lease.taken_at < quiet_from

    def _stale(self, row: Row, call: Call, answer: Answer, now: datetime) -> None:
        """A report without the row's lease changes nothing, but what it proves is looked up."""
        proves = self.read(row, call.action, answer, now).verdict in ("succeeded", "accepted")
        # Another one than was asked for: money moved all the same.
        proves = proves or (call.action == "reverse" and answer.kind == "another reversal")
        if row.is_open and row.lease is None and proves:
            row.proven(now)

    def _is_at_fault(self, row: Row) -> bool:
        proven_at, troubled_at = self.control.proven_at, row.troubled_at
        assert troubled_at is not None
        return proven_at is not None and troubled_at < proven_at and self.control.proven_by != {row.id}

    def _lift(self, answered: list[tuple[Row, bool, datetime]], now: datetime) -> None:
        control = self.control
        if control.paused_by != "verdict" or control.probe_at is None or control.paused_at is None:
            return
        since = [(row, good) for row, good, taken_at in answered if taken_at > control.paused_at]
        if since:
            control.resume()
            if proof := {row.id for row, good in since if good}:
                control.proven_at, control.proven_by = now, proof


def _one_of_each_transfer(rows: Iterable[Row]) -> list[Row]:
    one_each: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (_due_at(row), row.id)):
        one_each.setdefault(row.transfer, row)
    return list(one_each.values())


def _due_at(row: Row) -> datetime:
    assert row.due is not None
    return row.due.latest
