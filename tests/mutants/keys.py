"""Bugs in what a request is known by at Stripe: its key, its parameters, the age of both."""

from tests.mutants.mutant import mutant

_IDENTITY = "db/functions/call_identity.sql"
_CHANGES = "db/functions/row_changes.sql"
_CLAIM = "db/functions/claim.sql"
_NEXT = "db/functions/next_action.sql"
_SETTLE = "db/functions/settle.sql"
_ABSENT = "db/functions/settle_look_up.sql"

MUTANTS = (
    mutant(
        "uuid-key-per-try",
        "The second try after a lost answer is a new request to Stripe: the money moves twice.",
        "test_look_up.py",
        (_IDENTITY, "return p_identity || ':' || p_generation;", "return p_identity || ':' || gen_random_uuid();"),
    ),
    mutant(
        "key-by-row-id",
        "After a failover another row gets the number, and its reversal is answered with the first one's.",
        "test_call_identity.py::test_an_identity_of_200_characters_is_sent_as_it_is",
        (
            _IDENTITY,
            "p_database_id, p_row.stripe_transfer_id, p_row.reversal_request_id, p_row.call_part);\nend",
            "p_database_id, p_row.id::text, p_row.reversal_request_id, p_row.call_part);\nend",
        ),
    ),
    mutant(
        "identity-without-database",
        "Two databases on one account, a restored copy for example, take each other's reversals for their own.",
        "test_look_up.py",
        (_IDENTITY, "'reversal:%s:%s:%s:%s', p_database_id,", "'reversal:%s:%s:%s:%s', 'db',"),
    ),
    mutant(
        "identity-without-request",
        "A second refund of a transfer goes out under the key of the first and takes nothing back.",
        "test_look_up.py",
        (_IDENTITY, "p_reversal_request_id, p_part);\nbegin", "'re', p_part);\nbegin"),
    ),
    mutant(
        "parameters-recomputed",
        "After a release a repeated request differs from the first: Stripe refuses the key, or takes another amount.",
        "test_claim.py::test_a_request_is_sent_again_as_it_was_whatever_a_release_would_send",
        (
            _CLAIM,
            "else coalesce(t.call_params, marketplace._call_params(t, v_control.database_id)) end",
            "else marketplace._call_params(t, v_control.database_id) end",
        ),
    ),
    mutant(
        "no-age-limit",
        "A key that Stripe has forgotten is sent again: the money moves twice.",
        "test_next_action.py",
        (_NEXT, "return p_row.call_minted_at <= p_now - (", "return false and p_row.call_minted_at <= p_now - ("),
    ),
    mutant(
        "age-from-last-use",
        "Each try makes the key young again, but Stripe counts from the first: it is sent after it was forgotten.",
        "test_next_action.py",
        (
            _NEXT,
            "return p_row.call_minted_at <= p_now - (",
            "return coalesce(p_row.call_last_sent_at, p_now) <= p_now - (",
        ),
    ),
    mutant(
        "generation-minted-on-unknown",
        "A lost answer is followed by a new key while the first request may have moved the money.",
        "test_look_up.py",
        (
            _SETTLE,
            "when 'unknown' then\n      v_row := marketplace._unknown_row(v_row);",
            "when 'unknown' then\n      v_row := marketplace._unknown_row(marketplace._next_generation(v_row, p_now));",
        ),
    ),
    mutant(
        "generation-minted-before-quiet",
        "A new key is made while a request with the old one may still arrive: the money moves twice.",
        "test_look_up.py",
        (_ABSENT, "elsif not v_is_quiet then", "elsif false then"),
    ),
    mutant(
        "old-key-sent-again",
        "An absence makes no new key, so the one that Stripe may have forgotten is all there is: the row never ends.",
        "test_look_up.py",
        (
            _ABSENT,
            "else\n    p_row := marketplace._next_generation(p_row, p_now);",
            "else\n    p_row.call_minted_at := p_now;",
        ),
    ),
    mutant(
        "replayed-500-keeps-posting",
        "A key for which Stripe stored an error is sent for ever and brings nothing: the money never comes back.",
        "test_look_up.py",
        (
            _SETTLE,
            "p_row.call_replayed or (p_outcome.replayed and coalesce(p_outcome.http_status >= 500, false))",
            "p_row.call_replayed",
        ),
    ),
    mutant(
        "new-key-keeps-old-parameters",
        "After a refusal the stored parameters go out under the next key, with the generation of the last in them.",
        "test_look_up.py",
        (_CHANGES, "p_row.call_params := null;", "p_row.call_params := p_row.call_params;"),
    ),
)
