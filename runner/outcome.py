"""What the database asks for at Stripe, and what is reported back: raw facts, no conclusions."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from runner.clean import clean_text, safe_text

_TOKEN = re.compile(r"[A-Za-z0-9_]{1,255}")
_TRANSFER_ID = re.compile(r"tr_[A-Za-z0-9]{1,250}")
_REVERSAL_ID = re.compile(r"trr_[A-Za-z0-9]{1,250}")
_CURRENCY = re.compile(r"[a-z]{3}")
_BIGINT_MAX = 2**63 - 1
MESSAGE_LIMIT = 1000
_METADATA_KEYS = 50  # as many as Stripe keeps
_GROUP_LIMIT = 255
_OUR_METADATA = "seller_transfers_"

Element = TypeVar("Element")


class StripeCall(Protocol):
    """One leased call, as the database hands it out."""

    @property
    def id(self) -> int:
        """The row."""

    @property
    def action(self) -> str:
        """What to do, for example `reverse`."""

    @property
    def lease_token(self) -> str:
        """The lease's uuid as text."""

    @property
    def lease_ends(self) -> float:
        """When the lease runs out, in seconds on the clock of runner.clock."""

    @property
    def stripe_transfer_id(self) -> str | None:
        """`tr_…`; null for a send."""

    @property
    def stripe_reversal_id(self) -> str | None:
        """`trr_…`, once there is one."""

    @property
    def amount(self) -> int:
        """Minor units."""

    @property
    def currency(self) -> str:
        """Three lower-case letters."""

    @property
    def destination_account(self) -> str | None:
        """`acct_…`."""

    @property
    def source_charge(self) -> str | None:
        """`ch_…` or `py_…`: whose money a send is made from."""

    @property
    def transfer_group(self) -> str | None:
        """Stripe's name for an order's charges and transfers."""

    @property
    def idempotency_key(self) -> str:
        """At most 255 characters."""

    @property
    def metadata(self) -> Mapping[str, str] | None:
        """What Stripe is to keep beside the object; null for a look-up."""

    @property
    def created_after(self) -> datetime | None:
        """What is older need not be looked at: for the look-up of a send, null for everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeObject:
    """The fields of a transfer or a reversal that decide anything; absent ones are None."""

    id: str
    object: str
    amount: int
    currency: str
    status: str | None = None
    transfer: str | None = None
    destination: str | None = None
    metadata: dict[str, str] | None = None
    amount_reversed: int | None = None
    transfer_group: str | None = None
    source_transaction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The raw facts of one call.

    `sent` is false only if no byte can have left this process. `error_type` is set if and only if an error body
    of Stripe's came. With neither that nor an `object`, nobody knows what Stripe did: `error_message` says in
    words what came instead, and `http_status` is there if that much did.

    A look-up takes several requests. `sent` is true as soon as one of them may have left; status, error and request id
    are those of the last one made. `found` is there only if everything was read to its end: with the transfer as
    `object` where its reversals were looked for, with none where transfers were.
    """

    id: int
    action: str
    lease_token: str
    sent: bool
    http_status: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    stripe_request_id: str | None = None
    replayed: bool | None = None
    duration_ms: int | None = None
    object: StripeObject | None = None
    found: tuple[StripeObject, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the shape that the database takes: every key there, absent values None."""
        return asdict(self)


def not_sent(call: StripeCall, why: str) -> Outcome:
    """Report that nothing was sent for `call`, and why."""
    return Outcome(id=call.id, action=call.action, lease_token=call.lease_token, sent=False, error_message=message(why))


def message(text: str) -> str:
    """Give `text` as it may be stored and shown: no secret, no control character, not too long."""
    return safe_text(text, MESSAGE_LIMIT)


class UnreadableObject(Exception):
    """The answer is not an object of the kind that was asked for; the text says what is wrong with it."""


def read_reversal(answer: Mapping[str, object]) -> StripeObject:
    """Read a `transfer_reversal`. Raises UnreadableObject for another object and for one with parts missing.

    Whether it is the right reversal is not asked here: id, amount, currency and transfer are as Stripe says.
    """
    if answer.get("object") != "transfer_reversal":
        raise UnreadableObject(f"object is {answer.get('object')!r:.60}, not 'transfer_reversal'")
    return StripeObject(
        id=_text(answer, "id", _REVERSAL_ID),
        object="transfer_reversal",
        amount=_integer(answer, "amount"),
        currency=_text(answer, "currency", _CURRENCY),
        transfer=_text(answer, "transfer"),
        status=None if answer.get("status") is None else _text(answer, "status"),
        metadata=_metadata(answer),
    )


def read_transfer(answer: Mapping[str, object]) -> StripeObject:
    """Read a `transfer`. Raises UnreadableObject for another object and for one with parts missing.

    Its `reversed` and its embedded reversals are left alone: the one is false after a partial reversal, the others are
    the ten newest.
    """
    if answer.get("object") != "transfer":
        raise UnreadableObject(f"object is {answer.get('object')!r:.60}, not 'transfer'")
    return StripeObject(
        id=_text(answer, "id", _TRANSFER_ID),
        object="transfer",
        amount=_integer(answer, "amount"),
        currency=_text(answer, "currency", _CURRENCY),
        destination=None if answer.get("destination") is None else _text(answer, "destination"),
        metadata=_metadata(answer),
        amount_reversed=_integer(answer, "amount_reversed"),
        transfer_group=_group(answer),
        source_transaction=None if answer.get("source_transaction") is None else _text(answer, "source_transaction"),
    )


def read_page(
    answer: Mapping[str, object], read: Callable[[Mapping[str, object]], Element]
) -> tuple[list[Element], bool]:
    """Read one page of a list: what is on it, and whether Stripe has more. One bad element makes it unreadable."""
    if answer.get("object") != "list":
        raise UnreadableObject(f"object is {answer.get('object')!r:.60}, not 'list'")
    elements, has_more = answer.get("data"), answer.get("has_more")
    if not isinstance(elements, list) or not all(isinstance(element, dict) for element in elements):
        raise UnreadableObject("data is not a list of objects")
    if not isinstance(has_more, bool):
        raise UnreadableObject(f"has_more is {has_more!r:.60}")
    return [read(element) for element in elements], has_more


def _text(answer: Mapping[str, object], field: str, pattern: re.Pattern[str] = _TOKEN) -> str:
    value = answer.get(field)
    # Not cleaned but refused: a cleaned id could equal one that was never sent.
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise UnreadableObject(f"{field} is {value!r:.60}")
    return value


def _group(answer: Mapping[str, object]) -> str | None:
    value = answer.get("transfer_group")
    if value is not None and not isinstance(value, str):
        raise UnreadableObject(f"transfer_group is {value!r:.60}")
    # Cleaned, unlike an id: it may be any text, and what others wrote there must not hide the rest of a list.
    return None if value is None else clean_text(value, _GROUP_LIMIT)


def _integer(answer: Mapping[str, object], field: str) -> int:
    value = answer.get(field)
    if type(value) is not int or abs(value) > _BIGINT_MAX:  # type(): True is an int to isinstance
        raise UnreadableObject(f"{field} is not a whole number that fits")
    return value


def _metadata(answer: Mapping[str, object]) -> dict[str, str] | None:
    value = answer.get("metadata")
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise UnreadableObject("metadata is not an object of texts")
    # Ours first: what others have put beside it must not push out what the database knows its own by.
    kept = sorted(value, key=lambda key: not key.startswith(_OUR_METADATA))[:_METADATA_KEYS]
    return {clean_text(key, 255): clean_text(value[key], MESSAGE_LIMIT) for key in kept}
