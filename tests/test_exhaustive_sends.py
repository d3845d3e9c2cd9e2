"""One order in every state it can be in: sent, refunded and withdrawn at any time; each rule is needed.

tests/model/README.md says how to read the model. `pytest -s` prints the state counts and the shortest traces. The
largest searches are for `make model`.
"""

from dataclasses import dataclass, fields, replace

import pytest

from tests.model.explore import search
from tests.model.rules import Rules
from tests.model.send_world import Reach, SendWorld
from tests.model.sends import OrderRules
from tests.support.long_runs import only_long

TWICE = "money moved twice"
GIVEN_UP = "given up, yet paid"
NO_MONEY = "paid in the books only"
UNWANTED = "sent though nobody wants it"
KEPT_QUIET = "paid for a refunded order, in silence"
NOT_PAID = "not paid, in silence"
BOOKS = "the books say more than Stripe"
DEAD = "no way to an end"

ONE = Reach()
TWO_TRIES = Reach(generations=2)
TWO_REFUNDS = Reach(requests=2)
FAILOVER = Reach(fails_over=True, keys_age=False)
LATE = Reach(late=True, keys_age=False)


@dataclass(frozen=True, slots=True)
class Guard:
    """What goes wrong without a rule, and the smallest search that shows it."""

    rule: str
    violation: str
    reach: Reach = ONE


GUARDS = (
    Guard("order_is_locked", GIVEN_UP),
    Guard("request_outlives_its_lines", KEPT_QUIET, TWO_REFUNDS),
    Guard("refund_stops_posts", UNWANTED),
    Guard("withdrawal_stops_posts", UNWANTED),
    Guard("only_known_rows_are_given_up", GIVEN_UP),
    Guard("unseen_row_is_looked_up", GIVEN_UP, FAILOVER),
    Guard("look_up_by_identity", NO_MONEY),
    Guard("withdrawal_is_sticky", NOT_PAID),
    Guard("withdrawal_is_remembered", NOT_PAID),
    Guard("withdrawal_reaches_ended_reversals", KEPT_QUIET, TWO_REFUNDS),
    Guard("own_request_takes_no_compensation", NOT_PAID),
    Guard("compensation_has_its_own_identity", DEAD),
    Guard("again_goes_on_where_it_stopped", TWICE, FAILOVER),
    Guard("predecessor_counts_no_more", BOOKS),
    Guard("one_successor", BOOKS),
    Guard("adopted_transfer_may_be_reversed", NO_MONEY, FAILOVER),
    Guard("adoption_waits_for_quiet", NO_MONEY, FAILOVER),
    Guard("late_evidence_is_heard", GIVEN_UP, LATE),
    Guard("evidence_outlasts_answers", GIVEN_UP, LATE),
    Guard("late_successor_keeps_the_identity", GIVEN_UP, LATE),
    Guard("late_reversal_is_looked_up", NO_MONEY, LATE),
    Guard("failover_is_noticed_by_all", GIVEN_UP, FAILOVER),
)

# The rules of one obligation are told in test_exhaustive_model.py. These are what sends lean on most.
OF_ONE_OBLIGATION = (
    Guard("same_key_while_young", GIVEN_UP, TWO_TRIES),
    Guard("only_young_keys_are_posted", TWICE),
    Guard("absence_is_dated_by_the_claim", GIVEN_UP),
    Guard("only_quiet_absence_is_knowledge", GIVEN_UP),
    Guard("only_posts_are_definitive", GIVEN_UP),
    Guard("lost_post_is_unknown", GIVEN_UP),
    Guard("unclear_answers_are_unknown", GIVEN_UP),
)


# The bounds are somewhat below what was once found: a search that became empty would prove nothing.
@pytest.mark.parametrize(
    ("reach", "states_min"),
    [
        pytest.param(ONE, 6_500, id="keys age"),
        pytest.param(replace(TWO_REFUNDS, keys_age=False), 19_000, id="two refunds"),
        *only_long(
            pytest.param(replace(TWO_TRIES, keys_age=False), 35_000, id="a refusal is tried again"),
            pytest.param(FAILOVER, 50_000, id="a standby takes over"),
            pytest.param(LATE, 28_000, id="a request acts too late"),
        ),
    ],
)
def test_every_order_comes_to_an_end_that_is_right_or_said_to_be_wrong(reach: Reach, states_min: int) -> None:
    found = search(SendWorld(OrderRules(), reach))
    found.show("all rules")
    assert (found.violation, found.trace) == (None, ())
    assert found.states >= states_min


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.rule)
def test_without_a_rule_what_it_guards_against_happens(guard: Guard) -> None:
    found = search(SendWorld(replace(OrderRules(), **{guard.rule: False}), guard.reach), guard.violation)
    found.show(f"without {guard.rule}")
    assert found.violation == guard.violation


def test_every_rule_has_its_counterexample() -> None:
    assert [guard.rule for guard in GUARDS] == [field.name for field in fields(OrderRules)]


@pytest.mark.parametrize("guard", OF_ONE_OBLIGATION, ids=lambda guard: guard.rule)
def test_sends_need_the_rules_of_one_obligation(guard: Guard) -> None:
    world = SendWorld(OrderRules(), guard.reach, replace(Rules(), **{guard.rule: False}))
    found = search(world, guard.violation)
    found.show(f"without {guard.rule}")
    assert found.violation == guard.violation


def test_a_withdrawal_that_overtakes_its_request_after_a_failover_hides_a_reversal() -> None:
    found = search(SendWorld(OrderRules(), replace(FAILOVER, in_order=False)))
    found.show("without the assumption that lost requests are heard of in their order")
    assert found.violation == NO_MONEY
