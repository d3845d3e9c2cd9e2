"""Bugs in who may call at all, and how often."""

from tests.mutants.mutant import mutant

_BUDGET = "db/functions/rate_budget.sql"
_CUT = "db/functions/rate_cut.sql"
_REGISTER = "db/functions/register_runner.sql"
_REGISTRATION = "db/functions/registration.sql"
_CLAIM = "db/functions/claim.sql"

MUTANTS = (
    mutant(
        "unregistered-worker-claims",
        "A worker with any key is handed rows: that of another account knows none of our transfers.",
        "test_register_runner.py",
        (_CLAIM, "  perform marketplace._require_registered(p_worker, v_now);\n", ""),
    ),
    mutant(
        "another-account-accepted",
        "The key of another account is accepted, and one after the other our rows end as not found.",
        "test_register_runner.py",
        (
            _REGISTER,
            "if p_control.livemode <> p_livemode or p_control.stripe_account <> p_stripe_account then",
            "if p_control.livemode <> p_livemode then",
        ),
    ),
    mutant(
        "test-key-beside-live-rows",
        "A test key is accepted, and play money is moved for real debts.",
        "test_register_runner.py",
        (
            _REGISTER,
            "if p_control.livemode <> p_livemode or p_control.stripe_account <> p_stripe_account then",
            "if p_control.stripe_account <> p_stripe_account then",
        ),
    ),
    mutant(
        "refused-key-keeps-claiming",
        "A worker whose key was revoked goes on taking rows that others could reverse.",
        "test_register_runner.py",
        (_REGISTRATION, "and a.http_status = 401 and a.error_type is not null", "and false"),
    ),
    mutant(
        "outdated-runner-claims",
        "A runner that ran while the database was migrated claims by rules it does not know.",
        "test_upgrade.py::test_a_runner_too_old_for_the_functions_neither_registers_nor_claims",
        (_REGISTRATION, "  perform marketplace._require_served(v_runner.version);\n", ""),
    ),
    mutant(
        "rate-not-asked",
        "All runners call as fast as they can, and Stripe throttles the whole platform, its checkout as well.",
        "test_rate_budget.py",
        (
            _BUDGET,
            "return least(p_limit, floor(marketplace._tokens_now(p_control, p_now)))::integer;",
            "return p_limit;",
        ),
    ),
    mutant(
        "calls-not-paid-for",
        "Claims cost no tokens: the rate is a number that nobody keeps to.",
        "test_rate_budget.py",
        (_BUDGET, "where p_calls > 0 and c.rate is not null;", "where false;"),
    ),
    mutant(
        "429-does-not-slow-down",
        "Stripe says that it is too much, and the runners go on as before.",
        "test_rate_budget.py",
        (
            _CUT,
            "  if found then\n    perform marketplace._turn_rate_down",
            "  if false then\n    perform marketplace._turn_rate_down",
        ),
    ),
)
