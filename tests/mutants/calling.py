"""Bugs in the runner: how a request is made, and what is reported of it."""

from tests.mutants.mutant import mutant

_GATEWAY = "runner/gateway.py"
_CALLS = "runner/calls.py"
_HTTP = "runner/stripe_http.py"
_LOOK_UP = "runner/look_up.py"
_OUTCOME = "runner/outcome.py"
_CLEAN = "runner/clean.py"
_CLOCK = "runner/clock.py"

MUTANTS = (
    mutant(
        "amount-not-sent",
        "Without an amount Stripe takes back all that is left of the transfer.",
        "test_gateway.py",
        (_GATEWAY, '{"amount": amount, "metadata"', '{"metadata"'),
    ),
    mutant(
        "metadata-not-sent",
        "The reversal does not say whose it is: a look-up cannot find it and makes another.",
        "test_gateway.py",
        (_GATEWAY, '"metadata": dict(metadata)}', '"metadata": {}}'),
    ),
    mutant(
        "sdk-makes-the-key",
        "The SDK makes a key of its own for every request: one repeated moves the money twice.",
        "test_gateway.py",
        (_GATEWAY, '}, {"idempotency_key": idempotency_key}', "}, {}"),
    ),
    mutant(
        "redirect-followed",
        "A redirect sends the request, and the key of the account, to somebody else.",
        "test_gateway.py",
        (_HTTP, "allow_redirects=False", "allow_redirects=True"),
    ),
    mutant(
        "short-lease-used",
        "A request is begun that may outlive its lease: another worker makes it at the same time.",
        "test_gateway.py",
        (_HTTP, "        self.check_lease()\n        self.sent = True", "        self.sent = True"),
    ),
    mutant(
        "no-last-look-at-the-lease",
        "A machine that slept while connecting sends a request that is another worker's by now.",
        "test_gateway.py",
        (_HTTP, "        self.check_lease()\n        self.written = True", "        self.written = True"),
    ),
    mutant(
        "lost-answer-is-not-sent",
        "No answer came, and the runner says that nothing was sent: it is sent again without a look.",
        "test_gateway.py",
        (
            _HTTP,
            "        except Exception as error:\n            raise NoAnswer",
            "        except Exception as error:\n            exchange.sent = False\n            raise NoAnswer",
        ),
    ),
    mutant(
        "stopped-call-is-not-sent",
        "A runner told to stop says of a request on its way that it was not sent.",
        "test_gateway.py",
        (
            _CALLS,
            "trouble = _STOPPED\n        made: StripeObject",
            "return not_sent(call, _STOPPED)\n        made: StripeObject",
        ),
    ),
    mutant(
        "look-up-of-one-page",
        "Our reversal is on the second page of a list of which only the first is read: it is made again.",
        "test_gateway_look_up.py",
        (_LOOK_UP, "if not has_more:", "if True:"),
    ),
    mutant(
        "transfer-read-before-its-list",
        "A reversal made during the look is on no page, and nothing in the transfer tells: it is made again.",
        "test_gateway_look_up.py",
        (
            _LOOK_UP,
            "found = await self._all_pages(page, partial(_read_reversal_of, transfer_id))\n"
            "            return _read_this_transfer(transfer_id, await self._get(transfer)), found",
            "seen = _read_this_transfer(transfer_id, await self._get(transfer))\n"
            "            return seen, await self._all_pages(page, partial(_read_reversal_of, transfer_id))",
        ),
    ),
    mutant(
        "list-of-another-transfer",
        "Reversals of another transfer are taken for a list of this one.",
        "test_gateway_look_up.py",
        (_LOOK_UP, "if reversal.transfer != transfer_id:", "if False:"),
    ),
    mutant(
        "page-that-comes-again-counts",
        "A page is read twice and the next one never, and nobody notices; our reversal may be on it.",
        "test_gateway_look_up.py",
        (_LOOK_UP, "if element.id in found:", "if False:"),
    ),
    mutant(
        "any-json-is-stripes-error",
        "The error page of some proxy passes for Stripe's refusal.",
        "test_gateway.py",
        (
            _HTTP,
            'return isinstance(error, dict) and isinstance(error.get("type"), str)',
            "return isinstance(error, dict)",
        ),
    ),
    mutant(
        "replay-not-reported",
        "That an error was stored under the key is not known, and the key is sent for ever.",
        "test_gateway.py",
        (_HTTP, 'headers.get("Idempotent-Replayed", "").lower() == "true"', "False"),
    ),
    mutant(
        "any-object-is-a-reversal",
        "An answer that is no reversal is reported as one.",
        "test_gateway.py",
        (_OUTCOME, 'if answer.get("object") != "transfer_reversal":', "if False:"),
    ),
    mutant(
        "nul-reaches-postgresql",
        "PostgreSQL refuses a report with a NUL in Stripe's words: what happened to the money is lost.",
        "test_clean.py",
        (_CLEAN, r'_HOSTILE = re.compile(r"[\x00-\x1f', r'_HOSTILE = re.compile(r"[\x01-\x1f'),
    ),
    mutant(
        "clock-sleeps-with-the-machine",
        "After a sleep the runner takes its lease for live and sends what another worker has sent.",
        "test_clock.py",
        (_CLOCK, '"CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)', '"CLOCK_MONOTONIC", time.CLOCK_MONOTONIC)'),
    ),
)
