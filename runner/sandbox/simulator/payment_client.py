"""The client's controls of what buyers pay, and of the webhooks that tell of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .connection import Connection
from .requestlog import LoggedDelivery


class PaymentControls(Connection):
    """Charges, refunds, disputes, endpoints and deliveries."""

    def create_charge(
        self,
        amount: int,
        currency: str,
        *,
        transfer_group: str | None = None,
        metadata: Mapping[str, str] | None = None,
        available: bool = False,
        livemode: bool = False,
    ) -> str:
        """Add a succeeded charge; gives its id. Its money stays pending, unless it is `available` at once."""
        answer = self.command(
            "POST",
            "charges",
            amount=amount,
            currency=currency,
            transfer_group=transfer_group,
            metadata=dict(metadata or {}),
            available=available,
            livemode=livemode,
        )
        return str(answer["id"])

    def refund(
        self,
        charge: str,
        amount: int | None = None,
        *,
        status: Literal["pending", "requires_action", "succeeded"] = "succeeded",
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Refund a charge in part or (null) all that is left of it, as in the Dashboard; gives the refund's id."""
        command = {"charge": charge, "amount": amount, "status": status, "reason": reason}
        return str(self.command("POST", "refunds", **command, metadata=dict(metadata or {}))["id"])

    def settle_refund(
        self,
        refund: str,
        status: Literal["pending", "requires_action", "succeeded", "failed", "canceled"],
        *,
        failure_reason: str | None = None,
    ) -> None:
        """Let a refund become `status`; one that succeeded can still become failed, and nothing else."""
        self.command("POST", "refunds/settle", refund=refund, status=status, failure_reason=failure_reason)

    def open_dispute(
        self, charge: str, amount: int | None = None, *, reason: str = "fraudulent", inquiry: bool = False
    ) -> str:
        """Have the buyer's bank dispute a charge (null: what is not refunded of it); gives the dispute's id."""
        command = {"charge": charge, "amount": amount, "reason": reason, "inquiry": inquiry}
        return str(self.command("POST", "disputes", **command)["id"])

    def withdraw_funds(self, dispute: str) -> None:
        """Let the bank take the disputed money."""
        self.command("POST", "disputes/withdraw", dispute=dispute)

    def reinstate_funds(self, dispute: str, amount: int | None = None) -> None:
        """Let the bank give it back, or so much of it."""
        self.command("POST", "disputes/reinstate", dispute=dispute, amount=amount)

    def close_dispute(self, dispute: str, status: Literal["won", "lost", "warning_closed"]) -> None:
        """End a dispute. That moves no money: see `withdraw_funds` and `reinstate_funds`."""
        self.command("POST", "disputes/close", dispute=dispute, status=status)

    def add_endpoint(self, url: str, secret: str | Sequence[str], **treatment: Any) -> str:
        """Have events posted to `url`, signed with one secret or with each of several; gives the endpoint's id.

        `treatment` has what `deliveries.Terms` lists: types, livemode, attempts, timeout_seconds, at_once, drop,
        duplicate, delay_seconds, reorder, seed.
        """
        secrets = [secret] if isinstance(secret, str) else list(secret)
        return str(self.command("POST", "endpoints", url=url, secrets=secrets, **treatment)["id"])

    def remove_endpoint(self, endpoint: str) -> None:
        """Have no further event posted there; what is under way goes on."""
        self.command("DELETE", "endpoints", id=endpoint)

    def deliveries(self, *, since: int = 0, event: str | None = None) -> list[LoggedDelivery]:
        """Give every attempt to deliver an event numbered above `since`, of one event or all."""
        entries = [LoggedDelivery(**entry) for entry in self.log("deliveries", since)]
        return [entry for entry in entries if event in (None, entry.event)]

    def wait_until_delivered(self, *, within_seconds: float = 10.0) -> None:
        """Wait until every delivery was taken or given up; raises TimeoutError."""
        self.wait_until(
            lambda: self.command("GET", "deliveries/under_way")["under_way"] == 0,
            "deliveries under way",
            within_seconds=within_seconds,
        )
