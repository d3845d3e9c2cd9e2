"""Stripe's endpoints about what buyers pay and get back, and the list of events."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from . import errors
from . import payment_shapes as shapes
from .calls import Call
from .events import Event
from .objects import Charge
from .params import Params
from .scene import Scene, page_of
from .wire import Json, envelope
from .world import World

_REASONS = ("duplicate", "fraudulent", "requested_by_customer")
_MOST_TYPES = 20

_Found = TypeVar("_Found")


def get_charge(scene: Scene, call: Call, charge_id: str) -> Json:
    """GET /v1/charges/{charge}."""
    found = _find(scene, call, charge_id, "charge", lambda world: world.payments.charges)
    return shapes.charge(found, scene.world.livemode)


def get_refund(scene: Scene, call: Call, refund_id: str) -> Json:
    """GET /v1/refunds/{refund}."""
    return shapes.refund(_find(scene, call, refund_id, "refund", lambda world: world.payments.refunds))


def get_dispute(scene: Scene, call: Call, dispute_id: str) -> Json:
    """GET /v1/disputes/{dispute}."""
    found = _find(scene, call, dispute_id, "dispute", lambda world: world.payments.disputes)
    return shapes.dispute(found, scene.world.livemode)


def get_event(scene: Scene, call: Call, event_id: str) -> Json:
    """GET /v1/events/{id}."""
    return _find(scene, call, event_id, "event", lambda world: world.events.kept()[1]).body()


def _find(
    scene: Scene, call: Call, object_id: str, noun: str, among: Callable[[World], Mapping[str, _Found]]
) -> _Found:
    Params(call.params).only()
    if (found := among(scene.world).get(object_id)) is None:
        elsewhere = scene.other_mode if object_id in among(scene.other) else None
        raise errors.no_such(noun, object_id, param="id" if noun != "charge" else noun, other_mode=elsewhere)
    return found


def create_refund(scene: Scene, call: Call) -> Json:
    """POST /v1/refunds, by `charge` or by `payment_intent`."""
    params = Params(call.params)
    params.only("amount", "charge", "metadata", "payment_intent", "reason")
    amount = params.integer("amount", minimum=1)
    reason = params.text("reason")
    if reason not in (None, *_REASONS):
        raise errors.invalid_parameter("reason", f"Invalid reason: must be one of {', '.join(_REASONS)}")
    metadata = params.metadata()
    charge = _refunded_charge(scene, params)
    made = scene.world.payments.refund(charge, amount, reason=reason, metadata=metadata, cause=call.cause)
    return shapes.refund(made)


def _refunded_charge(scene: Scene, params: Params) -> Charge:
    charge, intent = params.text("charge"), params.text("payment_intent")
    if charge is not None:
        found = scene.world.payments.charges.get(charge)
        if found is None or intent not in (None, found.payment_intent):
            elsewhere = scene.other_mode if charge in scene.other.payments.charges else None
            raise errors.no_such("charge", charge, param="charge", other_mode=elsewhere, status=400)
        return found
    if intent is None:
        raise errors.parameter_missing("charge")
    found = scene.world.payments.charge_of_intent.get(intent)
    if found is None:
        elsewhere = scene.other_mode if intent in scene.other.payments.charge_of_intent else None
        raise errors.no_such("payment_intent", intent, param="payment_intent", other_mode=elsewhere, status=400)
    return found


def list_events(scene: Scene, call: Call) -> Json:
    """GET /v1/events, by `created`, and by `type` (`*` stands for any rest) or `types`."""
    params = Params(call.params)
    params.only("created", "ending_before", "limit", "starting_after", "type", "types")
    created, wanted = params.created(), _wanted_types(params)
    oldest_first, by_id = scene.world.events.kept()
    page, has_more = page_of(
        oldest_first, by_id, params, "event", lambda each: each.created in created and wanted(each)
    )
    return envelope("/v1/events", [each.body() for each in page], has_more=has_more)


def _wanted_types(params: Params) -> Callable[[Event], bool]:
    pattern, types = params.text("type"), params.texts("types", most=_MOST_TYPES)
    if pattern is not None and types:
        raise errors.invalid_parameter("types", "You may only specify one of these parameters: type, types.")
    if types:
        return lambda event: event.type in types
    if pattern is None:
        return lambda _: True
    start, star, rest = pattern.partition("*")
    if rest:
        raise errors.not_simulated("a type with more after its *")
    return lambda event: event.type.startswith(start) if star else event.type == start
