"""What a runner does when Stripe answers every call with success."""

from tests.support.databases import Database
from tests.support.transfers import claim, claim_sends, nothing_found, record_one, sent, success, transfers_found


def work(db: Database) -> list[tuple[str, int]]:
    """What a runner does at Stripe until there is nothing left to do, all of which succeeds."""
    done: list[tuple[str, int]] = []
    for _ in range(20):
        db.execute(
            "update marketplace.seller_transfers set next_retry_at = clock_timestamp() where next_retry_at > now()"
        )
        db.execute("update marketplace.stripe_control set tokens = burst")
        leased = [*claim(db), *claim_sends(db)]
        if not leased:
            return done
        for each in leased:
            name = f"{each['id']}x{len(done)}"
            if each["action"] == "look_up_reversals":
                record_one(db, nothing_found(each))
            elif each["action"] == "look_up_transfer":
                record_one(db, transfers_found(each))
            elif each["action"] == "send":
                done.append(("sent", each["amount"]))
                record_one(db, sent(each, f"tr_sent{name}"))
            else:
                done.append(("reversed", each["amount"]))
                record_one(db, success(each, f"trr_{name}"))
    raise AssertionError("there is no end of work")
