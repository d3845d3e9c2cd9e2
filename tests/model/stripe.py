"""What Stripe does with a POST and what a look-up sees there."""

from collections.abc import Iterator

from tests.model.rules import Answer, Claim
from tests.model.state import Fate, Key, Request, Reversal, State, Stored, with_request


def execute(state: State, claim: Claim, age: int) -> Iterator[tuple[str, Answer, State]]:
    """A POST arrives, `age` ticks after the worker's last check: all that can come of it."""
    for key in state.keys:
        if (key.identity, key.generation) == (claim.identity, claim.generation):
            if key.parameters != claim.parameters:
                yield "400, other parameters than before", "other parameters", state
            elif key.stored == "server error":
                yield "the stored 500 again", "replayed server error", state
            else:
                yield f"the stored answer again, {key.stored}", key.stored, state
            return
    done = reversed_by(state, claim, "live")
    failed = _store(state, claim, "server error")
    yield "done", "succeeded", _store(done, claim, "succeeded")
    yield "accepted, pending", "accepted", _store(reversed_by(state, claim, "pending"), claim, "accepted")
    yield "refused with a 400", "refused", _store(state, claim, "refused")
    yield "500, nothing done", "server error", failed
    yield "500, yet done", "server error", _store(done, claim, "server error")
    yield "500, perhaps done later", "server error", with_request(failed, Request(claim, age, answered=True))


def look(state: State, claim: Claim) -> Answer:
    """What the list of the transfer's reversals shows of the identity asked for."""
    ours = [reversal for reversal in state.reversals if reversal.identity == claim.identity]
    if any(reversal.fate == "live" for reversal in ours):
        return "found"
    if any(reversal.fate == "pending" for reversal in ours):
        return "found pending"
    if any(reversal.generation == claim.generation for reversal in ours):
        return "found failed"
    return "found failed of another generation" if ours else "found nothing"


def reversed_by(state: State, claim: Claim, fate: Fate) -> State:
    """Stripe makes a reversal."""
    made = Reversal(claim.identity, claim.generation, fate)
    return state._replace(reversals=tuple(sorted([*state.reversals, made])))


def _store(state: State, claim: Claim, stored: Stored) -> State:
    key = Key(claim.identity, claim.generation, claim.parameters, stored)
    return state._replace(keys=tuple(sorted([*state.keys, key])))
