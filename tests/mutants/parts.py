"""Bugs in taking back a part: how a transfer is split, and how its slices keep out of each other's way."""

from tests.mutants.mutant import mutant

_ALLOCATION = "db/functions/allocation.sql"
_EVIDENCE = "db/functions/split_by_evidence.sql"
_FAMILY = "db/functions/family.sql"
_CONSERVE = "db/functions/conserve_family.sql"
_REST = "db/functions/read_rest.sql"
_GUARDS = "db/functions/transfer_guards.sql"
_LEASE = "db/functions/lease.sql"
_LOOK = "db/functions/look_up.sql"
_NEXT = "db/functions/next_action.sql"
_TAKE = "db/functions/take_back.sql"
_OFFER = "db/functions/offer.sql"

MUTANTS = (
    mutant(
        "sibling-check-missing",
        "Two workers reverse parts of one transfer at once; neither look sees what the other takes.",
        "test_split_by_evidence.py",
        (_LEASE, "      and not marketplace._has_leased_sibling(t.id, t.root_id, p_now)\n", ""),
    ),
    mutant(
        "two-slices-in-one-claim",
        "One claim hands out two parts of one transfer, to be reversed at once.",
        "test_split_by_evidence.py",
        (_LEASE, "select distinct on (coalesce(t.root_id, t.id)) t.id,", "select distinct on (t.id) t.id,"),
        (_LEASE, "order by coalesce(t.root_id, t.id), t.next_retry_at, t.id", "order by t.id"),
    ),
    mutant(
        "part-sent-without-look",
        "Stripe does not refuse a part a second time, and after a failover that nobody noticed it is sent again.",
        "test_split_by_evidence.py",
        (_NEXT, "or not marketplace._is_first_of_its_kind(p_row)", "or false"),
    ),
    mutant(
        "rest-taken-for-the-whole",
        "What is left of a transfer is sent without a look, though Stripe would not refuse it a second time.",
        "test_split_by_evidence.py",
        (_NEXT, "p_row.root_id is null and p_row.amount = p_row.original_amount", "p_row.root_id is null"),
    ),
    mutant(
        "foreign-evidence-used-twice",
        "One reversal made elsewhere ends two slices: the seller keeps the second one's money.",
        "test_split_by_evidence.py",
        (_REST, "if elsewhere <= v_unused then", "if elsewhere <= p_foreign_sum then"),
    ),
    mutant(
        "rest-keeps-its-key",
        "After a split by evidence the rest goes out under the key of a larger amount.",
        "test_split_by_evidence.py",
        (_EVIDENCE, "if v_row.call_params is not null then", "if false then"),
    ),
    mutant(
        "every-part-is-number-one",
        "Two parts of one refund have one key: the second is answered with the reversal of the first.",
        "test_allocation.py",
        (
            _FAMILY,
            "select coalesce(max(k.call_part), 0) + 1\n",
            "select least(coalesce(max(k.call_part), 0) + 1, 1)\n",
        ),
    ),
    mutant(
        "family-need-not-add-up",
        "A split that loses a part of the money, or makes some, is committed.",
        "test_family.py",
        (
            _CONSERVE,
            "if v_root.id is null or v_sum is distinct from v_root.original_amount::numeric then",
            "if v_root.id is null then",
        ),
    ),
    mutant(
        "call-for-more-than-the-row",
        "After a split the row's next request is still for the amount it had before.",
        "test_split.py",
        (_CONSERVE, "elsif v_call_is_stale then", "elsif false then"),
    ),
    mutant(
        "amount-grows",
        "The amount of an open row can be raised: more is taken back than was paid.",
        "test_transfer_guards.py",
        (_GUARDS, "when NEW.amount > OLD.amount then 'amount'", "when false then 'amount'"),
    ),
    mutant(
        "more-than-is-left",
        "A second partial refund takes what the first one took.",
        "test_allocation.py",
        (_ALLOCATION, "if v_share.asked > v_share.available then", "if false then"),
    ),
    mutant(
        "part-takes-the-whole-row",
        "A refund of a part takes all of the seller's transfer back.",
        "test_allocation.py",
        (_OFFER, "v_id := marketplace._split_transfer(p_row.id, p_amount);", "null;"),
    ),
    mutant(
        "part-takes-what-comes-later",
        "A refund of a part takes a transfer back that was recorded later and has nothing to do with it.",
        "test_allocation.py",
        (_TAKE, "where r.order_id = p_order_id and r.is_whole and", "where r.order_id = p_order_id and"),
    ),
    mutant(
        "transfer-under-way-given-up",
        "A transfer whose request may have left is written off as never sent: the seller keeps what arrives.",
        "test_take_back.py",
        (
            _FAMILY,
            "p_row.status in ('pending', 'failed') and not marketplace._may_be_under_way(p_row)",
            "p_row.status in ('pending', 'failed')",
        ),
    ),
)
