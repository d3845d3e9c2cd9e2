"""Stripe's objects as JSON, every field there, those the simulator does not know null or empty."""

from typing import TYPE_CHECKING

from .objects import PENDING, PLATFORM, Account, Reversal, Transfer
from .payment_shapes import charge
from .wire import ADDRESS, EMBEDDED, Json, envelope, nulls

if TYPE_CHECKING:
    from .world import World


def transfer(row: Transfer, world: "World", expand: frozenset[str] = frozenset()) -> Json:
    """Give a transfer; `expand` may name destination and source_transaction."""
    newest_first = row.reversals[: -EMBEDDED - 1 : -1]
    destination: Json | str = row.destination
    if "destination" in expand:
        destination = account(world.accounts[row.destination])
    source: Json | str | None = row.source_transaction
    if source is not None and "source_transaction" in expand:
        source = charge(world.payments.charges[row.source_transaction or ""], world.livemode)
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
            has_more=len(row.reversals) > EMBEDDED,
        ),
        "reversed": row.amount_reversed == row.amount,
        "source_transaction": source,
        "source_type": "card",
        "transfer_group": row.transfer_group,
    }


def reversal(row: Reversal, world: "World", expand: frozenset[str] = frozenset()) -> Json:
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


def balance(account_id: str, world: "World") -> Json:
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


def _requirements() -> Json:
    lists = ("alternatives", "currently_due", "errors", "eventually_due", "past_due", "pending_verification")
    return {**nulls("current_deadline", "disabled_reason"), **{name: [] for name in lists}}


def account(row: Account) -> Json:
    """Give an account, enabled and with nothing due. It has no `livemode`, as at Stripe."""
    kanji = nulls("statement_descriptor_prefix_kana", "statement_descriptor_prefix_kanji")
    profile = nulls("estimated_worker_count", "mcc", "minority_owned_business_designation", "name")
    profile |= nulls("product_description", "support_email", "support_phone", "support_url", "url")
    return {
        "id": row.id,
        "object": "account",
        "business_profile": {
            **profile,
            "annual_revenue": nulls("amount", "currency", "fiscal_year_end"),
            "support_address": nulls(*ADDRESS),
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
            "bacs_debit_payments": nulls("display_name", "service_user_number"),
            "branding": nulls("icon", "logo", "primary_color", "secondary_color"),
            "card_issuing": {"tos_acceptance": nulls("date", "ip")},
            "card_payments": {
                "decline_on": {"avs_failure": True, "cvc_failure": True},
                "statement_descriptor_prefix": None,
                **kanji,
            },
            "dashboard": {"display_name": None, "timezone": "Etc/UTC"},
            "invoices": nulls("default_account_tax_ids", "hosted_payment_method_save"),
            "payments": {
                **nulls("statement_descriptor", "statement_descriptor_kana", "statement_descriptor_kanji"),
                **kanji,
            },
            "payouts": {
                "debit_negative_balances": True,
                "schedule": {"delay_days": 2, "interval": "daily"},
                "statement_descriptor": None,
            },
            "sepa_debit_payments": {},
        },
        "tos_acceptance": nulls("date", "ip", "user_agent"),
        "type": "standard",
    }
