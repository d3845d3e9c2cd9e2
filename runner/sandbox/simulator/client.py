"""A client for the simulator's controls, and for plain requests to its Stripe side. Standard library only.

Synchronous on purpose: it works in plain tests, beside an event loop and in threads (one connection per
call). Do not call it from the event loop the simulator itself runs in.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .calls import TEST_KEY
from .ledger import LedgerEntry
from .objects import PLATFORM
from .payment_client import PaymentControls
from .requestlog import LoggedRequest


class SimulatorClient(PaymentControls):
    """Drives one simulator. Every method raises ControlRefused for what the simulator would not do."""

    def health(self) -> dict[str, Any]:
        """Ask whether it runs; gives `now`, its clock in seconds since the epoch."""
        return self.command("GET", "health")

    def reset(self) -> None:
        """Start over: no objects, no money, no logs, no faults, the two default keys."""
        self.command("POST", "reset")

    # Objects and money.

    def create_account(self, account_id: str | None = None, *, currency: str = "usd", livemode: bool = False) -> str:
        """Add a connected account; gives its id."""
        answer = self.command("POST", "accounts", id=account_id, default_currency=currency, livemode=livemode)
        return str(answer["id"])

    def fund(self, amount: int, currency: str, *, account: str | None = None, livemode: bool = False) -> int:
        """Bring money in (negative: out) for an account or (null) the platform; gives what is then available."""
        target = {} if account is None else {"account": account}
        answer = self.command("POST", "funds", amount=amount, currency=currency, livemode=livemode, **target)
        return int(answer["available"])

    def balances(self, *, livemode: bool = False) -> dict[str, dict[str, int]]:
        """Give what each account holds by currency; also "outside", the world the money came from."""
        balances: dict[str, dict[str, int]] = self.command("GET", "balances", livemode=livemode)["balances"]
        return balances

    def set_platform_balance(self, amount: int, currency: str, *, livemode: bool = False) -> None:
        """Bring the platform's available balance to exactly `amount`, from outside or to there."""
        held = self.balances(livemode=livemode).get(PLATFORM, {}).get(currency, 0)
        self.fund(amount - held, currency, livemode=livemode)

    def sent_minus_reversed(self, *, livemode: bool = False) -> dict[str, dict[str, int]]:
        """Give what each destination got by transfers and reversals did not take back, by currency."""
        kept: dict[str, dict[str, int]] = self.command("GET", "sent_minus_reversed", livemode=livemode)["accounts"]
        return kept

    def create_transfers(self, transfers: Sequence[Mapping[str, Any]], *, livemode: bool = False) -> list[str]:
        """Make up to 10,000 transfers; gives their ids in the same order.

        Each is {destination, amount, currency} and optionally {transfer_group, metadata, description}. The
        money for them and accounts not seen before are brought along.
        """
        listed = [dict(each) for each in transfers]
        ids: list[str] = self.command("POST", "transfers", transfers=listed, livemode=livemode)["ids"]
        return ids

    def create_transfer(self, destination: str, amount: int, currency: str, *, livemode: bool = False) -> str:
        """Make one such transfer; gives its id."""
        new = {"destination": destination, "amount": amount, "currency": currency}
        return self.create_transfers([new], livemode=livemode)[0]

    def create_reversals(self, transfer: str, reversals: Sequence[Mapping[str, Any]]) -> list[str]:
        """Reverse a transfer up to 10,000 times, as somebody else would; gives the ids, oldest first.

        Each is {amount} and optionally {metadata, pending}.
        """
        listed = [dict(each) for each in reversals]
        ids: list[str] = self.command("POST", "reversals", transfer=transfer, reversals=listed)["ids"]
        return ids

    def settle_reversal(self, reversal: str, status: Literal["succeeded", "failed", "canceled"]) -> None:
        """End a pending reversal."""
        self.command("POST", "reversals/settle", reversal=reversal, status=status)

    # What happened.

    def ledger(self, *, since: int = 0, kind: str | None = None) -> list[LedgerEntry]:
        """Give every ledger entry numbered above `since`, of one kind or all."""
        entries = [LedgerEntry(**entry) for entry in self.log("ledger", since)]
        return [entry for entry in entries if kind in (None, entry.kind)]

    def requests(
        self,
        *,
        since: int = 0,
        method: str | None = None,
        path: str | None = None,
        idempotency_key: str | None = None,
    ) -> list[LoggedRequest]:
        """Give every request numbered above `since`; `path` is how the path ends, the others are equal."""
        entries = [LoggedRequest(**entry) for entry in self.log("requests", since)]
        return [
            entry
            for entry in entries
            if method in (None, entry.method)
            and entry.path.endswith(path or "")
            and idempotency_key in (None, entry.idempotency_key)
        ]

    # What goes wrong.

    def add_faults(self, rules: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add rules to the fault script (see `faults`); gives their ids."""
        ids: list[int] = self.command("POST", "faults", rules=[dict(rule) for rule in rules])["ids"]
        return ids

    def add_fault(
        self, action: str, *, match: Mapping[str, Any] | None = None, times: int | None = 1, **fields: Any
    ) -> int:
        """Add one rule, once to be applied unless `times` says otherwise (null: always); gives its id."""
        rule = {"action": action, "match": dict(match or {}), "times": times, **fields}
        return self.add_faults([rule])[0]

    def faults(self) -> list[dict[str, Any]]:
        """Give the rules in force, with how often each was `applied`."""
        rules: list[dict[str, Any]] = self.command("GET", "faults")["rules"]
        return rules

    def clear_faults(self, rule_id: int | None = None) -> None:
        """Take one rule, or all, out of force."""
        self.command("DELETE", "faults", **({} if rule_id is None else {"id": rule_id}))

    def held(self, name: str | None = None) -> list[dict[str, Any]]:
        """Give the requests that stand still: name, stage, request (its number), path, idempotency_key."""
        held: list[dict[str, Any]] = self.command("GET", "holds")["held"]
        return [each for each in held if name in (None, each["name"])]

    def wait_for_held(self, name: str, count: int = 1, *, within_seconds: float = 5.0) -> None:
        """Wait until `count` requests stand under `name`; raises TimeoutError."""
        self.wait_until(lambda: len(self.held(name)) >= count, f"{count} held as {name}", within_seconds=within_seconds)

    def release(self, name: str | None = None, count: int | None = None) -> int:
        """Let held requests go on: of one name or any, the first `count` or all; gives how many."""
        return int(self.command("POST", "holds/release", name=name, count=count)["released"])

    def late_requests(self) -> list[int]:
        """Give the numbers of the requests that were put off and have not arrived yet."""
        numbers: list[int] = self.command("GET", "late")["requests"]
        return numbers

    def run_late(self, request: int | None = None) -> int:
        """Let one of them, or all, arrive now; gives how many."""
        return int(self.command("POST", "late/run", request=request)["ran"])

    def set_key(self, key: str, *, livemode: bool | None = None, revoked: bool = False) -> None:
        """Make an API key known, or change its mode (null: as it is) or whether it is revoked."""
        self.command("POST", "keys", key=key, livemode=livemode, revoked=revoked)

    def revoke_key(self, key: str = TEST_KEY) -> None:
        """Have an API key refused with 401."""
        self.set_key(key, revoked=True)

    def restore_key(self, key: str = TEST_KEY) -> None:
        """Have it accepted again."""
        self.set_key(key)

    def advance_clock(self, seconds: float) -> None:
        """Let time pass at once: later objects are younger, idempotency keys over 24 h old are forgotten."""
        self.command("POST", "clock/advance", seconds=seconds)

    def forget_idempotency_keys(self, key: str | None = None, *, older_than_seconds: float = 0) -> int:
        """Forget one key, or all, as 24 hours would, if first used so long ago; gives how many."""
        command = {"key": key, "older_than_seconds": older_than_seconds}
        return int(self.command("POST", "idempotency/forget", **command)["forgotten"])

    def set_limits(self, requests_per_second: float | None, *, burst: int = 1, lock_timeouts: bool = True) -> None:
        """Limit the rate (null: do not); refuse parallel writes to one transfer, or let them be."""
        self.command(
            "POST",
            "limits",
            requests_per_second=requests_per_second,
            burst=burst,
            lock_timeouts=lock_timeouts,
        )
