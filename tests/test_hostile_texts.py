"""Hostile texts from Stripe and from the app, through the wire, a runner and the database.

One run for all: every text in every place where it can stand, a row for each, and honest rows between them. The row is
processed, the text is kept clean and cut, and nothing else is held up.
"""

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

from runner.sandbox.simulator import SimulatorClient
from tests.support.databases import Database, open_database, rows
from tests.support.orders import attempts_of, open_rows, pay_sellers, refund, set_delays, transfer_of
from tests.support.runners import runners, wait_until

TEXTS = {
    "nul": "a\x00b",
    "surrogate": "half \ud83d of a pair, and the other \ude00",
    "long": "x" * 900_000,
    "toolong": "x" * 2_000_000,
    "escapes": "\x1b[2J\x1b]0;title\x07\x9b31mred\x1b[0m\r\nforged line\x08\x7f",
    "turned": "\u202e001 yap\u202c \u2066\u200f",
    "sql": "'; drop table marketplace.seller_transfers; -- $$ \\ %s %(id)s {} $1",
    "blank": " \t\r\n\u2028",
    "empty": "",
}
# What goes through a header as it is.
HEADER_TEXTS = {
    "long": "x" * 7000,
    "sql": TEXTS["sql"],
    "turned": TEXTS["turned"],
    "c1": "\x80\x9b2J\x9d0;title\x9c\xff",
}
# What fits into the metadata of an object.
LISTED_TEXTS = {name: TEXTS[name] for name in ("nul", "escapes", "turned", "sql")}
REVERSAL = {"id": "trr_1", "object": "transfer_reversal", "amount": 1000, "currency": "usd", "metadata": {}}
ERROR = {"type": "invalid_request_error", "message": "Not today."}
# What PostgreSQL, a terminal and a log reader would take for a command.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def error_answers() -> dict[str, tuple[int, dict[str, Any]]]:
    """Refusals with a hostile text in one part: status and body by name."""
    return {
        f"{part}{name}": (400, {"error": {**ERROR, part: text}})
        for part in ("message", "type", "code")
        for name, text in TEXTS.items()
    }


def object_answers(transfer: str) -> dict[str, tuple[int, dict[str, Any]]]:
    """Reversals of this transfer with a hostile text in one part; those of another amount are believed to be there."""
    honest = {**REVERSAL, "transfer": transfer}
    parts = {
        f"{part}{name}": (200, {**honest, part: text})
        for part in ("id", "object", "currency", "transfer", "status")
        for name, text in TEXTS.items()
        if (part, name) != ("status", "empty")
    }
    for name, text in TEXTS.items():
        strange = {**honest, "id": f"trr_strange{name}", "amount": 1}
        parts[f"metadata{name}"] = (200, {**strange, "metadata": {"order": text, f"key {text[:300]}": "value"}})
    return parts


def script(db: Database, stripe: SimulatorClient) -> list[str]:
    """Pay a seller for each hostile answer and have Stripe give it to the first call; gives the names."""
    refusals, objects = error_answers(), object_answers("")
    headers, lists = [f"header{name}" for name in HEADER_TEXTS], [f"listed{name}" for name in LISTED_TEXTS]
    names = [*refusals, *objects, *headers, *lists, "taken"]
    transfers = dict(zip(names, pay_sellers(db, stripe, *names), strict=True))
    answers = {
        **refusals,
        **{name: object_answers(transfers[name])[name] for name in objects},
        "taken": (200, {**REVERSAL, "id": "trr_taken", "transfer": transfers["taken"]}),
    }
    for name, (status, body) in answers.items():
        stripe.add_fault(
            "garbage", status=status, body=json.dumps(body), match={"method": "POST", "transfer": transfers[name]}
        )
    for name, text in HEADER_TEXTS.items():
        header = {"Request-Id": text}
        stripe.add_fault(
            "error", status=400, headers=header, match={"method": "POST", "transfer": transfers[f"header{name}"]}
        )
    for name, text in LISTED_TEXTS.items():
        leave_in_the_list(stripe, transfers[f"listed{name}"], text)
        stripe.add_fault(
            "error", status=500, type="api_error", match={"method": "POST", "transfer": transfers[f"listed{name}"]}
        )
    return names


def leave_in_the_list(stripe: SimulatorClient, transfer: str, text: str) -> None:
    """Somebody else's reversal, canceled since, with this text in its metadata: for whoever reads the list."""
    stripe.add_fault("pending_reversal", match={"method": "POST", "transfer": transfer})
    path, params = f"/v1/transfers/{transfer}/reversals", {"amount": 10, "metadata[reversal_request_id]": text}
    stripe.settle_reversal(stripe.stripe("POST", path, params).json()["id"], "canceled")


def evidence_of_another(db: Database, stripe: SimulatorClient) -> None:
    """A row that ended long ago with the reversal that Stripe will name again."""
    pay_sellers(db, stripe, "before")
    refund(db, "before")
    db.execute(
        "update marketplace.seller_transfers set status = 'reversed', next_retry_at = null,"
        " stripe_reversal_id = 'trr_taken' where order_id = 'order-before'"
    )


def test_hostile_texts_of_stripes_are_processed_kept_clean_and_hold_up_nothing(
    db: Database, dsn: str, simulator: SimulatorClient, tmp_path: Path
) -> None:
    for verdict in ("transient", "unknown"):
        set_delays(db, verdict, "50 ms")
    evidence_of_another(db, simulator)
    names = script(db, simulator)
    honest = [f"honest{number}" for number in range(len(names))]
    transfers = dict(zip(honest, pay_sellers(db, simulator, *honest), strict=True))
    parked = {"taken", *(name for name in names if name.startswith("metadata"))} - {"metadatatoolong"}
    with runners(dsn, simulator.base_url, tmp_path) as start_runner:
        # All together, so that hostile and honest outcomes are reported in common batches.
        refund(db, *(name for pair in zip(names, honest, strict=True) for name in pair))
        runner = start_runner(slots=16, log_format="console")
        wait_until(lambda: open_rows(db) == len(parked), "all but the parked rows are at their end")

    for name in [*names, *honest]:
        held = transfer_of(db, name)
        assert (name, held["status"]) == (name, "reversal_pending" if name in parked else "reversed")
        assert (held["parked_reason"] or "").startswith("mismatch" if name in parked else "")
    made = {entry.transfer: entry.reversal for entry in simulator.ledger(kind="reversal")}
    for name in honest:
        (attempt,) = attempts_of(db, name)
        assert (attempt["verdict"], attempt["stripe_object_id"]) == ("succeeded", made[transfers[name]])
    assert_first_verdicts(db)
    assert_clean(db)
    assert_lines(runner.log_file.read_text())


def assert_first_verdicts(db: Database) -> None:
    """What a hostile answer means is decided by the parts that can be read."""
    for name in error_answers():
        # An answer can be too long to be Stripe's, and without a type it is no error of Stripe's.
        expected = "unknown" if name.endswith("toolong") or name in ("typeblank", "typeempty") else "transient"
        assert (name, attempts_of(db, name)[0]["verdict"]) == (name, expected)
    for name in object_answers(""):
        expected = "mismatch" if name.startswith("metadata") and name != "metadatatoolong" else "unknown"
        assert (name, attempts_of(db, name)[0]["verdict"]) == (name, expected)


def assert_clean(db: Database) -> None:
    """No column of any row holds a control, and every text ends somewhere."""
    for table in ("seller_transfers", "transfer_attempts", "transfer_status_log", "stripe_control_log"):
        for row in rows(db, f"select to_jsonb(t) as columns from marketplace.{table} as t"):
            for column, kept in row["columns"].items():
                text = kept if isinstance(kept, str) else json.dumps(kept, ensure_ascii=False)
                assert not CONTROLS.search(text), (table, column, text)
                assert len(text) <= 1000, (table, column)


def assert_lines(log: str) -> None:
    """Nothing in the log drives a terminal or begins a line of its own."""
    assert "forged line" in log
    for line in log.removesuffix("\n").split("\n"):
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[", line), line
        assert not CONTROLS.search(line), line


# What an app may send: printable, and as odd as it likes.
APP_TEXTS = {
    "sql": "'; drop table marketplace.seller_transfers; -- $$ \\ %s %(id)s {} $1",
    "long": "x" * 255,
    "wide": "\U0001f4b8" * 255,
    "turned": "\u202e001 yap\u202c \u2066\u200f",
    "quoted": """"' `\\"\\u0000 &amp; +%2F=&metadata[x]=y""",
    "spaced": "a  b",
}


def test_odd_texts_of_the_apps_travel_to_stripe_and_back_as_they_are(
    db: Database, dsn: str, simulator: SimulatorClient, tmp_path: Path
) -> None:
    with closing(open_database(dsn)) as app:
        rows(app, "select set_config('marketplace.reason', %(reason)s, false)", reason=200 * TEXTS["escapes"])
        for name, text in APP_TEXTS.items():
            (transfer,) = simulator.create_transfers(
                [{"destination": f"acct_{name}", "amount": 1000, "currency": "usd"}]
            )
            rows(
                app,
                "select * from marketplace.record_completed_transfer(%(text)s, %(text)s, %(text)s, %(account)s, 1000,"
                " 'usd', p_stripe_transfer_id => %(transfer)s)",
                text=text,
                account=f"acct_{name}",
                transfer=transfer,
            )
            rows(app, "select * from marketplace.request_reversal(%(text)s, %(text)s)", text=text)
    with runners(dsn, simulator.base_url, tmp_path) as start_runner:
        start_runner()
        wait_until(lambda: open_rows(db) == 0, "all is reversed")

    kept = rows(
        db, "select order_id, transfer_key, seller_id, reversal_request_id, status from marketplace.seller_transfers"
    )
    assert sorted(tuple(each.values()) for each in kept) == sorted(
        (*[text] * 4, "reversed") for text in APP_TEXTS.values()
    )
    sent = [entry.metadata for entry in simulator.ledger(kind="reversal")]
    told = ("transfer_key", "order_id", "reversal_request_id")
    assert sorted([each[name] for name in told] for each in sent) == sorted([text] * 3 for text in APP_TEXTS.values())
    reasons = rows(db, "select reason from marketplace.transfer_status_log where application_name = '' and reason > ''")
    assert len(reasons) == 2 * len(APP_TEXTS)  # born, and asked back
    for each in reasons:
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", each["reason"])  # beside it, the app's own id as it is
        assert len(each["reason"]) <= 1000
