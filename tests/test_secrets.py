"""No secret anywhere: the Stripe key and the database's password, whoever quotes them, in whatever spelling.

A normal and a hostile run leave logs, rows, queries and process arguments behind; all of it is searched for every part
of a secret of twelve characters, plain, percent-encoded and in base64.
"""

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from runner.cli import main
from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import SimulatorClient
from tests.support.databases import Database, rows, value
from tests.support.inbox import inbox_that_runs
from tests.support.orders import open_rows, pay_sellers, refund, refunded, set_delays
from tests.support.runners import REPOSITORY, Runner, runners, wait_until
from tests.support.webhooks import encoded, endpoint, event, signature
from tests.support.yoyo import schema_and_rows_of

KEY = "sk_test_51PgafTB7WZ01zgkWbR3uX8vQ9mN2kL5jH7gF4dS6aP1oI0uY3tR5eW8qZ2xC4vB6nM9"
PASSWORD = "Tr0ub4dor&3/correct+horse@battery"
SECRETS = (KEY, PASSWORD)
BASIC = base64.b64encode(f"{KEY}:".encode()).decode()
WEBHOOK_SECRET = "whsec_9f8e7d6c5b4a39281706f5e4d3c2b1a0"

# What a hostile or careless Stripe, proxy or error page may say.
QUOTES = {
    "whole": f"Invalid API Key provided: {KEY}",
    "withoutprefix": f"The key ends in {KEY[20:60]}.",
    "bearer": f"You sent 'Authorization: Bearer {KEY}'.",
    "basic": f"You sent {{'Authorization': 'Basic {BASIC}'}}.",
    "encoded": f"Your key in base64 is {BASIC}",
    "url": f"https://{quote(KEY)}:@api.stripe.com/?password={quote(PASSWORD, safe='')}",
    "dsn": f"could not connect to postgresql://app:{quote(PASSWORD, safe='')}@db/shop, that is {PASSWORD}",
    "webhook": json.dumps({"type": "webhook_endpoint.created", "data": {"object": {"secret": WEBHOOK_SECRET}}}),
    "atthecut": "x" * 980 + KEY,
    "colours": f"\x1b[31m{KEY}\x1b[0m\n{KEY}",
}


def spellings(secret: str) -> set[str]:
    """The secret as it may be written, also inside of something longer that is in base64."""
    inside = [f"{before}{secret}:{before}".encode() for before in ("", ":", "::")]
    return {secret, quote(secret), quote(secret, safe=""), *(base64.b64encode(text).decode() for text in inside)}


PARTS = {
    spelling[at : at + 12]
    for secret in (*SECRETS, WEBHOOK_SECRET)
    for spelling in spellings(secret)
    for at in range(len(spelling) - 11)
}


def leaks(text: str) -> list[str]:
    """Where twelve characters of a secret stand, each with what is around it."""
    found = [at for at in range(len(text) - 11) if text[at : at + 12] in PARTS]
    return [text[max(0, at - 60) : at + 12] for at in found if at - 1 not in found]


def with_password(dsn: str) -> str:
    return dsn.replace("postgres@", f"postgres:{quote(PASSWORD, safe='')}@")


def arguments_of(runner: Runner) -> str:
    return Path(f"/proc/{runner.process.pid}/cmdline").read_bytes().decode()


def test_a_normal_and_a_hostile_run_leave_no_secret_anywhere(
    db: Database, dsn: str, embedded_postgres: EmbeddedPostgres, simulator: SimulatorClient, tmp_path: Path
) -> None:
    simulator.set_key(KEY)
    for verdict in ("transient", "unknown", "configuration"):
        set_delays(db, verdict, "100 ms")
    script_hostile_answers(db, simulator)
    with runners(with_password(dsn), simulator.base_url, tmp_path, key=KEY) as start_runner:
        started = [
            start_runner("plain", log_level="debug", log_format="console"),
            start_runner("json", log_level="debug"),
        ]
        refund(db, "mismatch", "keyrefused", *QUOTES, *(f"page{name}" for name in QUOTES))
        refunded(db, simulator, "normal")
        wait_until(lambda: open_rows(db) == 1, "all but the parked row are at their end")
        places = {f"arguments of {runner.worker}": arguments_of(runner) for runner in started}
        places["queries"] = str(rows(db, "select query, application_name from pg_stat_activity"))
    places |= {f"output of {runner.worker}": runner.log_file.read_text() for runner in started}
    places["status"] = output_of(["status"], DATABASE_URL=with_password(dsn))
    places["dump"] = "\n".join(schema_and_rows_of(dsn))
    places["server's log"] = embedded_postgres.log.read_text()
    # The ids of these requests are ours: they quote secrets.
    places["requests"] = str([replace(request, request_id=None) for request in simulator.requests()])
    places["ledger"] = str(simulator.ledger())

    assert {place: found for place, text in places.items() if (found := leaks(text))} == {}
    # It was said indeed, and what can be told of it was kept.
    masked = "select count(distinct transfer_id) from marketplace.transfer_attempts where error_message like '%%***%%'"
    assert value(db, masked) >= 2 * len(QUOTES) - 2
    assert value(db, "select count(*) from marketplace.stripe_control_log where reason like '%%***%%'") >= 1
    assert "***" in value(
        db, "select parked_reason from marketplace.seller_transfers where order_id = 'order-mismatch'"
    )
    assert '"event":' in places["output of json"]
    assert places["output of plain"].count("outcome") > len(QUOTES)


def script_hostile_answers(db: Database, simulator: SimulatorClient) -> None:
    """Have Stripe quote secrets in every text it can send: messages, codes, types, headers, pages, objects."""
    mismatch, refused = pay_sellers(db, simulator, "mismatch", "keyrefused")
    for words, transfer in zip(QUOTES.values(), pay_sellers(db, simulator, *QUOTES), strict=True):
        header = {"Request-Id": words.translate({0x1B: " ", 0x0A: " "})}
        simulator.add_fault(
            "error",
            status=400,
            message=words,
            type=words,
            code=words,
            headers=header,
            match={"method": "POST", "transfer": transfer},
        )
    for (name, words), transfer in zip(
        QUOTES.items(), pay_sellers(db, simulator, *(f"page{name}" for name in QUOTES)), strict=True
    ):
        status = 200 if name == "whole" else 503
        simulator.add_fault("garbage", body=words, status=status, match={"method": "POST", "transfer": transfer})
    strange = {
        "id": "trr_1",
        "object": "transfer_reversal",
        "amount": 1,
        "currency": "usd",
        "transfer": mismatch,
        # What decides is not masked by its looks, for it may be a key's identity: only what is known to be secret.
        "metadata": {name: words for name, words in QUOTES.items() if name != "webhook"},
    }
    simulator.add_fault("garbage", body=json.dumps(strange), match={"method": "POST", "transfer": mismatch})
    simulator.add_fault("error", status=401, message=QUOTES["whole"], match={"method": "POST", "transfer": refused})


def output_of(arguments: list[str], **environment: str) -> str:
    """All that a command says."""
    return CliRunner().invoke(main, arguments, env=environment).output


def output_of_process(program: list[str], **environment: str) -> str:
    """All that a process of its own says."""
    done = subprocess.run(
        [sys.executable, *program],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["migrate", "status", "run", "demo --orders 0", "webhook", "catch-up --since 1h"])
@pytest.mark.parametrize(
    "environment",
    [
        {"STRIPE_WEBHOOK_SECRET": f"{WEBHOOK_SECRET} {WEBHOOK_SECRET}"},
        {"STRIPE_WEBHOOK_SECRET": KEY},
        {"DATABASE_URL": f"postgresql://app:{PASSWORD}@db/shop"},
        {"DATABASE_URL": f"host=127.0.0.1 port=1 password='{PASSWORD}'"},
        {"DATABASE_URL": f"host=127.0.0.1 port=1 passwort='{PASSWORD}'"},
        {"DATABASE_URL": f"postgresql://app:{quote(PASSWORD, safe='')}@127.0.0.1:1/shop?colour=blue"},
        {"DATABASE_URL": f"postgresql://app:{quote(PASSWORD, safe='')}@127.0.0.1:one/shop"},
        {"DATABASE_URL": KEY},
        {"STRIPE_API_KEY": f"{KEY} {KEY}"},
        {"STRIPE_API_KEY": KEY.replace("sk", "pk")},
        {"SELLER_TRANSFERS_SLOTS": KEY, "SELLER_TRANSFERS_LOG_LEVEL": KEY},
        {"SELLER_TRANSFERS_STRIPE_API_BASE": f"https://{KEY}@api.example"},
        {"SELLER_TRANSFERS_STRIPE_API_BASE": f"http://127.0.0.1:{KEY}"},
    ],
)
def test_a_bad_setting_is_told_without_the_secret_in_it(name: str, environment: dict[str, str]) -> None:
    secrets = {"STRIPE_API_KEY": KEY, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}
    given = {"DATABASE_URL": "host=127.0.0.1 port=1", **secrets, **environment}

    said = output_of(name.split(), **given)

    assert said
    assert leaks(said) == []


def test_the_webhook_leaves_no_secret_anywhere_whatever_is_delivered(
    db: Database, dsn: str, embedded_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    raises = "raise exception '%', (p_event -> 'data' -> 'object' ->> 'note') using errcode = '22023';"
    notes = {name: words for name, words in QUOTES.items() if name in ("webhook", "whole", "bearer")}
    notes["known"] = f"{WEBHOOK_SECRET} {KEY}"

    with endpoint(with_password(dsn), tmp_path, secrets=WEBHOOK_SECRET, log_level="debug") as at:
        answers = []
        for name, words in notes.items():
            body = encoded(event(f"evt_{name}", data={"object": {"note": words, words[:40]: name}}))
            answers += [at.deliver(body, signature(body, WEBHOOK_SECRET)), at.deliver(body, f"t=1,v1={WEBHOOK_SECRET}")]
            with inbox_that_runs(db, raises):
                answers.append(at.deliver(body, signature(body, WEBHOOK_SECRET)))
        places = {"arguments": arguments_of(at.runner), "output": at.runner.log_file.read_text()}
        places["queries"] = str(
            rows(db, "select query, application_name from pg_stat_activity where pid <> pg_backend_pid()")
        )
    places["answers"] = str(answers)
    places["dump"] = "\n".join(schema_and_rows_of(dsn))

    assert [answer.status for answer in answers] == [200, 400, 400] * 4
    assert {place: found for place, text in places.items() if (found := leaks(text))} == {}
    assert places["dump"].count("whsec_***") >= 2


def test_a_key_that_is_refused_at_start_is_not_repeated(dsn: str, simulator: SimulatorClient) -> None:
    simulator.add_fault("error", status=401, message=" ".join(QUOTES.values()), match={"path": "^/v1/account$"})

    said = output_of_process(
        ["-m", "runner", "run"],
        DATABASE_URL=with_password(dsn),
        STRIPE_API_KEY=KEY,
        SELLER_TRANSFERS_STRIPE_API_BASE=simulator.base_url,
        SELLER_TRANSFERS_LOG_LEVEL="debug",
    )

    assert "Stripe refuses the key: HTTP 401: Invalid API Key provided: " in said
    assert leaks(said) == []


# A program that goes wrong in the middle, in words that repeat its whole environment.
CRASH = """
import os, runner.cli, runner.commands
class Worker(runner.commands.Worker):
    async def run(self):
        raise RuntimeError(f"with {os.environ['STRIPE_API_KEY']} at {os.environ['DATABASE_URL']}: {os.environ['SAYS']}")
runner.commands.Worker = Worker
runner.cli.main(["run"])
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_crash_shows_where_it_happened_and_no_secret(dsn: str, simulator: SimulatorClient, log_format: str) -> None:
    simulator.set_key(KEY)

    said = output_of_process(
        ["-c", CRASH],
        DATABASE_URL=with_password(dsn),
        STRIPE_API_KEY=KEY,
        SAYS=PASSWORD,
        SELLER_TRANSFERS_STRIPE_API_BASE=simulator.base_url,
        SELLER_TRANSFERS_LOG_FORMAT=log_format,
    )

    assert "RuntimeError: with sk_test_***" in said
    assert leaks(said) == []


@pytest.mark.parametrize("secret", SECRETS)
def test_a_planted_secret_is_found_in_any_spelling(db: Database, dsn: str, secret: str) -> None:
    for spelling in spellings(secret):
        assert leaks(f"some text, {spelling[3:17]} and more")
    assert leaks(f"said {secret}") == [f"said {secret}"[: 5 + 12]]
    assert leaks("sk_test_***, postgresql://app:***@db/shop") == []

    rows(db, "select * from marketplace.pause_stripe_calls(%(reason)s)", reason=f"because of {secret}")
    assert leaks("\n".join(schema_and_rows_of(dsn)))
