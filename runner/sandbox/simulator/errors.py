# ruff: noqa: D103 - the name of a refusal says when it is given
"""Stripe's refusals, in Stripe's words.

One function per refusal. The wordings were read off real answers, save those marked *ours*: Stripe's text for
these is not published, so callers should go by the status and the code, and so must tests.
"""

import re
from typing import Any


class StripeError(Exception):
    """An error answer.

    `executed` says whether the endpoint had begun to execute: if so, Stripe stores the answer under the
    request's idempotency key and replays it, 400 or not.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        executed: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_type = error_type
        self.code = code
        self.param = param
        self.headers = headers or {}
        self.executed = executed

    def body(self) -> dict[str, Any]:
        """Give the JSON object Stripe sends; like Stripe's, without the members that have no value."""
        error: dict[str, Any] = {}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        error["type"] = self.error_type
        return {"error": error}


# Before execution: nothing of these is stored under an idempotency key.


def masked(key: str) -> str:
    """Give an API key as Stripe shows it: its prefix and its last characters, only if enough stay hidden."""
    prefix = re.match(r"(?:[a-z]+_(?:test|live)_)?", key)
    start = prefix.end() if prefix else 0
    shown = key[-6:] if len(key) - start >= 18 else ""
    return key[:start] + "*" * (len(key) - start - len(shown)) + shown


def no_api_key() -> StripeError:
    return StripeError(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization header, using "
        "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
        "https://stripe.com/docs/api#authentication for details, or we can help at "
        "https://support.stripe.com/.",
    )


def invalid_api_key(key: str) -> StripeError:
    return StripeError(401, f"Invalid API Key provided: {masked(key)}")


def expired_api_key(key: str) -> StripeError:
    return StripeError(401, f"Expired API Key provided: {masked(key)}", code="api_key_expired")


def account_invalid(key: str, account: str) -> StripeError:
    return StripeError(
        403,
        f"The provided key '{masked(key)}' does not have access to account '{account}' (or that account does "
        "not exist). Application access may have been revoked.",
        code="account_invalid",
    )


def unrecognized_url(method: str, path: str) -> StripeError:
    return StripeError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
    )


def rate_limited() -> StripeError:
    return StripeError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": "global-rate"},
    )


def lock_timeout() -> StripeError:
    return StripeError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request. If you see this error "
        "frequently and are making multiple concurrent requests to a single object, make your requests "
        "serially or at a lower rate. For more details, see "
        "https://stripe.com/docs/rate-limits#object-lock-timeouts.",
        code="lock_timeout",
    )


def key_in_use(key: str) -> StripeError:
    return StripeError(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably means you "
        f"submitted twice, and the other request is still going through): {key}. Please try again later.",
        code="idempotency_key_in_use",
    )


def key_of_other_parameters(key: str) -> StripeError:
    return StripeError(
        400,
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
        error_type="idempotency_error",
    )


def key_of_other_endpoint(key: str, path: str, first_path: str) -> StripeError:
    return StripeError(
        400,
        "Keys for idempotent requests can only be used for the same endpoint they were first used for "
        f"('{path}' vs '{first_path}'). Try using a key other than '{key}' if you meant to execute a "
        "different request.",
        error_type="idempotency_error",
    )


def key_too_long(limit: int) -> StripeError:  # ours
    return StripeError(400, f"Idempotency keys must be at most {limit} characters long.")


def body_too_large() -> StripeError:  # ours
    return StripeError(413, "The request body is too large.")


def not_simulated(what: str) -> StripeError:  # ours: Stripe could do it, the simulator cannot and says so
    return StripeError(400, f"This simulator does not do {what}.")


# Parameters: checked before execution too.


def invalid_parameter(name: str, message: str, *, code: str | None = None) -> StripeError:
    return StripeError(400, message, code=code, param=name)


def parameter_unknown(names: list[str]) -> StripeError:
    message = f"Received unknown parameter{'s' if len(names) > 1 else ''}: {', '.join(names)}"
    return invalid_parameter(names[0], message, code="parameter_unknown")


def parameter_missing(name: str) -> StripeError:
    return invalid_parameter(name, f"Missing required param: {name}.", code="parameter_missing")


def parameter_empty(name: str) -> StripeError:
    return invalid_parameter(
        name,
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
        f"parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or "
        "supply a non-empty value.",
        code="parameter_invalid_empty",
    )


def invalid_integer(name: str, text: str) -> StripeError:
    return invalid_parameter(name, f"Invalid integer: {text}", code="parameter_invalid_integer")


def integer_out_of_bounds(name: str, bound: str, limit: int) -> StripeError:
    """Refuse a number; `bound` is "greater" or "less"."""
    message = f"This value must be {bound} than or equal to {limit}."
    return invalid_parameter(name, message, code="parameter_invalid_integer")


# In execution: stored under the idempotency key and replayed.


def no_such(noun: str, object_id: str, *, param: str, other_mode: str | None = None, status: int = 404) -> StripeError:
    """Refuse an id: 404 for one in the path, 400 for one in a parameter.

    `other_mode` ("live" or "test") is where an object of this id does exist.
    """
    message = f"No such {noun}: '{object_id}'"
    if other_mode is not None:
        mode = "test" if other_mode == "live" else "live"
        message += f"; a similar object exists in {other_mode} mode, "
        message += f"but a {mode} mode key was used to make this request."
    return StripeError(status, message, code="resource_missing", param=param, executed=True)


def already_fully_reversed(transfer: str) -> StripeError:
    return StripeError(400, f"The transfer {transfer} is already fully reversed.", executed=True)


def more_than_unreversed(amount: int, unreversed: int) -> StripeError:  # ours
    message = f"Reversal amount ({amount}) is greater than the unreversed amount of the transfer ({unreversed})."
    return StripeError(400, message, param="amount", executed=True)


def connected_balance_too_low() -> StripeError:  # the code is Stripe's, the words are ours
    message = "The destination account of this transfer has insufficient available funds for this reversal."
    return StripeError(400, message, code="balance_insufficient", executed=True)


def platform_balance_too_low(livemode: bool) -> StripeError:
    message = "You have insufficient available funds in your Stripe account."
    if not livemode:
        message += (
            " Try adding funds directly to your available balance by creating Charges using the "
            "4000000000000077 test card. See: https://stripe.com/docs/testing#available-balance"
        )
    return StripeError(400, message, code="balance_insufficient", executed=True)


def transfer_group_already_set() -> StripeError:
    message = "You cannot use transfer_group if the source_transaction already has one set."
    return StripeError(400, message, param="transfer_group", executed=True)


def source_amount_exceeded(source: str, used: str | None) -> StripeError:
    """Refuse a transfer of more than is left of its charge; both are amounts with their currency."""
    message = f"Transfers using this transaction as a source must not exceed the source amount of {source}."
    if used is not None:
        message += f" (There is already a transfer using this source, amounting to {used}.)"
    return StripeError(400, message, executed=True)


def source_currency_differs(source: str, asked: str) -> StripeError:
    message = f"The currency of source_transaction's balance transaction ({source}) must be the same as "
    message += f"the transfer currency ({asked})"
    return StripeError(400, message, param="currency", executed=True)


def charge_already_refunded(charge: str) -> StripeError:
    message = f"Charge {charge} has already been refunded."
    return StripeError(400, message, code="charge_already_refunded", executed=True)


def charge_disputed(charge: str) -> StripeError:
    message = f"Charge {charge} has been charged back; cannot issue a refund."
    return StripeError(400, message, code="charge_disputed", executed=True)


def more_than_unrefunded(amount: int, unrefunded: int) -> StripeError:  # Stripe's but for the form of the amounts
    message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({unrefunded})"
    return StripeError(400, message, param="amount", executed=True)


def server_error() -> StripeError:
    return StripeError(500, "An unknown error occurred", error_type="api_error", executed=True)
