"""Stripe's objects as JSON, every field there, those the simulator does not know null or empty."""

from collections.abc import Mapping, Sequence
from typing import Any

from .world import PENDING, PLATFORM, Account, Charge, Reversal, Transfer, World

Json = dict[str, Any]

_EMBEDDED_REVERSALS = 10  # a transfer carries only its newest ones: the list endpoint has them all


def envelope(url: str, data: Sequence[Json], *, has_more: bool) -> Json:
    """Give one page of a list."""
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def transfer(row: Transfer, world: World, expand: frozenset[str] = frozenset()) -> Json:
    """Give a transfer; `expand` may name destination and source_transaction."""
    newest_first = row.reversals[: -_EMBEDDED_REVERSALS - 1 : -1]
    destination: Json | str = row.destination
    if "destination" in expand:
        destination = account(world.accounts[row.destination])
    source: Json | str | None = row.source_transaction
    if source is not None and "source_transaction" in expand:
        source = charge(world.charges[row.source_transaction or ""], world.livemode)
    return {
        "id": row.id,
        "object": "transfer",
        "amount": row.amount,
        "amount_reversed": row.amount_reversed,
        "balance_transaction": row.balance_transaction,
        "created": row.created,
        "currency": row.currency,
        "description": row.description,
        "destination": destination,
        "destination_payment": row.destination_payment,
        "livemode": world.livemode,
        "metadata": dict(row.metadata),
        "reversals": envelope(
            f"/v1/transfers/{row.id}/reversals",
            [reversal(each, world) for each in newest_first],
            has_more=len(row.reversals) > _EMBEDDED_REVERSALS,
        ),
        "reversed": row.amount_reversed == row.amount,
        "source_transaction": source,
        "source_type": "card",
        "transfer_group": row.transfer_group,
    }


def reversal(row: Reversal, world: World, expand: frozenset[str] = frozenset()) -> Json:
    """Give a reversal; `expand` may name transfer. Only one that was pending has a `status`."""
    body: Json = {
        "id": row.id,
        "object": "transfer_reversal",
        "amount": row.amount,
        "balance_transaction": row.balance_transaction,
        "created": row.created,
        "currency": row.currency,
        "destination_payment_refund": row.destination_payment_refund,
        "metadata": dict(row.metadata),
        "source_refund": None,
        "transfer": transfer(world.transfers[row.transfer], world) if "transfer" in expand else row.transfer,
    }
    if row.status is not None:
        body["status"] = row.status
    return body


def balance(account_id: str, world: World) -> Json:
    """Give what an account holds, by currency. Only the platform has pending money."""
    currencies = world.currencies(account_id)

    def funds(holder: str | None) -> list[Json]:
        amounts = [(world.available(holder, name) if holder else 0, name) for name in currencies]
        return [{"amount": held, "currency": name, "source_types": {"card": held}} for held, name in amounts]

    return {
        "object": "balance",
        "available": funds(account_id),
        "connect_reserved": [{"amount": 0, "currency": name} for name in currencies],
        "livemode": world.livemode,
        "pending": funds(PENDING if account_id == PLATFORM else None),
    }


def _nulls(*names: str) -> Json:
    return dict.fromkeys(names)


def _requirements() -> Json:
    lists = ("alternatives", "currently_due", "errors", "eventually_due", "past_due", "pending_verification")
    return {**_nulls("current_deadline", "disabled_reason"), **{name: [] for name in lists}}


_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def account(row: Account) -> Json:
    """Give an account, enabled and with nothing due. It has no `livemode`, as at Stripe."""
    kanji = _nulls("statement_descriptor_prefix_kana", "statement_descriptor_prefix_kanji")
    profile = _nulls("estimated_worker_count", "mcc", "minority_owned_business_designation", "name")
    profile |= _nulls("product_description", "support_email", "support_phone", "support_url", "url")
    return {
        "id": row.id,
        "object": "account",
        "business_profile": {
            **profile,
            "annual_revenue": _nulls("amount", "currency", "fiscal_year_end"),
            "support_address": _nulls(*_ADDRESS),
        },
        "business_type": None,
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": row.country,
        "created": row.created,
        "default_currency": row.default_currency,
        "details_submitted": True,
        "email": None,
        "external_accounts": envelope(f"/v1/accounts/{row.id}/external_accounts", [], has_more=False),
        "future_requirements": _requirements(),
        "metadata": {},
        "payouts_enabled": True,
        "requirements": _requirements(),
        "settings": {
            "bacs_debit_payments": _nulls("display_name", "service_user_number"),
            "branding": _nulls("icon", "logo", "primary_color", "secondary_color"),
            "card_issuing": {"tos_acceptance": _nulls("date", "ip")},
            "card_payments": {
                "decline_on": {"avs_failure": True, "cvc_failure": True},
                "statement_descriptor_prefix": None,
                **kanji,
            },
            "dashboard": {"display_name": None, "timezone": "Etc/UTC"},
            "invoices": _nulls("default_account_tax_ids", "hosted_payment_method_save"),
            "payments": {
                **_nulls("statement_descriptor", "statement_descriptor_kana", "statement_descriptor_kanji"),
                **kanji,
            },
            "payouts": {
                "debit_negative_balances": True,
                "schedule": {"delay_days": 2, "interval": "daily"},
                "statement_descriptor": None,
            },
            "sepa_debit_payments": {},
        },
        "tos_acceptance": _nulls("date", "ip", "user_agent"),
        "type": "standard",
    }


_CHARGE_UNKNOWN: Mapping[str, Any] = _nulls(
    "application",
    "application_fee",
    "application_fee_amount",
    "calculated_statement_descriptor",
    "customer",
    "description",
    "failure_balance_transaction",
    "failure_code",
    "failure_message",
    "on_behalf_of",
    "payment_intent",
    "payment_method",
    "receipt_email",
    "receipt_number",
    "receipt_url",
    "review",
    "shipping",
    "source",
    "source_transfer",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
)


def _card(amount: int) -> Json:
    return {
        **_nulls("amount_authorized", "authorization_code", "fingerprint", "installments", "mandate"),
        **_nulls("network_transaction_id", "regulated_status", "three_d_secure", "transaction_link_id", "wallet"),
        "brand": "visa",
        "checks": {**_nulls("address_line1_check", "address_postal_code_check"), "cvc_check": "pass"},
        "country": "US",
        "exp_month": 8,
        "exp_year": 2040,
        "extended_authorization": {"status": "disabled"},
        "funding": "credit",
        "incremental_authorization": {"status": "unavailable"},
        "last4": "4242",
        "multicapture": {"status": "unavailable"},
        "network": "visa",
        "network_token": {"used": False},
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
    }


def charge(row: Charge, livemode: bool) -> Json:
    """Give a succeeded, captured charge by card."""
    return {
        **_CHARGE_UNKNOWN,
        "id": row.id,
        "object": "charge",
        "amount": row.amount,
        "amount_captured": row.amount,
        "amount_refunded": 0,
        "balance_transaction": row.balance_transaction,
        "billing_details": {"address": _nulls(*_ADDRESS), **_nulls("email", "name", "phone", "tax_id")},
        "captured": True,
        "created": row.created,
        "currency": row.currency,
        "disputed": False,
        "fraud_details": {},
        "livemode": livemode,
        "metadata": dict(row.metadata),
        "outcome": {
            **_nulls("advice_code", "network_advice_code", "network_decline_code", "reason"),
            "network_status": "approved_by_network",
            "seller_message": "Payment complete.",
            "type": "authorized",
        },
        "paid": True,
        "payment_method_details": {"card": _card(row.amount), "type": "card"},
        "refunded": False,
        "refunds": envelope(f"/v1/charges/{row.id}/refunds", [], has_more=False),
        "status": "succeeded",
        "transfer_group": row.transfer_group,
    }
