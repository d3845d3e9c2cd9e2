"""Bugs in what a person may declare, and in what a person is shown."""

from tests.mutants.mutant import mutant

_GIVE_UP = "db/functions/give_up.sql"
_MARK = "db/functions/mark_reversed.sql"
_ATTENTION = "db/functions/needs_attention.sql"
_DEBTS = "db/functions/seller_debts.sql"
_DISPLAY = "db/functions/display.sql"

MUTANTS = (
    mutant(
        "given-up-while-it-may-be-made",
        "A reversal of unknown outcome is given up by a person: the seller is said to have what was taken from him.",
        "test_give_up.py",
        (_GIVE_UP, "  perform marketplace._require_not_made(v_row);\n", ""),
    ),
    mutant(
        "given-up-with-its-key-given-out",
        "A row whose key a worker was given is given up although nobody looked since what the worker did with it.",
        "test_give_up.py",
        (
            _GIVE_UP,
            "p_row.call_params is null or ",
            "true or ",
        ),
    ),
    mutant(
        "marked-while-it-may-be-made",
        "A person names a reversal made elsewhere while ours is under way: the money is taken back twice.",
        "test_mark_reversed.py",
        (_MARK, "    perform marketplace._require_not_made(v_row);\n", ""),
    ),
    mutant(
        "marked-before-it-is-quiet",
        "Of two reversals one is chosen while a third may arrive, which nobody would look for any more.",
        "test_mark_reversed.py",
        (_MARK, "\n        and a.started_at >= coalesce(marketplace._quiet_from(p_row), '-infinity')", ""),
    ),
    mutant(
        "one-reversal-for-two-rows",
        "One reversal made elsewhere is taken as evidence for two rows: the seller keeps one amount, and nobody asks.",
        "test_mark_reversed.py",
        (
            _MARK,
            "      and t.failure_message ~ ('[[:<:]]' || p_stripe_reversal_id || '[[:>:]]')))\n",
            "      and false))\n",
        ),
    ),
    mutant(
        "named-reversal-believed",
        "A reversal made elsewhere stands for all of a row although it took less back: the rest stays with the seller.",
        "test_mark_reversed.py",
        (
            "db/functions/named_reversal.sql",
            "least(p_row.amount, marketplace._read_amount(v_named -> 'amount'), v_unused)",
            "p_row.amount",
        ),
    ),
    mutant(
        "withdrawn-and-marked",
        "What was taken back elsewhere for a refund that had failed is not given back to the seller.",
        "test_mark_reversed.py",
        (_MARK, "  perform marketplace._follow_up(p_id, clock_timestamp());\n", ""),
    ),
    mutant(
        "dismissed-for-any-amount",
        "What a refund could not take is never shown again, however much more it becomes.",
        "test_dismiss.py",
        (_ATTENTION, "concat_ws(':', 'unmet', l.transfer_id, l.unmet, r", "concat_ws(':', 'unmet', l.transfer_id, r"),
    ),
    mutant(
        "owed-twice",
        "What was given up and asked for again counts twice in what a seller owes.",
        "test_seller_debts.py",
        (_DEBTS, "greatest(t.given_up, coalesce(u.unmet, 0))", "t.given_up + coalesce(u.unmet, 0)"),
    ),
    mutant(
        "five-cents-shown-as-fifty",
        "An amount below one unit loses its zeros: 0.05 is shown as 0.5.",
        "test_display.py",
        (_DISPLAY, "::text, v_exponent, '0')", "::text, 1, '0')"),
    ),
)
