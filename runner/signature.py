"""Whether a delivery comes from Stripe: its header `Stripe-Signature`, checked against the bytes as they came.

Not with the check of Stripe's SDK: it takes one secret, decodes the body first and raises what it likes for bytes that
are no UTF-8 or a signature that is not ASCII, and importing it takes longer than all the rest of the endpoint.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

# What Stripe recommends. Only the past is bounded, as in Stripe's own libraries: nobody can sign for the future, and a
# clock of ours that is slow must not cost deliveries.
TOLERANCE_SECONDS = 300

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")


class BadSignature(Exception):
    """The delivery is not from Stripe, or an old one; the text says which and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a header claims: the timestamp as it was signed, and the signatures of the scheme v1."""

    timestamp: str
    signatures: list[bytes]

    def check(self, body: bytes, secrets: Sequence[str]) -> None:
        """Raise BadSignature unless one of the secrets signed `body`."""
        genuine = False
        for secret in secrets:
            expected = hmac.new(secret.encode(), self.timestamp.encode() + b".", hashlib.sha256)
            expected.update(body)
            digest = expected.digest()
            for signature in self.signatures:
                # All are compared, whichever fits: how long it takes says nothing of the secrets.
                genuine |= hmac.compare_digest(digest, signature)
        if not genuine:
            raise BadSignature(
                "the signature is not of any webhook secret given here: compare STRIPE_WEBHOOK_SECRET with Stripe's"
            )


def read_signature(header: str | None, now: float) -> Signed:
    """Give what the header claims; raise BadSignature if no body can be signed by it at `now` (seconds since 1970)."""
    if not header:
        raise BadSignature("there is no Stripe-Signature header")
    elements = [element.strip().partition("=")[::2] for element in header.split(",")]
    timestamps = [text for name, text in elements if name == "t"]
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]):
        raise BadSignature("the Stripe-Signature header has no timestamp")
    signatures = [bytes.fromhex(text) for name, text in elements if name == "v1" and _SIGNATURE.fullmatch(text)]
    if not signatures:
        raise BadSignature("the Stripe-Signature header has no signature of the scheme v1")
    if now - int(timestamps[0]) > TOLERANCE_SECONDS:
        raise BadSignature(
            f"it was signed more than {TOLERANCE_SECONDS} s ago; if that cannot be, this machine's clock is wrong"
        )
    return Signed(timestamps[0], signatures)
