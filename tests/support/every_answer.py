"""Every kind of answer to every kind of amount, as rows of one database; and what must have become of each.

The ends are written by hand, for a Stripe that answers so and whoever asked may have died at any moment: a fault is
met by the first request that gets as far as Stripe, whether its sender lives to be told or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.sandbox.simulator import SimulatorClient
from tests.support.databases import Database, rows
from tests.support.orders import pay_sellers, record_paid

TRANSFER_AMOUNT = 1000
# What is asked of each transfer of the kind; two slices are asked for by two requests, and are one of a part each.
AMOUNTS: dict[str, list[int | None]] = {"whole": [None], "slices": [300, 450]}


@dataclass(frozen=True, slots=True)
class End:
    """How a row ends: its status, how many live reversals of ours it has at Stripe, why it is parked or failed."""

    status: str
    live: int = 0
    parked: str | None = None
    code: str | None = None


REVERSED = End("reversed", live=1)
REVERSED_ELSEWHERE = End("reversed", code="already_reversed")
GIVEN_UP = End("permanently_failed", code="given_up")
UNKNOWN_TO_STRIPE = End("permanently_failed", code="resource_missing")
MISMATCH = End("reversal_pending", parked="mismatch")
CONFLICT = End("reversal_pending", parked="conflict")


def _error(status: int, code: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"action": "error", "status": status, "code": code, "message": "Not today.", **fields}


_SERVER_ERROR = {"type": "api_error", "message": "An unknown error occurred"}
# Name: what goes wrong with the row's requests (the first one, unless `times` says otherwise), and the row's end.
ANSWERS: dict[str, tuple[dict[str, Any] | None, End]] = {
    "success": (None, REVERSED),
    "pendingsucceeds": ({"action": "pending_reversal"}, REVERSED),
    "pendingfails": ({"action": "pending_reversal"}, REVERSED),  # by the next generation
    "balancelow": (_error(400, "balance_insufficient", stored=True), REVERSED),
    "takenelsewhere": (None, REVERSED_ELSEWHERE),
    "refusedonce": (_error(400, stored=True), REVERSED),
    "refusedalways": (_error(400, "given_up", stored=True, times=None), GIVEN_UP),
    "paymentrequired": (_error(402, type="card_error", stored=True), REVERSED),
    "forbidden": (_error(403, stored=True), REVERSED),
    "ghost": (None, UNKNOWN_TO_STRIPE),
    "ratelimit": (_error(429, "rate_limit"), REVERSED),
    "locktimeout": (_error(429, "lock_timeout"), REVERSED),
    "keyinuse": (_error(409, "idempotency_key_in_use"), REVERSED),
    "servererror": (_error(500, **_SERVER_ERROR), REVERSED),
    "storederror": (_error(500, **_SERVER_ERROR, stored=True), REVERSED),  # nothing moved; by the next generation
    "storedaftercommit": ({"action": "error_after"}, REVERSED),
    "droppedbefore": ({"action": "drop_before"}, REVERSED),
    "droppedafter": ({"action": "drop_after"}, REVERSED),
    "late": ({"action": "execute_late"}, REVERSED),
    "truncated": ({"action": "truncated"}, REVERSED),
    "strange": ({"action": "garbage", "times": None}, MISMATCH),
    "otherparameters": (_error(400, type="idempotency_error", times=None), CONFLICT),
}
_FROM_ELSEWHERE = "takenelsewhere"
_GHOST = "ghost"


@dataclass(frozen=True, slots=True)
class Asked:
    """One reversal that is asked for; `amount` is null for all of the transfer."""

    request: str
    name: str
    answer: str
    transfer: str
    amount: int | None

    @property
    def minor_units(self) -> int:
        """The amount as a number."""
        return TRANSFER_AMOUNT if self.amount is None else self.amount


@dataclass(frozen=True, slots=True)
class Share:
    """Every so manieth combination: as many of them as `of` have all combinations between them."""

    number: int = 0
    of: int = 1

    def has(self, *places: int) -> bool:
        """Whether the combination of what stands at these places of its lists is in it."""
        return (self.number + sum(places)) % self.of == 0


ALL = Share()


def pay_for_every_answer(
    db: Database, stripe: SimulatorClient, kinds: Sequence[str], prefix: str, share: Share = ALL
) -> list[Asked]:
    """Make and record a transfer for each answer and kind of amount; gives what can then be asked for."""
    named = {
        f"{prefix}{answer}{kind}": (answer, kind)
        for a, answer in enumerate(ANSWERS)
        for k, kind in enumerate(kinds)
        if share.has(a, k)
    }
    known = [name for name, (answer, _) in named.items() if answer != _GHOST]
    ghosts = [name for name in named if name not in known]
    transfers = dict(zip(known, pay_sellers(db, stripe, *known, amount=TRANSFER_AMOUNT), strict=True))
    transfers |= {name: f"tr_{name}" for name in ghosts}
    record_paid(db, ghosts, [transfers[name] for name in ghosts], amount=TRANSFER_AMOUNT)
    asked = []
    for name, (answer, kind) in named.items():
        if answer == _FROM_ELSEWHERE:
            assert stripe.stripe("POST", f"/v1/transfers/{transfers[name]}/reversals").status == 200
        for part, amount in enumerate(AMOUNTS[kind], start=1):
            asked.append(Asked(f"re_{name}{part}", name, answer, transfers[name], amount))
    return asked


def add_answers(stripe: SimulatorClient, asked: Sequence[Asked], hold: Mapping[str, str] | None) -> None:
    """Script what goes wrong; with `hold` (name, when), the first request of each stands there before it does."""
    rules: list[dict[str, Any]] = []
    for each in asked:
        match = {"method": "POST", "transfer": each.transfer, "amount": each.minor_units}
        fault, _ = ANSWERS[each.answer]
        if hold is not None:
            rules.append({"action": "hold", **hold, "go_on": True, "match": match})
        if fault is not None:
            body = {"body": _strange(each)} if fault["action"] == "garbage" else {}
            rules.append({**fault, **body, "match": match})
    stripe.add_faults(rules)


def _strange(asked: Asked) -> str:
    """A reversal of this transfer, but of more than was asked for."""
    reversal = f"trr_{asked.request.removeprefix('re_')}"
    return (
        f'{{"id": "{reversal}", "object": "transfer_reversal", "amount": {asked.minor_units + 1},'
        f' "currency": "usd", "transfer": "{asked.transfer}", "metadata": {{}}}}'
    )


def ask(db: Database, asked: Sequence[Asked]) -> None:
    """Ask for all of it in one transaction, as one NOTIFY."""
    with db.transaction():
        for each in asked:
            allocation = "" if each.amount is None else ", p_allocation => %(allocation)s::text::jsonb"
            rows(
                db,
                f"select id from marketplace.request_reversal(%(order)s, %(request)s{allocation})",
                order=f"order-{each.name}",
                request=each.request,
                allocation=f'[{{"transfer_key": "key-{each.name}", "amount": {each.minor_units}}}]',
            )


def settle_pending(db: Database, stripe: SimulatorClient, asked: Sequence[Asked]) -> None:
    """End the reversals that Stripe holds and the database knows of, each as its answer says."""
    ends = {each.request: "succeeded" if each.answer == "pendingsucceeds" else "failed" for each in asked}
    held = rows(
        db,
        "select reversal_request_id as request, stripe_reversal_id as reversal from marketplace.seller_transfers"
        " where status = 'reversal_pending' and parked_reason is null and stripe_reversal_id is not null",
    )
    settled = {entry.reversal for entry in stripe.ledger(kind="reversal_status")} if held else set()
    for row in held:
        if row["reversal"] not in settled:
            stripe.settle_reversal(row["reversal"], "succeeded" if ends[row["request"]] == "succeeded" else "failed")


# What the ledger says of each request, beside what the database says; a line for everything that is not as it must be.
_DEVIATIONS = """
with reversals as (
  select
    l.reversal, l.transfer, l.amount, l.request,
    coalesce((select s.status from pg_temp.ledger as s where s.reversal = l.reversal order by s.seq desc limit 1),
      'succeeded') not in ('failed', 'canceled') as is_live
  from pg_temp.ledger as l
  where l.kind = 'reversal'
), sides as (
  select
    a.*, r.statuses, r.amount as recorded, r.evidence, r.parked_reasons, r.codes,
    t.live as live_found, t.amount as moved, t.reversals
  from pg_temp.asked as a
  left join lateral (
    select
      array_agg(distinct s.status) as statuses, sum(s.amount) as amount,
      array_remove(array_agg(s.stripe_reversal_id order by s.stripe_reversal_id), null) as evidence,
      array_remove(array_agg(distinct split_part(s.parked_reason, ':', 1)), null) as parked_reasons,
      array_remove(array_agg(distinct case when s.status <> 'reversal_pending' then s.failure_code end), null) as codes
    from marketplace.seller_transfers as s
    where s.reversal_request_id = a.request
  ) as r on true
  cross join lateral (
    select
      count(*) as live, coalesce(sum(v.amount), 0) as amount,
      coalesce(array_agg(v.reversal order by v.reversal), '{}') as reversals
    from reversals as v
    where v.is_live and v.request = a.request and v.transfer = a.transfer
  ) as t
)
select s.request, d.deviation
from sides as s
cross join lateral (values
  (s.statuses is distinct from array[s.status], 'is ' || coalesce(array_to_string(s.statuses, ', '), 'nowhere')),
  (s.recorded is distinct from s.amount, 'is of ' || s.recorded),
  (s.live_found <> s.live, 'has ' || s.live_found || ' live reversals'),
  (s.live_found > 0 and s.moved <> s.amount, 'moved ' || s.moved),
  (s.status = 'reversed' and s.evidence is distinct from s.reversals, 'has the evidence ' || s.evidence::text),
  (s.live_found > 0 and s.statuses && array['permanently_failed'], 'is given up while it is reversed'),
  (s.parked_reasons is distinct from array_remove(array[s.parked], null), 'is parked: ' || s.parked_reasons::text),
  (s.codes is distinct from array_remove(array[s.code], null), 'says ' || s.codes::text)
) as d (is_so, deviation)
where d.is_so
union all
select v.request, 'is reversed, though nobody asked'
from reversals as v
where v.request is not null
  and not exists (select from pg_temp.asked as a where a.request = v.request and a.transfer = v.transfer)
order by 1, 2
"""


def deviations(db: Database, stripe: SimulatorClient, asked: Sequence[Asked]) -> list[str]:
    """Compare what was asked with Stripe's ledger and the rows, by SQL; gives a line for all that must not be."""
    transfers = {each.transfer for each in asked}
    with db.transaction(), db.cursor() as cursor:
        cursor.execute(
            "create temp table ledger"
            " (seq bigint, kind text, transfer text, reversal text, amount bigint, status text, request text)"
            " on commit drop"
        )
        cursor.executemany(
            "insert into pg_temp.ledger values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (e.seq, e.kind, e.transfer, e.reversal, e.amount, e.status, e.metadata.get("reversal_request_id"))
                for e in stripe.ledger()
                if e.transfer in transfers and e.reversal is not None
            ],
        )
        cursor.execute(
            "create temp table asked (request text, transfer text, amount bigint,"
            " status text, live integer, parked text, code text) on commit drop"
        )
        ends = {name: end for name, (_, end) in ANSWERS.items()}
        cursor.executemany(
            "insert into pg_temp.asked values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (a.request, a.transfer, a.minor_units, end.status, end.live, end.parked, end.code)
                for a in asked
                for end in [ends[a.answer]]
            ],
        )
        return [f"{found['request']} {found['deviation']}" for found in rows(db, _DEVIATIONS)]
