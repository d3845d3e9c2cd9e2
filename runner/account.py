"""Whose Stripe key it is, and why that may not be known."""

from dataclasses import dataclass


class KeyRefused(Exception):
    """Stripe does not accept the API key; the text is one line and does not hold it."""


class StripeUnreachable(Exception):
    """Stripe did not answer, or not in a way that can be used; the text is one line."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account a key belongs to: its id, None if the key may not read it, and whether its money is real."""

    id: str | None
    livemode: bool
