"""db/functions/display.sql: amounts as people write them, and texts that fit."""

import pytest

from tests.support.databases import Database, value

pytest_plugins = ("tests.support.rolled_back",)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1234, "usd", "12.34 USD"),
        (5, "usd", "0.05 USD"),
        (0, "eur", "0.00 EUR"),
        (-1234, "usd", "-12.34 USD"),
        (-5, "usd", "-0.05 USD"),
        (500, "jpy", "500 JPY"),
        (-500, "jpy", "-500 JPY"),
        (1234, "kwd", "1.234 KWD"),
        (10, "kwd", "0.010 KWD"),
        (999999999999, "usd", "9999999999.99 USD"),
        (None, "usd", None),
        (None, "jpy", None),
        (1, "xxx", None),
        (1, None, None),
    ],
)
def test_an_amount_is_shown_with_the_digits_of_its_currency(
    rolled_back_db: Database, amount: int | None, currency: str | None, shown: str | None
) -> None:
    query = "select marketplace.format_amount(%(amount)s::bigint, %(currency)s)"
    assert value(rolled_back_db, query, amount=amount, currency=currency) == shown


@pytest.mark.parametrize(
    ("text", "width", "limit", "shown"),
    [
        ("one two three", 7, 100, "one two\nthree"),
        ("one two three", 6, 100, "one\ntwo\nthree"),
        ("abcdefghij kl", 4, 100, "abcd\nefgh\nij\nkl"),
        ("a abcdefgh", 4, 100, "a\nabcd\nefgh"),
        ("abcd", 4, 4, "abcd"),
        ("abcde", 4, 4, "abc…"),
        ("", 4, 4, ""),
        (None, 4, 4, ""),
    ],
)
def test_a_text_is_broken_between_words_where_that_can_be(
    rolled_back_db: Database, text: str | None, width: int, limit: int, shown: str
) -> None:
    query = "select marketplace._wrapped(%(text)s::text, %(width)s, %(limit)s)"
    assert value(rolled_back_db, query, text=text, width=width, limit=limit) == shown
