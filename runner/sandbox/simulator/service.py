"""The way of a request: who asks, may it, what goes wrong, execution under its idempotency key, the answer.

    authenticate → rate limit → pick a fault ─┬─ answer in place of execution: error, redirect, garbage, nothing
                                              └─ find the endpoint → take the key → lock the object → (delay, hold)
                                                 → execute and store the answer, in one step → (delay, hold) → answer

Nothing waits but in the two places in brackets, so that no other request ever sees half of a change.
"""

import asyncio
import json
from dataclasses import replace

from . import endpoints, errors, faults
from .calls import LIVE_KEY, TEST_KEY, Call
from .deliveries import Deliveries
from .events import Events
from .idempotency import Answer, IdempotencyKeys, Scope
from .ledger import Clock, Ledger
from .limits import ObjectLocks, RateLimiter
from .objects import new_id
from .requestlog import LoggedRequest, RequestLog
from .scene import Scene
from .waiting import Holds, LateCalls
from .world import World


class Simulator:
    """One Stripe platform account with everything that belongs to it. Lives in one event loop."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock)
        self.requests = RequestLog()
        self.deliveries = Deliveries()
        self.worlds = {mode: self._world(livemode=mode) for mode in (False, True)}
        self.keys = {TEST_KEY: False, LIVE_KEY: True}
        self.revoked: set[str] = set()
        self.idempotency = IdempotencyKeys(self.clock)
        self.limiter = RateLimiter()
        self.locks = ObjectLocks()
        self.faults = faults.FaultScript()
        self.holds = Holds()
        self.late = LateCalls(self._arrive_late)
        self._late_tasks: set[asyncio.Task[object]] = set()

    def _world(self, *, livemode: bool) -> World:
        return World(
            self.ledger, Events(self.clock, livemode=livemode, announce=self.deliveries.post), livemode=livemode
        )

    def close(self) -> None:
        """Let no put-off request arrive any more, and deliver no event."""
        self.deliveries.close()
        self.late.cancel()
        for task in self._late_tasks:
            task.cancel()

    def log_call(self, call: Call, *, late_of: int | None = None) -> LoggedRequest:
        """Write down that a request arrived."""
        return self.requests.arrived(
            call.method,
            call.path,
            call.params,
            idempotency_key=call.idempotency_key,
            key_suffix=call.key_suffix,
            late_of=late_of,
        )

    async def answer(
        self, call: Call, entry: LoggedRequest, *, with_faults: bool = True
    ) -> tuple[Answer, faults.Fault | None]:
        """Take a request through to its answer; gives with it the fault, for the delivery may be its matter."""
        hold: faults.Hold | None = None
        fault: faults.Fault | None = None
        try:
            livemode = self._authenticate(call)
            self.limiter.admit()
            scope = (livemode, call.idempotency_key) if call.idempotency_key is not None else None
            if with_faults:
                replay = scope is not None and self.idempotency.has_answer(scope)
                hold, fault = self.faults.pick(call, will_be_replayed=replay)
            if (applied := fault or hold) is not None:
                entry.fault = applied.id
            if fault is not None and not fault.executes():
                await self._pause("before", call, hold)
                if isinstance(fault, faults.ExecuteLate):
                    self.late.add(call, fault.seconds)
                await self._pause("after", call, hold)
                return _substitute(fault), fault
            return await self._execute(call, livemode, scope, hold, fault, entry), fault
        except errors.StripeError as refusal:
            return refused(refusal), fault

    def _authenticate(self, call: Call) -> bool:
        """Whether the call's key is a live one. Raises StripeError (401) for a key that is no good."""
        if call.api_key is None:
            raise errors.no_api_key()
        if call.api_key in self.revoked:
            raise errors.expired_api_key(call.api_key)
        if call.api_key not in self.keys:
            raise errors.invalid_api_key(call.api_key)
        return self.keys[call.api_key]

    async def _execute(
        self,
        call: Call,
        livemode: bool,
        scope: Scope | None,
        hold: faults.Hold | None,
        fault: faults.Fault | None,
        entry: LoggedRequest,
    ) -> Answer:
        if isinstance(fault, faults.PendingReversal):
            call = replace(call, pending_reversal=True)
        if isinstance(fault, faults.BendList) and fault.from_start:
            call = call.from_start()
        run = endpoints.find(call)
        if scope is not None and (stored := self.idempotency.begin(scope, call.path, call.params)):
            entry.replayed = True
            return replace(stored, replayed=True)
        try:
            with self.locks.hold(livemode, call.transfer if call.method == "POST" else None):
                await self._pause("before", call, hold, fault)
                scene = Scene(self.worlds[livemode], self.worlds[not livemode])
                answer, executed = _commit(run, scene, call.request_id, fault)
                entry.executed = executed
                if scope is not None and executed:
                    self.idempotency.store(scope, answer)
                await self._pause("after", call, hold, fault)
        finally:
            if scope is not None:
                self.idempotency.finish(scope)
        return answer

    async def _pause(self, stage: str, call: Call, *applied: faults.Fault | None) -> None:
        for fault in applied:
            if isinstance(fault, faults.Delay) and fault.when == stage:
                await asyncio.sleep(fault.seconds)
            if isinstance(fault, faults.Hold) and fault.when == stage:
                await self.holds.wait(fault.name, stage, call, fault.seconds)

    def _arrive_late(self, call: Call) -> None:
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(self._answer_nobody(call))
        self._late_tasks.add(task)
        task.add_done_callback(self._late_tasks.discard)

    async def _answer_nobody(self, call: Call) -> None:
        entry = self.log_call(call, late_of=call.seq)
        answer, _ = await self.answer(call.numbered(entry.seq), entry, with_faults=False)
        entry.request_id = answer.request_id
        entry.finish(answer.status, "none")


def _commit(run: endpoints.Execution, scene: Scene, request_id: str, fault: faults.Fault | None) -> tuple[Answer, bool]:
    """Execute without waiting for anything; gives the answer and whether it is one to be stored."""
    try:
        if isinstance(fault, faults.Error):
            raise fault.substitute()
        body = run(scene)
    except errors.StripeError as refusal:
        return refused(refusal), refusal.executed
    if isinstance(fault, faults.BendList):
        fault.bend(body)
    if isinstance(fault, faults.ErrorAfter):
        return replace(refused(errors.server_error()), request_id=request_id), True
    return Answer(200, json.dumps(body).encode(), request_id, {}), True


def refused(error: errors.StripeError) -> Answer:
    """Give the answer that tells a refusal."""
    return Answer(error.status, json.dumps(error.body()).encode(), new_id("req"), error.headers)


def _substitute(fault: faults.Fault) -> Answer:
    substitute = fault.substitute()
    if isinstance(substitute, errors.StripeError):
        return refused(substitute)
    status, headers, body = substitute
    return Answer(status, body.encode(), new_id("req"), headers)
