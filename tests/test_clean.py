"""Texts from outside: what may stay, what is marked, what is masked."""

import json
import time
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.clean import clean_json, clean_text, redact, remember_secret, safe_text

# A busy machine is not a reason to fail.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Any code point, surrogates and controls among them, and the beginnings that escape sequences are made of.
hostile_text = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=())),
        st.sampled_from(
            ["\x1b[31m", "\x1b]0;t\x07", "\x1b]", "\x9b2J", "\x9d", "\x1b", "\x00", "\ud83d", "\r\n", "\x1bPq"]
        ),
    ),
    max_size=12,
).map("".join)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_text, inner, max_size=4),
    max_leaves=12,
)


@patient
@given(hostile_text, st.integers(min_value=1, max_value=40))
def test_cleaned_text_can_be_stored_and_shown_and_fits(value: str, limit: int) -> None:
    cleaned = clean_text(value, limit)

    assert len(cleaned) <= limit
    cleaned.encode()  # no lone surrogate
    assert not [character for character in cleaned if unicodedata.category(character) in ("Cc", "Cs")]
    assert "\\u0000" not in json.dumps(cleaned)


@patient
@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=50))
def test_harmless_text_stays_as_it_is(value: str) -> None:
    assert clean_text(value, 50) == value


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("No such transfer: 'tr_1'", "No such transfer: 'tr_1'"),
        ("Überweisung 振替 🙂", "Überweisung 振替 🙂"),
        ("a\x00b", "a�b"),
        ("a\ud800b", "a�b"),
        ("red \x1b[31;1mtext\x1b[0m", "red �text�"),
        ("\x9b2Jwiped", "�wiped"),
        ("\x1b]0;a title\x07shown", "�shown"),
        ("\x1b]8;;http://x\x1b\\link", "�link"),
        ("\x1b]52;never ends", "�52;never ends"),
        ("one\r\ntwo\tthree", "one two three"),
        ("pay \u202e100\u202c", "pay �100�"),
        ("", ""),
    ],
)
def test_what_is_taken_out_leaves_a_mark(value: str, cleaned: str) -> None:
    assert clean_text(value, 100) == cleaned


@pytest.mark.parametrize(
    ("value", "limit", "cut"),
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("abcdef", 1, "…"), ("\x1b[1m" * 30 + "end", 5, "����…")],
)
def test_a_cut_shows(value: str, limit: int, cut: str) -> None:
    assert clean_text(value, limit) == cut


@pytest.mark.parametrize(
    "piece", ["x", "\x1b", "\x1b]", "\x9d", "\x1b[1;1;1;", "://a:", "password=", "sk_live_", "\x00"]
)
def test_ten_megabytes_are_cleaned_in_a_moment(piece: str) -> None:
    value = piece * (10_000_000 // len(piece))
    # Of this process, whatever else the machine does; what looks back at every piece would take hours.
    began = time.process_time()

    assert len(safe_text(value, 1000)) <= 1000
    redact(value)

    assert time.process_time() - began < 30


@patient
@given(json_values)
def test_cleaned_json_is_json_that_postgresql_takes(value: object) -> None:
    text = json.dumps(clean_json(value), allow_nan=False)

    assert "\\u0000" not in text
    json.loads(text)
    clean_again = json.dumps(clean_json(json.loads(text)))
    assert clean_again == text


def test_json_is_bounded_in_size_and_depth() -> None:
    assert clean_json([1, 2, 3], item_limit=2) == [1, 2]
    assert clean_json({"a": 1, "b": 2}, item_limit=1) == {"a": 1}
    assert clean_json({"key": "value"}, text_limit=3) == {"key": "va…"}
    assert clean_json([[["deep"]]], depth_limit=2) == [["…"]]


def test_what_json_cannot_hold_becomes_text() -> None:
    assert clean_json([True, 2**63, 10**5000, float("inf"), 1.5, {1: None}]) == [
        True,
        "(a number out of range)",
        "(a number out of range)",
        "inf",
        1.5,
        {"1": None},
    ]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk_live_51Habc_DEF, rk_test_x.", "key sk_live_***, rk_test_***."),
        ("pk_live_abc sk_org_live_abc", "pk_live_*** sk_org_***"),
        ("whsec_abc+/=", "whsec_***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic YTpi'}", "{'authorization': 'Basic ***'}"),
        ("postgresql://app:s3cret@db:5432/shop", "postgresql://app:***@db:5432/shop"),
        ("postgresql://app:p@ss/w:rd@db/shop", "postgresql://app:***@db/shop"),
        (
            "postgresql://db/shop?user=a&password=s3cret&sslmode=require",
            "postgresql://db/shop?user=a&password=***&sslmode=require",
        ),
        ("host=db password=s3cret user=app", "host=db password=*** user=app"),
        (r"password = 'it\'s secret' user=app", "password = *** user=app"),
        ("PGPASSWORD=s3cret", "PGPASSWORD=***"),
    ],
)
def test_secrets_are_masked(text: str, masked: str) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "connection to 127.0.0.1:5432 failed for user app@shop",
        "http://127.0.0.1:4242/v1/transfers",
        "task_test_runner, mask_live_data",
        "password authentication failed for user app",
        "No such transfer: 'tr_1PgafTB7WZ01zgkW'; a similar object exists in live mode",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


SECRET = "Tr0ub4dor&3/correct+horse"


@pytest.fixture
def _remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.clean._known_parts", set())
    remember_secret(SECRET)


@pytest.mark.usefixtures("_remembered")
@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"it is {SECRET}!", "it is ***!"),
        (f"{SECRET}{SECRET} twice", "****** twice"),
        (f"{SECRET}, {SECRET}", "***, ***"),
        ("…b4dor&3/corre…", "…***…"),  # twelve characters of it
        ("…4dor&3/corr…", "…4dor&3/corr…"),
        ("Tr0ub4dor%263%2Fcorrect%2Bhorse", "***"),
        ("VHIwdWI0ZG9yJjMvY29ycmVjdCtob3JzZQ==", "***Q=="),
        ("YTpUcjB1YjRkb3ImMy9jb3JyZWN0K2hvcnNlOmI=", "YTp***OmI="),
        ("OlRyMHViNGRvciYzL2NvcnJlY3QraG9yc2U6", "Ol***U6"),
        ("another text of no less than twelve characters", "another text of no less than twelve characters"),
        ("", ""),
    ],
)
def test_a_remembered_secret_is_masked_in_any_spelling(text: str, masked: str) -> None:
    assert clean_text(text, 100) == masked
    assert safe_text(text, 100) == masked


@pytest.mark.usefixtures("_remembered")
def test_a_short_secret_is_not_remembered_for_it_may_be_a_word() -> None:
    remember_secret("postgres")

    assert clean_text("role postgres, database postgres", 100) == "role postgres, database postgres"


def test_a_long_message_is_masked_before_it_is_cut() -> None:
    assert safe_text("sk_live_" + "a" * 100, 14) == "sk_live_***…"
    assert safe_text("password=" + "a" * 30, 20) == "password=***"
