"""db/functions/classify.sql and the shipped rows of stripe_error_rules: what an answer of Stripe's means."""

import psycopg
import pytest

from tests.support.databases import Database, value
from tests.support.transfers import call, claimed_call, record_one, refusal

pytest_plugins = ("tests.support.rolled_back",)

INVALID = "invalid_request_error"


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def verdict(
    db: Database, status: int | None, kind: str | None, code: str | None = None, message: str | None = None
) -> str:
    found = value(
        db,
        "select marketplace.classify_stripe_outcome('reverse', %(status)s, %(kind)s, %(code)s, %(message)s)",
        status=status,
        kind=kind,
        code=code,
        message=message,
    )
    assert isinstance(found, str)
    return found


def verdicts(db: Database, table: list[tuple[tuple[int | None, str | None, str | None, str | None], str]]) -> None:
    """Compare as a whole: a failure shows every row that is wrong."""
    assert [(facts, verdict(db, *facts)) for facts, _ in table] == table


def test_the_shipped_rules_say_what_each_answer_means(db: Database) -> None:
    verdicts(
        db,
        [
            # the key or the account: no row is at fault
            ((401, INVALID, None, "Invalid API Key provided: sk_test_***"), "configuration"),
            ((401, INVALID, "api_key_expired", "Expired API Key provided: sk_test_***"), "configuration"),
            (
                (
                    404,
                    INVALID,
                    "resource_missing",
                    "No such transfer: 'tr_1'; a similar object exists in live mode, "
                    "but a test mode key was used to make this request.",
                ),
                "configuration",
            ),
            (
                (
                    404,
                    INVALID,
                    "resource_missing",
                    "No such transfer: 'tr_1'; a similar object exists in test mode, "
                    "but a live mode key was used to make this request.",
                ),
                "configuration",
            ),
            (
                (
                    403,
                    INVALID,
                    None,
                    "The provided key 'sk_test_***' does not have access to account 'acct_1' (or that account does not "
                    "exist). Application access may have been revoked.",
                ),
                "configuration",
            ),
            ((403, INVALID, "account_invalid", None), "configuration"),
            (
                (
                    403,
                    INVALID,
                    None,
                    "The provided key 'rk_live_***' does not have the required permissions for this endpoint.",
                ),
                "configuration",
            ),
            # the row
            ((404, INVALID, "resource_missing", "No such transfer: 'tr_1'"), "not_found"),
            ((400, INVALID, None, "The transfer tr_1 is already fully reversed."), "already_reversed"),
            (
                (400, INVALID, "balance_insufficient", "Insufficient funds in your Stripe balance."),
                "insufficient_balance",
            ),
            ((400, INVALID, "insufficient_funds", None), "insufficient_balance"),
            (
                (
                    400,
                    "idempotency_error",
                    None,
                    "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                ),
                "conflict",
            ),
            # time
            ((429, INVALID, "rate_limit", "Request rate limit exceeded."), "throttled"),
            ((429, INVALID, "lock_timeout", "This object cannot be accessed right now."), "throttled"),
            (
                (
                    409,
                    "idempotency_error",
                    "idempotency_key_in_use",
                    "There is currently another in-progress request using this Idempotent Key (key_1).",
                ),
                "throttled",
            ),
            # any other refusal
            ((400, INVALID, None, "Something we have never seen."), "transient"),
            ((400, INVALID, "parameter_unknown", None), "transient"),
            ((402, "card_error", None, "Declined."), "transient"),
            ((403, INVALID, None, "Not today."), "transient"),
            ((404, INVALID, None, "Unrecognized request URL."), "transient"),
        ],
    )


def test_what_carries_no_error_of_stripes_is_unknown(db: Database) -> None:
    verdicts(
        db,
        [
            ((None, None, None, None), "unknown"),
            ((None, INVALID, None, "The transfer tr_1 is already fully reversed."), "unknown"),
            *(((status, None, None, None), "unknown") for status in (400, 401, 402, 403, 404, 409, 429, 500)),
            ((400, None, None, "The transfer tr_1 is already fully reversed."), "unknown"),
            ((400, None, "balance_insufficient", None), "unknown"),
            ((400, "", None, None), "unknown"),
        ],
    )


def test_any_other_status_is_unknown_whatever_it_carries(db: Database) -> None:
    for status in (
        100,
        200,
        204,
        301,
        302,
        307,
        405,
        408,
        410,
        418,
        422,
        424,
        425,
        451,
        500,
        502,
        503,
        504,
        599,
        0,
        -1,
    ):
        found = verdict(db, status, INVALID, "resource_missing", "The transfer tr_1 is already fully reversed.")
        assert (status, found) == (status, "unknown")


# Taken for a full reversal although it is none, the money stays with the seller and nobody looks again.
# Not taken for one although it is, the row is tried five times more and ends permanently_failed, in words.
def test_these_wordings_mean_reversed_already(db: Database) -> None:
    verdicts(
        db,
        [
            ((400, INVALID, None, message), "already_reversed")
            for message in (
                "The transfer tr_1 is already fully reversed.",
                "This transfer has already been reversed.",
                "Transfer tr_1 was already completely reversed",
                "TRANSFER ALREADY REVERSED",
                "You cannot reverse tr_1: it has already been fully reversed.",
                "The transfer tr_1 has been reversed already.",
                "The transfer 'tr_1' is already fully reversed.",
                "The transfer has been already reversed",
                "Cannot reverse transfer tr_1 because it has already been fully reversed.",
                "This transfer has already been reversed in full.",
                "The transfer has already been fully reversed, so it cannot be reversed again.",
                "Already reversed",
            )
        ],
    )


def test_these_wordings_do_not(db: Database) -> None:
    verdicts(
        db,
        [
            ((400, INVALID, None, message), "transient")
            for message in (
                # part of it: the rest is still with the seller
                "The transfer tr_1 is already partially reversed.",
                "This transfer has already been partially reversed; only $3.00 can be reversed.",
                "This transfer has already been reversed in part.",
                "Part of this transfer has already been reversed.",
                "Half of it has already been reversed.",
                "More than the remainder: 7.00 USD already reversed.",
                "Remaining: $3.00, already reversed: $7.00.",
                "$7.00 of the transfer tr_1 has already been reversed.",
                "The amount ($10.00) is greater than what is left: 7.00 USD has already been reversed.",
                # something else was done already, or this was not
                "This transfer cannot be reversed because the charge was already refunded.",
                "The charge ch_1 has already been reversed, so the transfer cannot be.",
                "The transfer has not already been reversed.",
                "A reversal with this description already exists.",
                "Reversals of this transfer are already in progress.",
                "The transfer was already created with reverse_transfer.",
                # a retired currency: both words, another matter
                "Transfer reversals in BGN are no longer supported. Bulgaria has already adopted the euro.",
                "already unreversed",
                "",
            )
        ],
    )


def test_the_wording_counts_only_in_a_400_of_the_right_type(db: Database) -> None:
    fully = "The transfer tr_1 is already fully reversed."

    verdicts(
        db,
        [
            ((402, INVALID, None, fully), "transient"),
            ((403, INVALID, None, fully), "transient"),
            ((404, INVALID, None, fully), "transient"),
            ((404, INVALID, "resource_missing", fully), "not_found"),
            ((409, INVALID, None, fully), "throttled"),
            ((429, INVALID, None, fully), "throttled"),
            ((401, INVALID, None, fully), "configuration"),
            ((400, "idempotency_error", None, fully), "conflict"),
            ((400, "api_error", None, fully), "transient"),
            ((400, INVALID, "balance_insufficient", fully), "insufficient_balance"),
            ((500, INVALID, None, fully), "unknown"),
        ],
    )


def test_a_mode_mixed_up_is_not_a_missing_transfer_and_a_similar_name_is(db: Database) -> None:
    assert verdict(db, 404, INVALID, "resource_missing", "No such transfer: 'tr_live_mode'") == "not_found"


def test_a_new_rule_counts_at_once(db: Database) -> None:
    leased = claimed_call(db)
    db.execute(
        "insert into marketplace.stripe_error_rules (priority, http_status, message_pattern, verdict, note) "
        "values (1, 400, 'seller is short', 'insufficient_balance', 'a wording that is new today')"
    )

    recorded = record_one(db, refusal(leased, message="The seller is short of money."))

    assert recorded["verdict"] == "insufficient_balance"


def test_the_rule_of_the_lowest_priority_decides(db: Database) -> None:
    db.execute(
        "insert into marketplace.stripe_error_rules (priority, http_status, error_code, verdict, note) values "
        "(2, 400, 'odd', 'conflict', 'second'), (1, 400, 'odd', 'transient', 'first')"
    )
    assert verdict(db, 400, INVALID, "odd") == "transient"

    db.execute("delete from marketplace.stripe_error_rules where priority = 1")
    assert verdict(db, 400, INVALID, "odd") == "conflict"


def test_without_any_rule_the_status_decides(db: Database) -> None:
    db.execute("delete from marketplace.stripe_error_rules")

    verdicts(
        db,
        [
            ((400, INVALID, "balance_insufficient", "The transfer tr_1 is already fully reversed."), "transient"),
            ((401, INVALID, None, None), "configuration"),
            ((402, INVALID, None, None), "transient"),
            ((403, INVALID, None, None), "transient"),
            ((404, INVALID, "resource_missing", None), "transient"),
            ((409, INVALID, None, None), "throttled"),
            ((429, INVALID, None, None), "throttled"),
        ],
    )


def test_a_rule_cannot_contradict_what_is_fixed(db: Database) -> None:
    for status, wanted in (
        # no rule decides that an answer of these statuses is anything but unknown
        (200, "already_reversed"),
        (408, "transient"),
        (500, "transient"),
        (503, "throttled"),
        # these never spend an attempt or end a row
        (401, "transient"),
        (401, "not_found"),
        (409, "transient"),
        (409, "already_reversed"),
        (429, "insufficient_balance"),
        (429, "not_found"),
        # only a 404 says that there is no such transfer, only a 400 or 402 that it is reversed
        (400, "not_found"),
        (403, "already_reversed"),
        (404, "already_reversed"),
        # success is decided against the row; unknown is never a rule's word
        (400, "succeeded"),
        (400, "unknown"),
        (400, "throttled"),
        (400, "nonsense"),
    ):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            db.execute(
                "insert into marketplace.stripe_error_rules (priority, http_status, verdict, note) "
                "values (1, %s, %s, 'x')",
                [status, wanted],
            )
        assert (status, wanted, refused.value.sqlstate) == (status, wanted, "23514")


def test_a_pattern_that_is_no_regular_expression_is_refused_when_it_is_written(db: Database) -> None:
    for pattern in ("(", "[a", "a{2", "*a", "a\\"):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            db.execute(
                "insert into marketplace.stripe_error_rules (priority, http_status, message_pattern, verdict, note) "
                "values (1, 400, %s, 'transient', 'x')",
                [pattern],
            )
        assert (pattern, refused.value.sqlstate) == (pattern, "2201B")


def test_a_rule_without_a_pattern_fits_an_answer_without_a_message(db: Database) -> None:
    db.execute(
        "insert into marketplace.stripe_error_rules (priority, http_status, message_pattern, verdict, note) "
        "values (1, 404, '.', 'configuration', 'needs a message')"
    )

    assert verdict(db, 404, INVALID, "resource_missing", None) == "not_found"
    assert verdict(db, 404, INVALID, "resource_missing", "x") == "configuration"


def test_only_the_beginning_of_a_long_message_is_looked_at(db: Database) -> None:
    fully = "The transfer tr_1 is already fully reversed."

    assert verdict(db, 400, INVALID, None, fully + "x" * 10_000_000) == "already_reversed"
    assert verdict(db, 400, INVALID, None, "x" * 10_000_000 + ". " + fully) == "transient"


def test_a_send_is_never_reversed_already(db: Database) -> None:
    said = "'invalid_request_error', null, 'The transfer tr_1 is already fully reversed.'"
    assert value(db, f"select marketplace.classify_stripe_outcome('send', 400, {said})") == "transient"


def test_another_action_is_refused(db: Database) -> None:
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        call(
            db,
            "classify_stripe_outcome",
            p_action="look_up",
            p_http_status=400,
            p_error_type=INVALID,
            p_error_code=None,
            p_error_message=None,
        )
    assert (refused.value.sqlstate, refused.value.diag.column_name) == ("22023", "p_action")
