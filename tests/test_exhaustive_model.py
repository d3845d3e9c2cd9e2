"""One reversal in every state it can be in: the rules hold, and each of them is needed.

tests/model/README.md says how to read the model. `pytest -s` prints the state counts and the shortest traces. The
largest search is for `make model`.
"""

from dataclasses import dataclass, fields, replace

import pytest

from tests.model.explore import explore
from tests.model.rules import Rules
from tests.model.world import Assumptions, Scope
from tests.support.long_runs import only_long

TWICE = "money moved twice"
GIVEN_UP = "given up, yet reversed"
NO_EVIDENCE = "reversed without evidence"
TWO_LEASES = "two live leases"
PARKED = "parked for nothing"
UNUSED = "a key replaced unused"
DEAD = "no way to an end"

ONE = Scope(1)
TWO = Scope(2)
FAILOVER = Scope(1, "commits")
# What is found in a smaller world is found in the whole one, only later.
FEW_ONE = Scope(1, "commits", few_answers=True)
FEW_TWO = Scope(2, "commits", few_answers=True)
TICKS_TWO = Scope(2, "commits", keys_age=False)


@dataclass(frozen=True, slots=True)
class Guard:
    """What goes wrong without a rule, and the smallest search that shows it."""

    rule: str
    violation: str
    scope: Scope


GUARDS = (
    Guard("one_live_lease", TWO_LEASES, ONE),
    Guard("lease_checked_before_send", TWICE, ONE),
    Guard("lost_post_is_unknown", GIVEN_UP, ONE),
    Guard("outcome_needs_the_rows_token", TWICE, TWO),
    Guard("parameters_are_written_once", PARKED, ONE),
    Guard("unclear_answers_are_unknown", TWICE, TWO),
    Guard("only_the_reversal_asked_for_is_success", NO_EVIDENCE, ONE),
    Guard("only_posts_are_definitive", TWICE, TWO),
    Guard("throttling_leaves_unknown_alone", GIVEN_UP, ONE),
    Guard("key_in_use_is_unknown", GIVEN_UP, ONE),
    Guard("failed_reversal_is_no_success", NO_EVIDENCE, ONE),
    Guard("failed_reversal_mints", DEAD, ONE),
    Guard("failed_reversal_mints_once", UNUSED, TWO),
    Guard("identity_is_not_a_serial_id", TWICE, FEW_ONE),
    Guard("look_up_reads_every_page", TWICE, TWO),
    Guard("absence_is_dated_by_the_claim", TWICE, TWO),
    Guard("quiet_covers_the_lease", TWICE, TWO),
    Guard("same_key_while_young", TWICE, TWO),
    Guard("only_young_keys_are_posted", TWICE, ONE),
    Guard("age_counts_from_minting", TWICE, FEW_ONE),
    Guard("absence_mints_only_after_quiet", TWICE, TWO),
    Guard("young_key_outlives_quiet", TWICE, FEW_TWO),
    Guard("old_key_is_replaced", DEAD, ONE),
    Guard("unsent_key_is_renewed", UNUSED, ONE),
    Guard("absence_renews_only_after_quiet", TWICE, FEW_TWO),
    Guard("replayed_error_ends_posts", DEAD, ONE),
    Guard("look_before_first_post", TWICE, FAILOVER),
    Guard("look_before_each_generation", TWICE, FEW_TWO),
    Guard("look_after_unknown", TWICE, FAILOVER),
    Guard("failover_is_an_unknown_post", GIVEN_UP, FAILOVER),
    Guard("failover_outlasts_answers", GIVEN_UP, TICKS_TWO),
    Guard("failover_is_followed_by_silence", TWO_LEASES, FAILOVER),
    Guard("leased_row_is_not_given_up", GIVEN_UP, ONE),
    Guard("unknown_row_is_not_given_up", GIVEN_UP, ONE),
    Guard("only_quiet_absence_is_knowledge", GIVEN_UP, ONE),
    Guard("unseen_row_is_not_given_up", GIVEN_UP, FAILOVER),
)

OLD_COPY_TWO = Scope(2, "a day", few_answers=True)
RESTS_ON = {
    "requests_die_in_time": TWO,
    "errors_act_in_time": TWO,
    "refusals_are_stored": TWO,
    "keys_last_a_day": ONE,
    "old_copies_come_back_idle": OLD_COPY_TWO,
}


# The bounds are somewhat below what was once found: a search that became empty would prove nothing.
@pytest.mark.parametrize(
    ("scope", "states_min"),
    [
        pytest.param(Scope(3), 30_000, id="three generations"),
        pytest.param(Scope(1, "a day"), 15_000, id="an old copy comes back"),
        pytest.param(FEW_TWO, 15_000, id="a standby takes over and Stripe does or refuses"),
        *only_long(pytest.param(Scope(2, "commits"), 110_000, id="a standby takes over")),
    ],
)
def test_every_reachable_state_is_safe_and_has_a_way_to_an_end(scope: Scope, states_min: int) -> None:
    found = explore(Rules(), scope)
    found.show("all rules")
    assert (found.violation, found.trace) == (None, ())
    assert found.states >= states_min


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.rule)
def test_without_a_rule_what_it_guards_against_happens(guard: Guard) -> None:
    found = explore(replace(Rules(), **{guard.rule: False}), guard.scope, guard.violation)
    found.show(f"without {guard.rule}")
    assert found.violation == guard.violation
    assert found.trace[0].startswith("the app requests the reversal")


def test_every_rule_has_its_counterexample() -> None:
    assert [guard.rule for guard in GUARDS] == [field.name for field in fields(Rules)]


@pytest.mark.parametrize("assumption", RESTS_ON)
def test_without_an_assumption_money_moves_twice_under_all_rules(assumption: str) -> None:
    scope = replace(RESTS_ON[assumption], assumptions=replace(Assumptions(), **{assumption: False}))
    found = explore(Rules(), scope, TWICE)
    found.show(f"without the assumption {assumption}")
    assert found.violation == TWICE


def test_every_assumption_has_its_counterexample() -> None:
    assert list(RESTS_ON) == [field.name for field in fields(Assumptions)]
