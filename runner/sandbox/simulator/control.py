# ruff: noqa: D102 - what a command does stands in its class in `commands`
"""The control plane, /_sandbox/: JSON in and out, no authentication (the server is on the loopback only).

A command is `METHOD /_sandbox/name` with the parameters that `commands` lists, in the query of a GET or
DELETE or the JSON body of a POST. It answers 200 with a JSON object. One that cannot be done is 400
`{"error": "why"}` and changes nothing.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web
from pydantic import ValidationError

from . import commands
from .deliveries import Terms
from .errors import StripeError
from .faults import read_rules
from .ledger import Cause
from .objects import PLATFORM
from .payments import Payments
from .wire import Json
from .world import World

if TYPE_CHECKING:
    from .app import Server


class Control:
    """Does the commands to whatever simulator the server has at the time."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._commands: dict[tuple[str, str], tuple[type[commands.Command], Callable[[Any], Json]]] = {
            ("GET", "health"): (commands.Nothing, self.health),
            ("POST", "reset"): (commands.Nothing, self.reset),
            ("POST", "accounts"): (commands.AddAccount, self.add_account),
            ("POST", "funds"): (commands.Fund, self.fund),
            ("GET", "balances"): (commands.Mode, self.balances),
            ("POST", "charges"): (commands.AddCharge, self.add_charge),
            ("POST", "refunds"): (commands.Refund, self.refund),
            ("POST", "refunds/settle"): (commands.SettleRefund, self.settle_refund),
            ("POST", "disputes"): (commands.OpenDispute, self.open_dispute),
            ("POST", "disputes/withdraw"): (commands.DisputeNamed, self.withdraw_funds),
            ("POST", "disputes/reinstate"): (commands.Reinstate, self.reinstate_funds),
            ("POST", "disputes/close"): (commands.CloseDispute, self.close_dispute),
            ("POST", "endpoints"): (commands.AddEndpoint, self.add_endpoint),
            ("DELETE", "endpoints"): (commands.RemoveEndpoint, self.remove_endpoint),
            ("GET", "deliveries"): (commands.Since, self.deliveries),
            ("GET", "deliveries/under_way"): (commands.Nothing, self.deliveries_under_way),
            ("GET", "sent_minus_reversed"): (commands.Mode, self.sent_minus_reversed),
            ("POST", "transfers"): (commands.AddTransfers, self.add_transfers),
            ("GET", "ledger"): (commands.Since, self.ledger),
            ("GET", "requests"): (commands.Since, self.requests),
            ("GET", "faults"): (commands.Nothing, self.faults),
            ("POST", "faults"): (commands.AddFaults, self.add_faults),
            ("DELETE", "faults"): (commands.ClearFaults, self.clear_faults),
            ("GET", "holds"): (commands.Nothing, self.holds),
            ("POST", "holds/release"): (commands.Release, self.release),
            ("GET", "late"): (commands.Nothing, self.late),
            ("POST", "late/run"): (commands.RunLate, self.run_late),
            ("POST", "keys"): (commands.SetKey, self.set_key),
            ("POST", "clock/advance"): (commands.Advance, self.advance),
            ("POST", "idempotency/forget"): (commands.Forget, self.forget),
            ("POST", "limits"): (commands.SetLimits, self.set_limits),
            ("POST", "reversals"): (commands.AddReversals, self.add_reversals),
            ("POST", "reversals/settle"): (commands.Settle, self.settle),
        }

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one command."""
        name = request.match_info["command"]
        if (request.method, name) not in self._commands:
            return web.json_response({"error": f"no such command: {request.method} {name}"}, status=404)
        parameters, act = self._commands[request.method, name]
        try:
            if request.method == "POST":
                command = parameters.model_validate_json(await request.read() or b"{}")
            else:
                command = parameters.model_validate(dict(request.query))
            return web.json_response(act(command))
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False, include_context=False)
            faulty = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in details)
            return web.json_response({"error": faulty}, status=400)
        except (ValueError, StripeError) as error:
            return web.json_response({"error": str(error)}, status=400)

    def _world(self, livemode: bool) -> World:
        return self._server.simulator.worlds[livemode]

    def health(self, _: commands.Nothing) -> Json:
        return {"status": "ok", "now": self._server.simulator.clock.now()}

    def reset(self, _: commands.Nothing) -> Json:
        self._server.reset()
        return {}

    def add_account(self, command: commands.AddAccount) -> Json:
        world = self._world(command.livemode)
        return {"id": world.add_account(command.id, command.country, command.default_currency).id}

    def fund(self, command: commands.Fund) -> Json:
        world = self._world(command.livemode)
        if command.account != PLATFORM and command.account not in world.accounts:
            raise ValueError(f"no such account: {command.account}")
        world.fund(command.account, command.amount, command.currency)
        return {"available": world.available(command.account, command.currency)}

    def balances(self, command: commands.Mode) -> Json:
        return {"balances": self._server.simulator.ledger.balances(command.livemode)}

    def add_charge(self, command: commands.AddCharge) -> Json:
        world = self._world(command.livemode)
        return {"id": world.payments.add_charge(**command.model_dump(exclude={"livemode"})).id}

    def refund(self, command: commands.Refund) -> Json:
        payments = self._payments("charges", command.charge)
        charge = payments.charges[command.charge]
        return {"id": payments.refund(charge, **command.model_dump(exclude={"charge"})).id}

    def settle_refund(self, command: commands.SettleRefund) -> Json:
        payments = self._payments("refunds", command.refund)
        payments.settle_refund(command.refund, command.status, command.failure_reason)
        return {}

    def open_dispute(self, command: commands.OpenDispute) -> Json:
        payments = self._payments("charges", command.charge)
        charge = payments.charges[command.charge]
        return {"id": payments.open_dispute(charge, **command.model_dump(exclude={"charge"})).id}

    def withdraw_funds(self, command: commands.DisputeNamed) -> Json:
        self._payments("disputes", command.dispute).withdraw_funds(command.dispute)
        return {}

    def reinstate_funds(self, command: commands.Reinstate) -> Json:
        self._payments("disputes", command.dispute).reinstate_funds(command.dispute, command.amount)
        return {}

    def close_dispute(self, command: commands.CloseDispute) -> Json:
        self._payments("disputes", command.dispute).close_dispute(command.dispute, command.status)
        return {}

    def _payments(self, kind: Literal["charges", "refunds", "disputes"], object_id: str) -> Payments:
        """Give the payments of the mode an object is of."""
        for world in self._server.simulator.worlds.values():
            if object_id in getattr(world.payments, kind):
                return world.payments
        raise ValueError(f"no such object among the {kind}: {object_id}")

    def add_endpoint(self, command: commands.AddEndpoint) -> Json:
        return {"id": self._server.simulator.deliveries.register(Terms(**command.model_dump()))}

    def remove_endpoint(self, command: commands.RemoveEndpoint) -> Json:
        self._server.simulator.deliveries.remove(command.id)
        return {}

    def deliveries(self, command: commands.Since) -> Json:
        return _page(self._server.simulator.deliveries.log, command)

    def deliveries_under_way(self, _: commands.Nothing) -> Json:
        return {"under_way": self._server.simulator.deliveries.under_way}

    def sent_minus_reversed(self, command: commands.Mode) -> Json:
        return {"accounts": self._server.simulator.ledger.sent_minus_reversed(command.livemode)}

    def add_transfers(self, command: commands.AddTransfers) -> Json:
        world = self._world(command.livemode)
        ids = []
        for new in command.transfers:
            if new.destination not in world.accounts:
                world.add_account(new.destination, "US", new.currency)
            world.fund(PLATFORM, new.amount, new.currency)
            ids.append(world.transfer(**new.model_dump()).id)
        return {"ids": ids}

    def ledger(self, command: commands.Since) -> Json:
        return _page(self._server.simulator.ledger.entries, command)

    def requests(self, command: commands.Since) -> Json:
        return _page(self._server.simulator.requests.entries, command)

    def faults(self, _: commands.Nothing) -> Json:
        rules = self._server.simulator.faults.rules.values()
        return {"rules": [rule.model_dump(mode="json") for rule in rules]}

    def add_faults(self, command: commands.AddFaults) -> Json:
        return {"ids": self._server.simulator.faults.add(read_rules(command.rules))}

    def clear_faults(self, command: commands.ClearFaults) -> Json:
        self._server.simulator.faults.clear(command.id)
        return {}

    def holds(self, _: commands.Nothing) -> Json:
        held = [
            {
                "name": each.name,
                "stage": each.stage,
                "request": each.call.seq,
                "path": each.call.path,
                "idempotency_key": each.call.idempotency_key,
            }
            for each in self._server.simulator.holds.standing
        ]
        return {"held": held}

    def release(self, command: commands.Release) -> Json:
        return {"released": self._server.simulator.holds.release(command.name, command.count)}

    def late(self, _: commands.Nothing) -> Json:
        return {"requests": sorted(self._server.simulator.late.waiting)}

    def run_late(self, command: commands.RunLate) -> Json:
        return {"ran": self._server.simulator.late.run(command.request)}

    def set_key(self, command: commands.SetKey) -> Json:
        simulator = self._server.simulator
        if command.livemode is not None or command.key not in simulator.keys:
            simulator.keys[command.key] = bool(command.livemode)
        (simulator.revoked.add if command.revoked else simulator.revoked.discard)(command.key)
        return {}

    def advance(self, command: commands.Advance) -> Json:
        self._server.simulator.clock.advance(command.seconds)
        return {"now": self._server.simulator.clock.now()}

    def forget(self, command: commands.Forget) -> Json:
        idempotency = self._server.simulator.idempotency
        return {"forgotten": idempotency.forget(command.key, command.older_than_seconds)}

    def set_limits(self, command: commands.SetLimits) -> Json:
        self._server.simulator.limiter.set(command.requests_per_second, command.burst)
        self._server.simulator.locks.enabled = command.lock_timeouts
        return {}

    def add_reversals(self, command: commands.AddReversals) -> Json:
        for world in self._server.simulator.worlds.values():
            if (transfer := world.transfers.get(command.transfer)) is not None:
                break
        else:
            raise ValueError(f"no such transfer: {command.transfer}")
        if sum(new.amount for new in command.reversals) > transfer.amount - transfer.amount_reversed:
            raise ValueError(f"{transfer.id} has less left than that")
        moved = sum(new.amount for new in command.reversals if not new.pending)
        if moved > world.available(transfer.destination, transfer.currency):
            raise ValueError(f"the balance of {transfer.destination} is too low")
        made = [world.reverse(transfer, **new.model_dump(), cause=Cause()) for new in command.reversals]
        return {"ids": [reversal.id for reversal in made]}

    def settle(self, command: commands.Settle) -> Json:
        for world in self._server.simulator.worlds.values():
            if (reversal := world.reversals.get(command.reversal)) is not None:
                world.settle(reversal, command.status)
                return {}
        raise ValueError(f"no such reversal: {command.reversal}")


def _page(entries: Sequence[Any], command: commands.Since) -> Json:
    # Sequence numbers count from 1 without gaps, so number n stands at n - 1.
    page = entries[command.since : command.since + command.limit]
    return {"entries": [dataclasses.asdict(entry) for entry in page], "last": len(entries)}
