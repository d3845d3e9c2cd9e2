"""The endpoint for Stripe's events: what it takes, what it refuses, and that nothing is answered too early."""

import gzip
import json
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

import runner.database
from runner.event import DEPTH_LIMIT
from tests.support.databases import Connect, Database, SchemaCopy, ServerAddress, open_database, rows, value
from tests.support.forgeries import KINDS, deliver_all
from tests.support.inbox import comes_to, inbox_that_runs, stored, stored_event
from tests.support.runners import wait_until
from tests.support.webhooks import (
    NEXT_SECRET,
    PATH,
    SECRET,
    Answer,
    Endpoint,
    EndpointProcess,
    encoded,
    endpoint,
    endpoint_here,
    event,
    signature,
)

BODY_LIMIT = 20_000
GATE = 7_301


@pytest.fixture(scope="module")
def _shared(
    schema_copy: SchemaCopy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EndpointProcess, Database, str]]:
    with schema_copy("webhook") as dsn, ExitStack() as stack:
        db = stack.enter_context(closing(open_database(dsn)))
        folder, secrets = tmp_path_factory.mktemp("webhook"), f"{SECRET}, {NEXT_SECRET}"
        at = stack.enter_context(endpoint(dsn, folder, secrets=secrets, webhook_body_limit=BODY_LIMIT))
        yield at, db, dsn


@pytest.fixture
def at(_shared: tuple[EndpointProcess, Database, str]) -> EndpointProcess:
    """An endpoint that the tests of this module share; each delivers events of its own names."""
    return _shared[0]


@pytest.fixture
def inbox(_shared: tuple[EndpointProcess, Database, str]) -> Database:
    """Its database."""
    return _shared[1]


@pytest.fixture
def inbox_dsn(_shared: tuple[EndpointProcess, Database, str]) -> str:
    """The URI of that database, for an endpoint of the test's own."""
    return _shared[2]


@contextmanager
def gate(db: Database, dsn: str) -> Iterator[Database]:
    """Have every event wait until this session's transaction ends, which is open inside the block."""
    waits = f"perform pg_advisory_xact_lock_shared({GATE}); {comes_to('acted')}"
    with inbox_that_runs(db, waits), closing(open_database(dsn)) as holder:
        holder.execute(f"select pg_advisory_lock({GATE})".encode())
        yield holder


def open_gate(holder: Database) -> None:
    holder.execute("select pg_advisory_unlock_all()")


def waiting(db: Database) -> int:
    """How many events wait at the gate."""
    return int(
        value(
            db,
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            " and application_name = 'seller-transfers webhook'",
        )
    )


def wait_at_gate(db: Database, count: int) -> None:
    wait_until(lambda: waiting(db) == count, f"{count} events wait")


def assert_refused(answer: Answer, status: int, words: str = "") -> None:
    assert (answer.status, words in answer.text) == (status, True), answer
    assert ("Retry-After" in answer.headers) == (status == 503)


def exchanged(at: Endpoint, *parts: bytes, until: bytes = b"no such words") -> bytes:
    """Send bytes as they are and give what comes back until these words, or until the connection is closed."""
    with socket.create_connection(("127.0.0.1", at.port), timeout=20) as raw:
        for part in parts:
            raw.sendall(part)
        received = b""
        while until not in received and (chunk := raw.recv(65536)):
            received += chunk
        return received


def head(**headers: object) -> bytes:
    """The head of a delivery, after which the connection is closed."""
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in {"Connection": "close", **headers}.items()]
    return "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: here", *lines, "", ""]).encode()


# What is taken.


def test_an_event_is_taken_and_is_in_the_database_when_that_is_said(at: Endpoint, inbox: Database) -> None:
    sent = event("evt_taken", request={"id": "req_1", "idempotency_key": "é \U0001f600 € 1.5"})

    answer = at.deliver(encoded(sent))

    assert json.loads(answer.text) == {"event_id": "evt_taken", "type": "customer.created", "result": "ignored"}
    assert stored_event(inbox, "evt_taken") == sent


def test_an_event_delivered_again_is_taken_again_and_stored_once(at: Endpoint, inbox: Database) -> None:
    results = [at.deliver_event("evt_again").result for _ in range(3)]

    assert results == ["ignored", "already_known", "already_known"]
    assert stored(inbox).count("evt_again") == 1


def test_of_an_event_that_comes_ten_times_at_once_one_is_new(at: Endpoint, inbox: Database) -> None:
    body = encoded(event("evt_at_once"))

    with ThreadPoolExecutor(max_workers=10) as pool:
        results = [answer.result for answer in pool.map(at.deliver, [body] * 10)]

    assert sorted(results) == [*["already_known"] * 9, "ignored"]
    assert stored(inbox).count("evt_at_once") == 1


@pytest.mark.parametrize("result", ["acted", "kept", "ignored", "already_known"])
def test_whatever_the_database_makes_of_an_event_it_is_taken(at: Endpoint, inbox: Database, result: str) -> None:
    with inbox_that_runs(inbox, comes_to(result, "'in words'")):
        assert at.deliver_event(f"evt_{result}").result == result


def test_the_sha256_of_the_bytes_as_they_came_goes_along(at: Endpoint, inbox: Database) -> None:
    body = b'{"id": "evt_sum", "object":"event","type":"a.b" ,"data":{"object":{"note":"\\u0000"}}}'
    inbox.execute("create table sums (sha256 text)")

    with inbox_that_runs(inbox, f"insert into public.sums values (p_raw_sha256); {comes_to('acted')}"):
        assert at.deliver(body).result == "acted"

    # By sha256sum.
    known = "8f0e3db70e58c2c0b67fc6b6848641f16aa194fa0c830b44bbdac9bef83b37d8"
    assert rows(inbox, "select sha256 from sums") == [{"sha256": known}]


def test_an_event_may_come_in_chunks(at: Endpoint, inbox: Database) -> None:
    body = encoded(event("evt_chunks"))
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:101], body[101:])]

    said = exchanged(at, head(Transfer_Encoding="chunked", Stripe_Signature=signature(body)), *chunks, b"0\r\n\r\n")

    assert said.startswith(b"HTTP/1.1 200 ")
    assert "evt_chunks" in stored(inbox)


@pytest.mark.parametrize(
    ("name", "secrets"),
    [("old", (SECRET,)), ("new", (NEXT_SECRET,)), ("both", (SECRET, NEXT_SECRET)), ("one", ("whsec_x", NEXT_SECRET))],
)
def test_while_secrets_are_rolled_either_will_do(
    at: Endpoint, inbox: Database, name: str, secrets: tuple[str, ...]
) -> None:
    body = encoded(event(f"evt_rolled_{name}"))

    assert at.deliver(body, signature(body, *secrets)).result == "ignored"
    assert f"evt_rolled_{name}" in stored(inbox)


def test_signatures_of_other_schemes_and_ages_within_five_minutes_do_no_harm(at: Endpoint) -> None:
    body = encoded(event("evt_aged"))

    for header in (
        signature(body, age_seconds=240),
        signature(body, age_seconds=-86_400),  # our clock may be slow
        signature(body).replace(",", ", ") + ",v0=" + "0" * 64 + ",v1=short,v2,nonsense",
    ):
        assert at.deliver(body, header).status == 200


def test_what_postgresql_cannot_hold_leaves_a_mark_and_nothing_else_changes(at: Endpoint, inbox: Database) -> None:
    sent = event(
        "evt_nul", data={"object": {"note": "a\0b\ud800c\udfffd", "k\0": [{"\udc00": "\U0001f600"}], "tab": "\t"}}
    )

    assert at.deliver(encoded(sent)).result == "ignored"

    kept = stored_event(inbox, "evt_nul")
    assert kept["data"] == {
        "object": {"note": "a\ufffdb\ufffdc\ufffdd", "k\ufffd": [{"\ufffd": "\U0001f600"}], "tab": "\t"}
    }


def test_a_secret_that_an_event_quotes_is_not_stored(at: Endpoint, inbox: Database) -> None:
    sent = event(
        "evt_quotes", data={"object": {"secret": SECRET, "note": "see sk_live_51PgafTB7WZ01zgkW, link_live_a"}}
    )

    assert at.deliver(encoded(sent)).result == "ignored"

    kept = stored_event(inbox, "evt_quotes")
    assert kept["data"] == {"object": {"secret": "whsec_***", "note": "see sk_live_***, link_live_a"}}


# What is refused.


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        "t=,v1=",
        "t={now}",
        "v1={good}",
        "t={now},v0={good}",
        "t={now},v1={short}",
        "t={now},v1={upper}",
        "t={now},t={now},v1={good}",
        "t={now}0,v1={good}",
        "t= {now},v1={good}",
        "t=+{now},v1={good}",
        "t=1e9,v1={good}",
        "t=²,v1={good}",
        "t={now},v1={flipped}",
        "t={now},v1={of_another}",
        "t={now},v1=" + "é" * 64,
        ",".join(["t={now}", *["v1={flipped}"] * 90]),
    ],
)
def test_a_delivery_without_a_good_signature_is_refused(at: Endpoint, inbox: Database, header: str) -> None:
    body = encoded(event("evt_forged"))
    now, _, good = signature(body).removeprefix("t=").partition(",v1=")
    flipped = good[:-1] + ("0" if good[-1] != "0" else "1")
    of_another = signature(body, "whsec_another").partition(",v1=")[2]
    given = header.format(
        now=now, good=good, short=good[:-1], upper="A" + good[1:].upper(), flipped=flipped, of_another=of_another
    )

    answer = at.request("POST", PATH, body, **({"Stripe_Signature": given.encode().decode("latin-1")} if given else {}))

    assert_refused(answer, 400, "ignature")
    assert "evt_forged" not in stored(inbox)


def test_a_signature_older_than_five_minutes_is_refused_however_good(at: Endpoint, inbox: Database) -> None:
    body = encoded(event("evt_replayed"))

    assert_refused(at.deliver(body, signature(body, age_seconds=310)), 400, "signed more than 300 s ago")
    assert_refused(at.deliver(body, signature(body, age_seconds=86_400)), 400)
    assert "evt_replayed" not in stored(inbox)


def test_one_changed_byte_is_a_forgery(at: Endpoint, inbox: Database) -> None:
    body = encoded(event("evt_signed"))

    for changed in (body.replace(b"evt_signed", b"evt_forged"), body + b"\n", body[:-1], b""):
        assert_refused(at.deliver(changed, signature(body)), 400)

    assert not {"evt_signed", "evt_forged"} & set(stored(inbox))


DEEP = DEPTH_LIMIT - 2  # within data.object of an event


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"id": "evt_odd", "object": "ev\xed\xa0\x80ent"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"object": "event"}', "not JSON"),
        (b"evt_odd", "not JSON"),
        (b"{'id': 'evt_odd'}", "not JSON"),
        (b'{"id": "evt_odd\0"}', "not JSON"),
        (encoded(event("evt_odd"))[:-1], "not JSON"),
        (encoded(event("evt_odd")) + b"{}", "not JSON"),
        (b"[" * 15_000, "nested deeper"),
        (b"[" * 9_000 + b"]" * 9_000, "nested deeper"),
        (b"null", "kind 'event'"),
        (b'"evt_odd"', "kind 'event'"),
        (b"[]", "kind 'event'"),
        (b"{}", "kind 'event'"),
        (encoded([event("evt_odd")]), "kind 'event'"),
        (encoded({**event("evt_odd"), "object": "charge"}), "kind 'event'"),
        (encoded(event("")), "usable id"),
        (encoded({**event("x"), "id": 7}), "usable id"),
        (encoded(event("evt odd")), "usable id"),
        (encoded(event("evt_odd\n")), "usable id"),
        (encoded(event("evt_" + "e" * 251)), "usable id"),
        (encoded(event("cus_odd")), "usable id"),
        (encoded(event("evt_odd", event_type="")), "usable type"),
        (encoded(event("evt_odd", type=None)), "usable type"),
        (encoded(event("evt_odd", event_type="a b")), "usable type"),
        (encoded(event("evt_odd", data=None)), "data.object"),
        (encoded(event("evt_odd", data={"object": "cus_1"})), "data.object"),
        (encoded(event("evt_odd", data=[])), "data.object"),
        (encoded(event("evt_odd")).replace(b'"created"', b'"id": "evt_2", "created"'), "twice"),
        (encoded(event("evt_odd", data={"object": {"a\0": 1, "a\ufffd": 2}})), "twice"),
        (encoded(event("evt_odd", amount=float("nan"))), "NaN"),
        (encoded(event("evt_odd", amount=float("-inf"))), "NaN"),
        (encoded(event("evt_odd")).replace(b'"pending_webhooks": 1', b'"pending_webhooks": 1e999'), "out of range"),
        (encoded(event("evt_odd", amount=2**63)), "out of range"),
        (encoded(event("evt_odd", amount=-(2**63) - 1)), "out of range"),
        (encoded(event("evt_odd")).replace(b": 1,", b": " + b"9" * 5000 + b","), "not JSON"),
        (
            encoded(event("evt_odd")).replace(b'"cus_1"', b"[" * DEEP + b"]" * DEEP),
            "nested deeper",
        ),
    ],
)
def test_what_is_no_event_is_refused_and_nothing_is_stored(
    at: Endpoint, inbox: Database, body: bytes, words: str
) -> None:
    before = len(stored(inbox))

    assert_refused(at.deliver(body), 400, words)

    assert len(stored(inbox)) == before


def test_what_is_just_within_the_bounds_is_taken(at: Endpoint, inbox: Database) -> None:
    nested = b"[" * (DEEP - 1) + b"]" * (DEEP - 1)
    body = encoded(event("evt_within", least=-(2**63), most=2**63 - 1)).replace(b'"cus_1"', nested)

    assert at.deliver(body + b" " * (BODY_LIMIT - len(body))).result == "ignored"

    assert stored_event(inbox, "evt_within")["most"] == 9223372036854775807


def test_a_body_over_the_bound_is_refused_by_what_it_says_or_when_it_gets_there(at: Endpoint, inbox: Database) -> None:
    body = encoded(event("evt_long"))
    body += b" " * (BODY_LIMIT + 1 - len(body))
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    said = exchanged(at, head(Content_Length=10**15, Stripe_Signature=signature(body)), until=b"more than")
    said_of_chunks = exchanged(at, head(Transfer_Encoding="chunked", Stripe_Signature=signature(body)), chunk)

    assert_refused(at.deliver(body), 413, "more than 20000 bytes")
    assert (said[:13], said_of_chunks[:13]) == (b"HTTP/1.1 413 ",) * 2
    assert "evt_long" not in stored(inbox)


def test_a_body_is_not_unpacked_for_the_signature_is_of_the_bytes_that_came(at: Endpoint) -> None:
    packed = gzip.compress(encoded(event("evt_packed")))

    answer = at.request("POST", PATH, packed, Stripe_Signature=signature(packed), Content_Encoding="gzip")

    assert_refused(answer, 400, "not UTF-8")


def test_a_body_that_takes_too_long_is_refused(inbox_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.webhook.BODY_SECONDS", 0.2)
    monkeypatch.setattr("runner.webhook.LINGER_SECONDS", 0.2)
    body = encoded(event("evt_slow"))

    with endpoint_here(inbox_dsn) as slow:
        said = exchanged(slow, head(Content_Length=len(body), Stripe_Signature=signature(body)), body[:-1])

    assert said.startswith(b"HTTP/1.1 408 ")


def test_a_sender_that_hangs_up_in_the_middle_harms_nobody(at: Endpoint, inbox: Database) -> None:
    body = encoded(event("evt_cut"))
    for part in (head(Content_Length=len(body)) + body[:50], head()[:30], b"\x16\x03\x01\x02", b""):
        with socket.create_connection(("127.0.0.1", at.port), timeout=20) as raw:
            raw.sendall(part)

    assert at.deliver_event("evt_after_the_cut").result == "ignored"
    assert "evt_cut" not in stored(inbox)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_events_come_by_post_and_no_other_way(at: Endpoint, method: str) -> None:
    answer = at.request(method, PATH)

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_elsewhere_there_is_nothing(at: Endpoint) -> None:
    body = encoded(event("evt_elsewhere"))

    for path in ("/", "/stripe", f"{PATH}/", f"{PATH}/evt_1"):
        assert at.request("POST", path, body, Stripe_Signature=signature(body)).status == 404


def test_of_hundreds_of_deliveries_good_bad_and_forged_exactly_the_good_are_in_the_database(
    at: Endpoint, inbox: Database
) -> None:
    before = stored(inbox)

    outcome = deliver_all(at.port, 600, seed=1, secret=SECRET)

    assert outcome.surprises == []
    assert {kind for kind, count in outcome.kinds.items() if count >= 10} == set(KINDS)
    assert sorted(set(stored(inbox)) - set(before)) == outcome.good
    assert len(stored(inbox)) == len(before) + len(outcome.good)


# Not before it is committed, and whatever the database does.


def delivering(pool: ThreadPoolExecutor, at: Endpoint, event_id: str) -> "Future[Answer]":
    return pool.submit(at.deliver_event, event_id)


def test_nothing_is_said_while_the_transaction_is_open(at: Endpoint, inbox: Database, inbox_dsn: str) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool, gate(inbox, inbox_dsn) as holder:
        answer = delivering(pool, at, "evt_waits")
        wait_at_gate(inbox, 1)
        assert not answer.done()

        open_gate(holder)

        assert answer.result(20).result == "acted"


def test_a_commit_that_fails_is_not_taken_for_one(at: Endpoint, inbox: Database) -> None:
    inbox.execute("create table once (id integer unique deferrable initially deferred)")
    fails_at_commit = f"insert into public.once values (1), (1); {comes_to('acted')}"

    with inbox_that_runs(inbox, fails_at_commit):
        assert_refused(at.deliver_event("evt_fails"), 500, "SQLSTATE 23505")


def test_a_backend_that_is_killed_in_the_middle_means_come_again(at: Endpoint, inbox: Database, inbox_dsn: str) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool, gate(inbox, inbox_dsn):
        answer = delivering(pool, at, "evt_killed")
        wait_at_gate(inbox, 1)
        rows(
            inbox,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'seller-transfers webhook' and wait_event_type = 'Lock'",
        )
        assert_refused(answer.result(20), 503, "cannot take it now")

    assert at.deliver_event("evt_killed").result == "ignored"


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        *[(sqlstate, 503) for sqlstate in ("40P01", "40001", "53300", "55P03", "57P01", "25006")],
        *[(sqlstate, 400) for sqlstate in ("22023", "22P02")],
        *[(sqlstate, 500) for sqlstate in ("P0001", "42501", "XX000")],
    ],
)
def test_what_may_pass_means_come_again_and_what_will_not_is_said(
    at: Endpoint, inbox: Database, sqlstate: str, status: int
) -> None:
    quotes = f"raise exception 'no: %', p_event ->> 'id' using errcode = '{sqlstate}';"

    with inbox_that_runs(inbox, quotes):
        answer = at.deliver_event("evt_quoted")

    assert_refused(answer, status)
    assert "evt_quoted" not in answer.text


def test_events_that_are_in_each_others_way_are_tried_again_at_once(at: Endpoint, inbox: Database) -> None:
    # A sequence counts on when a transaction is rolled back.
    inbox.execute("create sequence tries")
    fails_twice = f"""
        if nextval('public.tries') < 3 then
          raise exception using errcode = '40P01';
        end if;
        {comes_to("acted")}
    """

    with inbox_that_runs(inbox, fails_twice):
        assert at.deliver_event("evt_conflicts").result == "acted"


def test_a_statement_that_takes_too_long_is_stopped_and_means_come_again(
    inbox: Database, inbox_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.inbox.STATEMENT_SECONDS", 0.3)

    with endpoint_here(inbox_dsn) as hasty, gate(inbox, inbox_dsn):
        assert_refused(hasty.deliver_event("evt_hasty"), 503)
        wait_at_gate(inbox, 0)


def test_a_database_that_is_away_means_come_again_and_is_waited_for(
    db: Database, dsn: str, connect: Connect, server_address: ServerAddress, tmp_path: Path
) -> None:
    (name,) = rows(db, "select current_database() as name")[0].values()

    with endpoint(dsn, tmp_path) as at, closing(open_database(server_address.dsn("postgres"))) as maintenance:
        assert at.request("GET", "/healthz").status == 200
        maintenance.execute(f"alter database {name} allow_connections false".encode())
        rows(maintenance, "select pg_terminate_backend(pid) from pg_stat_activity where datname = %(name)s", name=name)
        assert_refused(at.deliver_event("evt_away"), 503)
        assert at.request("GET", "/healthz").status == 503
        assert at.request("HEAD", "/healthz").status == 503

        maintenance.execute(f"alter database {name} allow_connections true".encode())
        assert at.deliver_event("evt_away").result == "ignored"
        assert at.request("GET", "/healthz").status == 200


# More than it can take.


def test_with_no_connection_free_in_time_the_answer_is_come_again(
    inbox: Database, inbox_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.inbox.WAIT_SECONDS", 0.2)

    with (
        endpoint_here(inbox_dsn, webhook_connections=2) as small,
        ThreadPoolExecutor(max_workers=2) as pool,
        gate(inbox, inbox_dsn) as holder,
    ):
        first = [delivering(pool, small, f"evt_first_{n}") for n in range(2)]
        wait_at_gate(inbox, 2)

        assert_refused(small.deliver_event("evt_third"), 503)
        assert waiting(inbox) == 2

        open_gate(holder)
        assert [answer.result(20).result for answer in first] == ["acted", "acted"]


def test_no_more_than_so_many_wait_for_a_connection(
    inbox: Database, inbox_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.inbox._WAITING_PER_CONNECTION", 16)
    monkeypatch.setattr("runner.inbox.WAIT_SECONDS", 30.0)
    monkeypatch.setattr("runner.inbox.STATEMENT_SECONDS", 30.0)

    with (
        endpoint_here(inbox_dsn, webhook_connections=1) as small,
        ThreadPoolExecutor(max_workers=20) as pool,
        gate(inbox, inbox_dsn) as holder,
    ):
        # One has the connection, sixteen wait for it, and there is no place for three.
        answers = [delivering(pool, small, f"evt_crowd_{n}") for n in range(20)]
        wait_until(lambda: sum(answer.done() for answer in answers) == 3, "three are turned away")
        open_gate(holder)

        statuses = sorted(answer.result(20).status for answer in answers)
    assert statuses == [200] * 17 + [503] * 3


# Stopping.


def test_sigterm_lets_what_is_in_flight_finish_and_takes_no_more(
    inbox: Database, inbox_dsn: str, tmp_path: Path
) -> None:
    with (
        endpoint(inbox_dsn, tmp_path) as at,
        ThreadPoolExecutor(max_workers=1) as pool,
        gate(inbox, inbox_dsn) as holder,
        closing(at.connection()) as idle,
    ):
        idle.request("GET", "/healthz")
        assert idle.getresponse().read() == b"ok\n"
        answer = delivering(pool, at, "evt_last")
        wait_at_gate(inbox, 1)

        at.runner.send(signal.SIGTERM)
        at.runner.wait_for("stopping: finishing deliveries in flight")
        wait_until(lambda: not listens(at), "it does not listen any more")
        assert not answer.done()
        open_gate(holder)

        assert answer.result(20).result == "acted"
        assert at.runner.exit_code() == 0
        assert at.runner.log()[-1]["event"] == "stopped"


def listens(at: Endpoint) -> bool:
    try:
        socket.create_connection(("127.0.0.1", at.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_second_signal_ends_it_at_once(inbox: Database, inbox_dsn: str, tmp_path: Path) -> None:
    with (
        endpoint(inbox_dsn, tmp_path) as at,
        ThreadPoolExecutor(max_workers=1) as pool,
        gate(inbox, inbox_dsn),
    ):
        answer = delivering(pool, at, "evt_lost")
        wait_at_gate(inbox, 1)
        at.runner.send(signal.SIGTERM)
        at.runner.wait_for("stopping: finishing deliveries in flight")
        at.runner.send(signal.SIGINT)

        assert at.runner.exit_code() == 128 + signal.SIGINT
        assert isinstance(answer.exception(20), ConnectionError)


# What it says.


def test_every_delivery_is_one_line_without_its_content_its_signature_or_a_secret(
    at: EndpointProcess, inbox: Database
) -> None:
    before = len(at.runner.log())
    body = encoded(event("evt_logged", data={"object": {"note": "cus_private"}}))
    header = signature(body)

    at.deliver(body, header)
    at.deliver(body + b" ", header)
    with inbox_that_runs(inbox, "raise exception 'cus_private' using errcode = '22023';"):
        at.deliver(body)

    wait_until(lambda: len(at.runner.log()) == before + 3, "three lines")
    taken, forged, bad = at.runner.log()[before:]
    assert (taken["event"], taken["event_id"], taken["type"], taken["result"]) == (
        "delivery",
        "evt_logged",
        "customer.created",
        "ignored",
    )
    assert (forged["event"], forged["status"], bad["status"]) == ("delivery refused", 400, 400)
    assert {type(line["ms"]) for line in (taken, forged, bad)} == {int}
    said = at.runner.log_file.read_text()
    for private in ("cus_private", header[-64:], SECRET, NEXT_SECRET):
        assert private not in said
    assert not re.search(r"[0-9a-f]{64}", said)
    assert "Traceback" not in said


def test_what_is_no_delivery_is_logged_with_where_it_went_for_the_url_at_stripe_may_be_wrong(
    at: EndpointProcess, inbox: Database
) -> None:
    before = len(at.runner.log())
    body = encoded(event("evt_astray"))

    elsewhere = exchanged(
        at,
        b"POST /hooks/wrong%1b?token=private HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        + f"Stripe-Signature: {signature(body)}\r\nContent-Length: {len(body)}\r\n\r\n".encode(),
        body,
    )
    by_get = exchanged(at, f"GET {PATH} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())

    assert elsewhere.startswith(b"HTTP/1.1 404 ")
    assert b"the path of --path" in elsewhere
    assert by_get.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST\r\n" in by_get
    wait_until(lambda: len(at.runner.log()) == before + 2, "two lines")
    astray, got = at.runner.log()[before:]
    assert (astray["event"], astray["status"], astray["method"]) == ("delivery refused", 404, "POST")
    assert astray["path"].startswith("/hooks/wrong")
    assert (got["status"], got["method"], got["path"]) == (405, "GET", PATH)
    said = at.runner.log_file.read_text()
    assert not [word for word in ("private", "\x1b", "\\u001b") if word in said]
    assert stored(inbox).count("evt_astray") == 0


def test_a_kept_event_is_logged_as_a_warning_with_where_to_look(at: EndpointProcess, inbox: Database) -> None:
    before = len(at.runner.log())

    with inbox_that_runs(inbox, comes_to("kept", "'cus_private stands in the way'")):
        at.deliver_event("evt_waits")

    wait_until(lambda: len(at.runner.log()) == before + 1, "one line")
    (line,) = at.runner.log()[before:]
    assert (line["level"], line["result"], line["see"]) == ("warning", "kept", "marketplace.kept_events")
    assert "cus_private" not in str(line)


async def test_a_kept_event_is_read_with_what_stands_in_its_way(db: Database, dsn: str) -> None:
    database = runner.database.Database(dsn, "test")
    kept = event("evt_kept", event_type="refund.updated", data={"object": {"id": "re_1", "object": "refund"}})
    try:
        ingested = await database.ingest_stripe_event(kept, None)
        found = await database.read_kept_events()
    finally:
        await database.close()
    assert [each.event_id for each in found] == (["evt_kept"] if ingested.result == "kept" else [])


def test_kept_events_are_tried_again_from_the_start_on(db: Database, dsn: str, tmp_path: Path) -> None:
    db.execute(
        """
        create or replace function marketplace.retry_events(p_limit integer default 100)
        returns setof marketplace.ingested_event language sql as $$
          select 'evt_' || n, 'refund.updated', case when n <= 3 then 'acted' else 'kept' end, null::text
          from generate_series(1, least(p_limit, 5)) as n
        $$
        """
    )

    with endpoint(dsn, tmp_path) as at:
        at.runner.wait_for("kept events tried again")
        (tried,) = at.runner.log("kept events tried again")
        at.runner.send(signal.SIGTERM)
        assert at.runner.exit_code() == 0

    assert (tried["acted"], tried["kept"]) == (3, 2)
