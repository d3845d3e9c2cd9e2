"""Stripe's endpoints, as far as the simulator has them. What is not here is an honest 404."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from . import errors, shapes
from .calls import Call
from .ledger import Cause
from .params import Params
from .shapes import Json
from .world import PLATFORM, Account, Charge, Reversal, Transfer, World

_DEFAULT_PAGE = 10
_LARGEST_PAGE = 100


@dataclass(frozen=True, slots=True)
class Scene:
    """What an endpoint works on: the world of the key's mode, and the other, to tell a mix-up of the two."""

    world: World
    other: World

    @property
    def other_mode(self) -> str:
        """The name of the mode this is not."""
        return "live" if self.other.livemode else "test"

    def transfer(self, object_id: str, param: str) -> Transfer:
        """Give a transfer named in a path."""
        if (found := self.world.transfers.get(object_id)) is None:
            elsewhere = self.other_mode if object_id in self.other.transfers else None
            raise errors.no_such("transfer", object_id, param=param, other_mode=elsewhere)
        return found

    def destination(self, object_id: str) -> Account:
        """Give the connected account named in the parameter `destination`."""
        if (found := self.world.accounts.get(object_id)) is None:
            elsewhere = self.other_mode if object_id in self.other.accounts else None
            raise errors.no_such("destination", object_id, param="destination", other_mode=elsewhere, status=400)
        return found

    def source(self, object_id: str) -> Charge:
        """Give the charge named in the parameter `source_transaction`."""
        if (found := self.world.charges.get(object_id)) is None:
            elsewhere = self.other_mode if object_id in self.other.charges else None
            raise errors.no_such("charge", object_id, param="source_transaction", other_mode=elsewhere, status=400)
        return found


class _Numbered(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def seq(self) -> int: ...


_Row = TypeVar("_Row", bound=_Numbered)


def _page(
    oldest_first: Sequence[_Row],
    known: Mapping[str, _Row],
    params: Params,
    noun: str,
    wanted: Callable[[_Row], bool] = lambda _: True,
) -> tuple[list[_Row], bool]:
    """Give one page of a list, newest first, and whether there is more.

    Which page: by `limit`, `starting_after` and `ending_before`, whose ids are looked up in `known`.
    """
    limit = params.integer("limit", minimum=1, maximum=_LARGEST_PAGE) or _DEFAULT_PAGE
    after, before = params.text("starting_after"), params.text("ending_before")
    if after is not None and before is not None:
        raise errors.invalid_parameter("starting_after", "Only one of starting_after and ending_before can be used.")

    def number(cursor: str, param: str) -> int:
        if cursor not in known:
            raise errors.no_such(noun, cursor, param=param, status=400)
        return known[cursor].seq

    def seq(row: _Row) -> int:
        return row.seq

    if before is not None:
        start = bisect_right(oldest_first, number(before, "ending_before"), key=seq)
        indexes = range(start, len(oldest_first))
    else:
        start = len(oldest_first)
        if after is not None:
            start = bisect_left(oldest_first, number(after, "starting_after"), key=seq)
        indexes = range(start - 1, -1, -1)
    rows: list[_Row] = []
    for index in indexes:
        if wanted(oldest_first[index]):
            rows.append(oldest_first[index])
            if len(rows) > limit:
                break
    page = rows[:limit]
    return (page[::-1] if before is not None else page), len(rows) > limit


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


def get_charge(scene: Scene, call: Call, charge_id: str) -> Json:
    """GET /v1/charges/{charge}."""
    Params(call.params).only()
    if (found := scene.world.charges.get(charge_id)) is None:
        elsewhere = scene.other_mode if charge_id in scene.other.charges else None
        raise errors.no_such("charge", charge_id, param="charge", other_mode=elsewhere)
    return shapes.charge(found, scene.world.livemode)


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
        cause=Cause(call.seq, call.idempotency_key),
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
    page, has_more = _page(
        scene.world.transfers_in_order(params.text("destination")),
        scene.world.transfers,
        params,
        "transfer",
        lambda row: row.created in created and group in (None, row.transfer_group),
    )
    rows = [shapes.transfer(row, scene.world, expand) for row in page]
    return shapes.envelope("/v1/transfers", rows, has_more=has_more)


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
        cause=Cause(call.seq, call.idempotency_key),
    )
    return shapes.reversal(reversal, scene.world, expand)


def list_reversals(scene: Scene, call: Call, transfer_id: str) -> Json:
    """GET /v1/transfers/{id}/reversals."""
    params = Params(call.params)
    params.only("ending_before", "expand", "limit", "starting_after")
    expand = frozenset(path.removeprefix("data.") for path in params.expand(("data.transfer",)))
    transfer = scene.transfer(transfer_id, "id")
    known = {row.id: row for row in transfer.reversals}
    page, has_more = _page(transfer.reversals, known, params, "transfer reversal")
    rows = [shapes.reversal(row, scene.world, expand) for row in page]
    return shapes.envelope(f"/v1/transfers/{transfer_id}/reversals", rows, has_more=has_more)


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
    ("GET", re.compile(r"/v1/charges/([^/]+)"), get_charge),
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
