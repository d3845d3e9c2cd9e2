"""The end of whole orders: no more faults, and then everybody has what he is to have."""

from datetime import timedelta

from psycopg.rows import DictRow

from tests.support.databases import rows, value
from tests.support.order_books import OPEN
from tests.support.order_world import KINDS, World
from tests.support.transfers import call


def finish(world: World) -> None:
    """What is under way comes to its end, and everybody has what he is to have."""
    for order in world.wanted.orders.values():
        if not world.wanted.keys_of(order.id):
            world.sell(order, 100, "create")
    for held in world.held:
        if held.facts is not None and not held.times_told:
            world.report([held])
            world.check()
    for _ in range(100):
        world.stripe.settle(0, "succeeded")
        told = _tell_all(world)
        reopened = [row["id"] for row in world.ended() if world.reopen(row)]
        if not _work(world) and not told and not reopened:
            break
        world.check()
    else:
        raise AssertionError(f"there is no end to it: {_open(world)}")
    world.check()
    _check_end(world)
    _check_shares(world)


def _tell_all(world: World) -> bool:
    """What was never delivered is delivered now, and what waited is tried again; whether there was anything."""
    due = [n for n, given in enumerate(world.stripe.events) if given["id"] not in world.told]
    for n in due:
        world.tell(n)
    return bool(due) or any(each["result"] == "acted" for each in call(world.db, "retry_events"))


def _work(world: World) -> bool:
    """Workers do what is to be done next; whether there is anything."""
    call(world.db, "resume_stripe_calls", p_reason="the faults are over")
    dues = {kind: value(world.db, "select marketplace.next_due_in(%(kind)s)", kind=kind) for kind in KINDS}
    waits = [due for due in dues.values() if due is not None]
    if not waits:
        return False
    world.wait(min(waits) + timedelta(milliseconds=1) if min(waits) else timedelta())
    for kind in KINDS:
        claimed = world.claim(kind, 100, timedelta(seconds=60))
        for held in claimed:
            world.ask_stripe(held, "done", "listed")
        world.report(claimed)
    return True


def _open(world: World) -> list[DictRow]:
    return [row for row in world.books.rows.values() if row["status"] in OPEN and row["parked_reason"] is None]


def _check_end(world: World) -> None:
    assert not _open(world), "open, and nothing is due"
    kept = rows(world.db, "select event_id, type, detail from marketplace.stripe_events where state = 'kept'")
    parked = [row for row in world.books.rows.values() if row["parked_reason"]]
    assert parked or not kept, kept
    for key in world.wanted.keys.values():
        mine = [row for row in world.books.rows.values() if world.books.key_of(row) == key.name]
        at_stripe = [each for each in world.stripe.of(key.account) if not each.is_strange]
        taken = sum(one.amount for each in at_stripe for one in each.live if one.identity is None)
        has = sum(each.left for each in at_stripe)
        wanted = world.wanted.left(key)
        if any(row["parked_reason"] for row in mine):
            continue  # a person's
        here = sum(row["amount"] for row in mine if row["status"] == "completed")
        assert has == here, f"{key} has {has}, the rows say {here}: {mine}"
        # What others took may be what was asked.
        assert wanted.start - taken <= has < wanted.stop, f"{key} has {has}, is to have {wanted}, {taken} taken: {mine}"


def _check_shares(world: World) -> None:
    """What the view says that refunds and disputes took of each seller is what he was to have and has not."""
    found = rows(
        world.db,
        """
        select s.*, h.meant, h.meant - h.has as gone
        from (
          select
            t.order_id, t.seller_id,
            sum(t.original_amount) filter (where t.transfer_key is not null) as meant,
            coalesce(sum(t.amount) filter (where t.status = 'completed'), 0) as has,
            bool_or(t.parked_reason is not null) as is_parked,
            -- Nobody asked for it, and it was not sent: the view says nothing of that.
            bool_or(t.status = 'permanently_failed' and t.reversal_request_id is null and not exists (
              select from marketplace.seller_transfers as n where n.successor_of = t.id)) as is_unsent
          from marketplace.seller_transfers as t group by t.order_id, t.seller_id
        ) as h
        inner join (
          select
            s.order_id, s.seller_id, sum(s.taken_back - s.given_back + s.not_sent) as net,
            sum(s.under_way) as under_way, sum(s.not_taken_back) as not_taken_back,
            bool_and(s.asked >= s.taken_back - s.given_back + s.not_sent) as is_all_asked,
            max(s.asked) filter (where s.reason = 'dispute') as most
          from marketplace.request_shares as s group by s.order_id, s.seller_id
        ) as s using (order_id, seller_id)
        where not h.is_parked and not h.is_unsent
        """,
    )
    for each in found:
        assert (each["under_way"], each["is_all_asked"]) == (0, True), each
        assert (each["most"] or 0) <= each["meant"], each
        assert each["net"] == each["gone"] or each["not_taken_back"], each
