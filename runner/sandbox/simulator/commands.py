"""What each command of the control plane takes. What it answers is told by `control`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .objects import PLATFORM

Amount = Annotated[int, Field(ge=1, le=10**15)]
Currency = Annotated[str, Field(pattern="^[a-z]{3}$")]

Probability = Annotated[float, Field(ge=0, le=1)]

_LARGEST_PAGE = 1_000


class Command(BaseModel):
    """The parameters of a command: from the query of a GET or DELETE, the JSON body of a POST."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Command):
    """No parameters."""


class AddAccount(Command):
    """Add a connected account; without an id it is given one."""

    id: Annotated[str, Field(pattern="^acct_[A-Za-z0-9]+$")] | None = None
    country: str = "US"
    default_currency: Currency = "usd"
    livemode: bool = False


class Fund(Command):
    """Bring money in from outside, or (negative) take it out; without an account: the platform's."""

    amount: Annotated[int, Field(ge=-(10**15), le=10**15)]
    currency: Currency
    account: str = PLATFORM
    livemode: bool = False


class AddCharge(Command):
    """Add a succeeded charge, its money pending or `available` at once."""

    amount: Amount
    currency: Currency
    transfer_group: str | None = None
    metadata: dict[str, str] = {}
    available: bool = False
    livemode: bool = False


class Refund(Command):
    """Refund a charge in part or (null) all that is left, as POST /v1/refunds does; `status` is the first one."""

    charge: str
    amount: Amount | None = None
    status: Literal["pending", "requires_action", "succeeded"] = "succeeded"
    reason: str | None = None
    metadata: dict[str, str] = {}


class SettleRefund(Command):
    """Let a refund become something else."""

    refund: str
    status: Literal["pending", "requires_action", "succeeded", "failed", "canceled"]
    failure_reason: str | None = None


class OpenDispute(Command):
    """Have a charge disputed, in part or (null) all that is not refunded of it."""

    charge: str
    amount: Amount | None = None
    reason: str = "fraudulent"
    inquiry: bool = False


class DisputeNamed(Command):
    """A dispute whose funds are withdrawn."""

    dispute: str


class Reinstate(DisputeNamed):
    """Give the funds of a dispute back, in part or (null) all of them."""

    amount: Amount | None = None


class CloseDispute(DisputeNamed):
    """End a dispute."""

    status: Literal["won", "lost", "warning_closed"]


class AddEndpoint(Command):
    """Have events delivered, see `deliveries.Terms`. Only to this machine."""

    url: Annotated[str, Field(pattern=r"^http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?(/.*)?$")]
    secrets: Annotated[list[str], Field(min_length=1, max_length=10)]
    types: Annotated[list[str], Field(min_length=1)] = ["*"]
    livemode: bool = False
    attempts: Annotated[int, Field(ge=1, le=1_000)] = 20
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    at_once: Annotated[int, Field(ge=1, le=1_000)] = 8
    drop: Probability = 0.0
    duplicate: Probability = 0.0
    delay_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    reorder: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: int = 0


class RemoveEndpoint(Command):
    """Have no further event delivered to an endpoint."""

    id: str


class NewTransfer(Command):
    """A transfer as POST /v1/transfers takes it, without the source."""

    destination: str
    amount: Amount
    currency: Currency
    transfer_group: str | None = None
    description: str | None = None
    metadata: dict[str, str] = {}


class AddTransfers(Command):
    """Make many transfers at once, paid for by money brought in for them; unknown destinations are added."""

    transfers: Annotated[list[NewTransfer], Field(max_length=10_000)]
    livemode: bool = False


class NewReversal(Command):
    """A reversal as POST /v1/transfers/{id}/reversals takes it; `pending` as under a pending_reversal fault."""

    amount: Amount
    metadata: dict[str, str] = {}
    pending: bool = False


class AddReversals(Command):
    """Reverse a transfer many times at once, as somebody else would in Stripe's dashboard."""

    transfer: str
    reversals: Annotated[list[NewReversal], Field(max_length=10_000)]


class Mode(Command):
    """Test or live."""

    livemode: bool = False


class Since(Command):
    """A page of a log: at most `limit` entries with a sequence number above `since`."""

    since: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=_LARGEST_PAGE)] = _LARGEST_PAGE


class AddFaults(Command):
    """Rules for the fault script, see `faults`."""

    rules: list[dict[str, Any]]


class ClearFaults(Command):
    """One rule, or all."""

    id: int | None = None


class Release(Command):
    """Let held requests go on: of one name or any, the first `count` or all."""

    name: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None


class SetKey(Command):
    """Make an API key known, in a mode, revoked or not; a known key's mode changes only if given."""

    key: Annotated[str, Field(pattern="^[A-Za-z0-9_]{8,255}$")]
    livemode: bool | None = None
    revoked: bool = False


class Advance(Command):
    """Let time pass at once."""

    seconds: Annotated[float, Field(ge=0, le=10**9)]


class Forget(Command):
    """Forget one idempotency key, or all, as 24 hours would; those first used so long ago, by the simulated clock."""

    key: str | None = None
    older_than_seconds: Annotated[float, Field(ge=0, le=10**9)] = 0


class SetLimits(Command):
    """Limit the rate (null: do not), `burst` at once; refuse parallel writes to an object, or do not."""

    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] = 1
    lock_timeouts: bool = True


class Settle(Command):
    """End a pending reversal."""

    reversal: str
    status: Literal["succeeded", "failed", "canceled"]


class RunLate(Command):
    """Let one put-off request arrive now (by its number in the request log), or all."""

    request: int | None = None
