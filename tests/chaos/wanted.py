"""What each seller is to have in the end, by what the app asked and took back and what buyers got; kept by hand."""

from collections.abc import Iterator

from tests.chaos.app import Book
from tests.chaos.calls import Bill, Payout
from tests.support.databases import Database, value

_QUANTA = {"kwd": 10}  # Stripe wants the last digit to be 0


def what_is_wanted(db: Database, book: Book) -> Iterator[tuple[str, int, int]]:
    """Give for each transfer_key the least and the most that its seller is to have."""
    for key, payout in book.recorded.items():
        if payout.kind not in ("paid", "sent"):
            continue
        bill = book.bills.get(payout.order)
        if bill is None:
            left = payout.amount - _asked(db, book, payout)
            yield key, left, left
        else:
            # A rounding for each refund is not made good; nor is, the other way, one for each that the app spared its
            # sellers: they get back what was taken for it, and not what would have been for the others without it.
            causes = {its_id for its_id, cause in book.causes.items() if cause.order == payout.order}
            quantum = _QUANTA.get(payout.currency, 1)
            left = payout.amount - _share(book, payout, bill)
            spared = quantum * len(causes & book.withdrawn)
            yield key, max(0, left - quantum * len(causes)), min(payout.amount, left + spared)


def _asked(db: Database, book: Book, payout: Payout) -> int:
    """How much of it the requests that stand want back."""
    standing = [ask for ask in book.asked.values() if ask.order == payout.order and ask.request not in book.withdrawn]
    if any(ask.is_whole for ask in standing):
        return payout.amount
    parts = sum(amount for ask in standing for key, amount in ask.allocation or () if key == payout.key)
    # Which transfers an amount was spread over, the lines say; that they add up to it is a rule.
    lines = """
      select coalesce(sum(l.asked), 0)::bigint as asked from marketplace.reversal_request_lines as l
      where l.transfer_key = %(key)s and l.reversal_request_id = any (%(requests)s)"""
    amounts = [ask.request for ask in standing if ask.amount is not None]
    return parts + int(value(db, lines, key=payout.key, requests=amounts))


def _share(book: Book, payout: Payout, bill: Bill) -> int:
    gone = sum(
        cause.amount - cause.came_back
        for its_id, cause in book.causes.items()
        if cause.order == payout.order and cause.stands and its_id not in book.withdrawn
    )
    if gone >= bill.amount:
        return payout.amount
    quantum = _QUANTA.get(payout.currency, 1)
    return quantum * ((2 * payout.amount * gone + bill.amount * quantum) // (2 * bill.amount * quantum))
