"""One API request as the simulator sees it, however it came in."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import errors, params
from .ledger import Cause
from .objects import new_id

TEST_KEY = "sk_test_sandbox"
LIVE_KEY = "sk_live_sandbox"
"""The two API keys a simulator knows from the start."""

DEFAULT_API_VERSION = "2026-10-28.endive"
BODY_LIMIT = 64 * 1024  # bytes

_TRANSFER_PATH = re.compile(r"/v1/transfers/([^/]+)(?:/.*)?")
_SHOWN_KEY_SUFFIX = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A request: where to, with what, by whom. `params` are decoded; `api_key` is null if none was given.

    `seq` is the request's number in the log, `request_id` the `req_…` that its answer and its events bear.
    `pending_reversal` is set by a fault: the reversal it makes is pending.
    """

    method: str
    path: str
    params: dict[str, Any] = field(default_factory=dict)
    api_key: str | None = None
    idempotency_key: str | None = None
    stripe_account: str | None = None
    api_version: str = DEFAULT_API_VERSION
    seq: int = 0
    pending_reversal: bool = False
    request_id: str = field(default_factory=lambda: new_id("req"))

    @property
    def cause(self) -> Cause:
        """What the ledger and the events say of whoever made the call."""
        return Cause(self.seq, self.idempotency_key, self.request_id)

    @property
    def transfer(self) -> str | None:
        """The id in a path under /v1/transfers/."""
        match = _TRANSFER_PATH.fullmatch(self.path)
        return match.group(1) if match else None

    @property
    def key_suffix(self) -> str | None:
        """The few last characters of the API key, all that is ever written down of it."""
        if self.api_key is None or len(self.api_key) <= 2 * _SHOWN_KEY_SUFFIX:
            return None
        return self.api_key[-_SHOWN_KEY_SUFFIX:]

    def numbered(self, seq: int) -> "Call":
        """Give the same call under its number in the log."""
        return replace(self, seq=seq)

    def from_start(self) -> "Call":
        """Give the same call without a cursor, as for the first page of a list."""
        cursors = ("starting_after", "ending_before")
        return replace(self, params={name: value for name, value in self.params.items() if name not in cursors})


def read_call(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Decode a request. Raises StripeError for a body that is too large or not decodable."""
    if len(body) > BODY_LIMIT:
        raise errors.body_too_large()
    encoded = query
    if method != "GET" and body:
        encoded = "&".join(part for part in (query, body.decode("utf-8", "replace")) if part)
    return Call(
        method=method,
        path=path,
        params=params.decode(encoded),
        api_key=_api_key(headers.get("Authorization", "")),
        # Only POSTs have one at Stripe; a GET's is ignored.
        idempotency_key=(headers.get("Idempotency-Key") or None) if method == "POST" else None,
        stripe_account=headers.get("Stripe-Account") or None,
        api_version=headers.get("Stripe-Version") or DEFAULT_API_VERSION,
    )


def _api_key(authorization: str) -> str | None:
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials or None
    if scheme.lower() == "basic":
        try:
            user, _, _ = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user or None
    return None
