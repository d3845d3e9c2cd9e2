"""Charges, refunds and disputes as JSON, every field there, those the simulator does not know null or empty."""

from collections.abc import Mapping
from typing import Any

from .objects import BalanceTransaction, Charge, Dispute, Refund
from .wire import ADDRESS, EMBEDDED, Json, envelope, nulls

_CHARGE_UNKNOWN: Mapping[str, Any] = nulls(
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
        **nulls("amount_authorized", "authorization_code", "fingerprint", "installments", "mandate"),
        **nulls("network_transaction_id", "regulated_status", "three_d_secure", "transaction_link_id", "wallet"),
        "brand": "visa",
        "checks": {**nulls("address_line1_check", "address_postal_code_check"), "cvc_check": "pass"},
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
        "amount_refunded": row.amount_refunded,
        "balance_transaction": row.balance_transaction,
        "billing_details": {"address": nulls(*ADDRESS), **nulls("email", "name", "phone", "tax_id")},
        "captured": True,
        "created": row.created,
        "currency": row.currency,
        "disputed": row.disputed,
        "fraud_details": {},
        "livemode": livemode,
        "metadata": dict(row.metadata),
        "outcome": {
            **nulls("advice_code", "network_advice_code", "network_decline_code", "reason"),
            "network_status": "approved_by_network",
            "seller_message": "Payment complete.",
            "type": "authorized",
        },
        "paid": True,
        "payment_intent": row.payment_intent,
        "payment_method_details": {"card": _card(row.amount), "type": "card"},
        "refunded": row.amount_refunded == row.amount,
        "refunds": envelope(
            f"/v1/charges/{row.id}/refunds",
            [refund(each) for each in row.refunds[: -EMBEDDED - 1 : -1]],
            has_more=len(row.refunds) > EMBEDDED,
        ),
        "status": "succeeded",
        "transfer_group": row.transfer_group,
    }


def charge_of_event(row: Charge, livemode: bool) -> Json:
    """Give a charge as events have it: its refunds are left out there, as at Stripe since 2022-11-15."""
    body = charge(row, livemode)
    del body["refunds"]
    return body


def refund(row: Refund) -> Json:
    """Give a refund to a card. It has no `livemode` and no `transfer_group`, as at Stripe."""
    body: Json = {
        **nulls("customer", "customer_account", "payment_method", "receipt_number"),
        **nulls("source_transfer_reversal", "transfer_reversal"),
        "id": row.id,
        "object": "refund",
        "amount": row.amount,
        "balance_transaction": row.balance_transaction,
        "charge": row.charge,
        "created": row.created,
        "currency": row.currency,
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": dict(row.metadata),
        "payment_intent": row.payment_intent,
        "reason": row.reason,
        "status": row.status,
    }
    if row.failure_reason is not None:
        body["failure_reason"] = row.failure_reason
        body["failure_balance_transaction"] = row.failure_balance_transaction
    return body


_EVIDENCE = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)
_DAYS_TO_ANSWER = 7


def dispute(row: Dispute, livemode: bool) -> Json:
    """Give a dispute of a payment by card."""
    moved = [each for each in (row.withdrawn, row.reinstated) if each is not None]
    due_by = row.created + _DAYS_TO_ANSWER * 24 * 60 * 60
    case = "inquiry" if row.status.startswith("warning") else "chargeback"
    card = {"brand": "visa", "case_type": case, "network": "visa", "network_reason_code": "10.4"}
    return {
        "id": row.id,
        "object": "dispute",
        "amount": row.amount,
        "balance_transactions": [_balance_transaction(each, row) for each in moved],
        "charge": row.charge,
        "created": row.created,
        "currency": row.currency,
        "enhanced_eligibility_types": [],
        "evidence": {**nulls(*_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": due_by,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": row.is_charge_refundable,
        "livemode": livemode,
        "metadata": {},
        "payment_intent": row.payment_intent,
        "payment_method_details": {"card": card, "type": "card"},
        "reason": row.reason,
        "status": row.status,
    }


def _balance_transaction(row: BalanceTransaction, of: Dispute) -> Json:
    return {
        "id": row.id,
        "object": "balance_transaction",
        "amount": row.amount,
        "available_on": row.created,
        "created": row.created,
        "currency": of.currency,
        "exchange_rate": None,
        "fee": 0,
        "fee_details": [],
        "net": row.amount,
        "source": of.id,
        "status": "pending",
        "type": "adjustment",
    }
