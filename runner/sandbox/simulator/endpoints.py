"""Stripe's endpoints, as far as the simulator has them. What is not here is an honest 404."""

import re
from collections.abc import Callable
from functools import partial

from . import errors, shapes
from . import payment_endpoints as payments
from .calls import Call
from .objects import PLATFORM, Reversal
from .params import Params
from .scene import Scene, page_of
from .wire import Json, envelope


def get_own_account(scene: Scene, call: Call) -> Json:
    """GET /v1/account: whose key this is, or the account of the Stripe-Account header."""
    Params(call.params).only()
    return _account(scene, call, call.stripe_account or PLATFORM)


def get_account(scene: Scene, call: Call, account_id: str) -> Json:
    """GET /v1/accounts/{account}."""
    Params(call.params).only()
    return _account(scene, call, account_id)


def _account(scene: Scene, call: Call, account_id: str) -> Json:
    if account_id == PLATFORM:
        return shapes.account(scene.world.platform)
    if account_id not in scene.world.accounts:
        raise errors.account_invalid(call.api_key or "", account_id)
    return shapes.account(scene.world.accounts[account_id])


def get_balance(scene: Scene, call: Call) -> Json:
    """GET /v1/balance: the platform's, or that of the account of the Stripe-Account header."""
    Params(call.params).only()
    account_id = call.stripe_account or PLATFORM
    if account_id != PLATFORM and account_id not in scene.world.accounts:
        raise errors.account_invalid(call.api_key or "", account_id)
    return shapes.balance(account_id, scene.world)


def create_transfer(scene: Scene, call: Call) -> Json:
    """POST /v1/transfers."""
    params = Params(call.params)
    params.only(
        "amount",
        "currency",
        "description",
        "destination",
        "expand",
        "metadata",
        "source_transaction",
        "source_type",
        "transfer_group",
    )
    amount = params.required_integer("amount", minimum=1)
    currency = params.currency()
    destination = params.required_text("destination")
    source = params.text("source_transaction")
    if params.text("source_type") not in (None, "card"):
        raise errors.not_simulated("any source_type but card")
    group, description = params.text("transfer_group"), params.text("description")
    metadata = params.metadata()
    expand = params.expand(("destination", "source_transaction"))
    transfer = scene.world.transfer(
        amount=amount,
        currency=currency,
        destination=scene.destination(destination).id,
        source=scene.source(source) if source is not None else None,
        transfer_group=group,
        description=description,
        metadata=metadata,
        cause=call.cause,
    )
    return shapes.transfer(transfer, scene.world, expand)


def get_transfer(scene: Scene, call: Call, transfer_id: str) -> Json:
    """GET /v1/transfers/{transfer}."""
    params = Params(call.params)
    params.only("expand")
    expand = params.expand(("destination", "source_transaction"))
    return shapes.transfer(scene.transfer(transfer_id, "transfer"), scene.world, expand)


def list_transfers(scene: Scene, call: Call) -> Json:
    """GET /v1/transfers, by `created`, `destination` and `transfer_group`."""
    params = Params(call.params)
    params.only("created", "destination", "ending_before", "expand", "limit", "starting_after", "transfer_group")
    expand = frozenset(
        path.removeprefix("data.") for path in params.expand(("data.destination", "data.source_transaction"))
    )
    created, group = params.created(), params.text("transfer_group")
    page, has_more = page_of(
        scene.world.transfers_in_order(params.text("destination")),
        scene.world.transfers,
        params,
        "transfer",
        lambda row: row.created in created and group in (None, row.transfer_group),
    )
    rows = [shapes.transfer(row, scene.world, expand) for row in page]
    return envelope("/v1/transfers", rows, has_more=has_more)


def create_reversal(scene: Scene, call: Call, transfer_id: str) -> Json:
    """POST /v1/transfers/{id}/reversals."""
    params = Params(call.params)
    params.only("amount", "description", "expand", "metadata", "refund_application_fee")
    amount = params.integer("amount", minimum=1)
    params.text("description")  # checked as Stripe does; the object has no such field
    params.flag("refund_application_fee")  # there are no application fees here
    metadata = params.metadata()
    expand = params.expand(("transfer",))
    reversal = scene.world.reverse(
        scene.transfer(transfer_id, "id"),
        amount,
        metadata,
        pending=call.pending_reversal,
        cause=call.cause,
    )
    return shapes.reversal(reversal, scene.world, expand)


def list_reversals(scene: Scene, call: Call, transfer_id: str) -> Json:
    """GET /v1/transfers/{id}/reversals."""
    params = Params(call.params)
    params.only("ending_before", "expand", "limit", "starting_after")
    expand = frozenset(path.removeprefix("data.") for path in params.expand(("data.transfer",)))
    transfer = scene.transfer(transfer_id, "id")
    known = {row.id: row for row in transfer.reversals}
    page, has_more = page_of(transfer.reversals, known, params, "transfer reversal")
    rows = [shapes.reversal(row, scene.world, expand) for row in page]
    return envelope(f"/v1/transfers/{transfer_id}/reversals", rows, has_more=has_more)


def get_reversal(scene: Scene, call: Call, transfer_id: str, reversal_id: str) -> Json:
    """GET /v1/transfers/{transfer}/reversals/{id}."""
    params = Params(call.params)
    params.only("expand")
    expand = params.expand(("transfer",))
    transfer = scene.transfer(transfer_id, "transfer")
    found: Reversal | None = scene.world.reversals.get(reversal_id)
    if found is None or found.transfer != transfer.id:
        raise errors.no_such("transfer reversal", reversal_id, param="id")
    return shapes.reversal(found, scene.world, expand)


Endpoint = Callable[..., Json]
"""Takes a Scene, a Call and the ids from the path; raises StripeError for a refusal."""

_ENDPOINTS: list[tuple[str, re.Pattern[str], Endpoint]] = [
    ("GET", re.compile(r"/v1/account"), get_own_account),
    ("GET", re.compile(r"/v1/accounts/([^/]+)"), get_account),
    ("GET", re.compile(r"/v1/balance"), get_balance),
    ("GET", re.compile(r"/v1/charges/([^/]+)"), payments.get_charge),
    ("GET", re.compile(r"/v1/disputes/([^/]+)"), payments.get_dispute),
    ("GET", re.compile(r"/v1/events"), payments.list_events),
    ("GET", re.compile(r"/v1/events/([^/]+)"), payments.get_event),
    ("POST", re.compile(r"/v1/refunds"), payments.create_refund),
    ("GET", re.compile(r"/v1/refunds/([^/]+)"), payments.get_refund),
    ("POST", re.compile(r"/v1/transfers"), create_transfer),
    ("GET", re.compile(r"/v1/transfers"), list_transfers),
    ("GET", re.compile(r"/v1/transfers/([^/]+)"), get_transfer),
    ("POST", re.compile(r"/v1/transfers/([^/]+)/reversals"), create_reversal),
    ("GET", re.compile(r"/v1/transfers/([^/]+)/reversals"), list_reversals),
    ("GET", re.compile(r"/v1/transfers/([^/]+)/reversals/([^/]+)"), get_reversal),
]
_FOR_CONNECTED_ACCOUNTS = {get_own_account, get_balance}


def _run(endpoint: Endpoint, call: Call, ids: tuple[str, ...], scene: Scene) -> Json:
    return endpoint(scene, call, *ids)


Execution = Callable[[Scene], Json]
"""A call with its endpoint, ready to be executed on a Scene."""


def find(call: Call) -> Execution:
    """Give what executes `call`. Raises StripeError for a URL the simulator does not have."""
    for method, pattern, endpoint in _ENDPOINTS:
        if method == call.method and (match := pattern.fullmatch(call.path)):
            if call.stripe_account not in (None, PLATFORM) and endpoint not in _FOR_CONNECTED_ACCOUNTS:
                raise errors.not_simulated(f"{method} {call.path} on behalf of a connected account")
            return partial(_run, endpoint, call, match.groups())
    raise errors.unrecognized_url(call.method, call.path)
