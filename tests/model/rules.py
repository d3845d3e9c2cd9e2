"""What the database does about one reversal: the rules, each with a switch to leave it out.

The reversal takes back part of a transfer and enough is left of it, so Stripe would not refuse a second one.
Nothing here knows what is true at Stripe: a row, an answer and the clock are all there is to decide by.
Time is counted in ticks. A tick is about half a lease; only the order of the lengths matters.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Status = Literal["reversal_pending", "reversed", "permanently_failed", "parked"]
Action = Literal["reverse", "look_up_reversals"]
KeyAge = Literal["young", "old"]
Answer = Literal[
    # to a POST
    "succeeded",
    "accepted",  # 2xx with status `pending`
    "strange success",  # 2xx that is not the reversal asked for
    "refused",  # 400, 402, 403, 404
    "server error",
    "replayed server error",
    "throttled",  # 429, 401
    "key in use",  # 409
    "other parameters",  # 400 idempotency_error
    "no answer",
    "not sent",
    # to a look-up; the worst that can be seen of the identity's reversals
    "found",
    "found pending",
    "found failed",  # the one this generation made
    "found failed of another generation",
    "found nothing",
    "some pages only",
    "look-up refused",
]
Verdict = Literal[
    "reversed",
    "unknown",
    "spent",  # unknown, and the key can bring nothing but the error Stripe holds for it
    "refused",
    "failed",  # the reversal was made and failed later
    "absent",
    "conflict",
    "nothing new",
    "known",
]

LEASE = 1  # live in the tick of its claim and in the next, lapsed after that
TRAVEL = 1  # a request acts at Stripe in the tick of the runner's last check, in the next, or never
QUIET = LEASE + TRAVEL + 1  # the check comes up to a lease after the claim, and only then the journey starts
SILENCE = LEASE + 1  # after a failover, until no lease of the lost history can be live
LAPSED = LEASE + 1


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules hold; `replace(Rules(), name=False)` is the system without one of them."""

    # Claims and reports
    one_live_lease: bool = True  # two statements, so that a claim sees every committed lease
    lease_checked_before_send: bool = True  # by the worker, in its last line before the request is written
    lost_post_is_unknown: bool = True  # a POST whose lease lapsed may have moved money
    outcome_needs_the_rows_token: bool = True  # any other changes nothing
    parameters_are_written_once: bool = True  # when the generation is first claimed, and never recomputed

    # What an answer means
    unclear_answers_are_unknown: bool = True  # 5xx and silence are no refusal
    only_the_reversal_asked_for_is_success: bool = True  # not just any 2xx
    only_posts_are_definitive: bool = True  # a refused look-up changes nothing
    throttling_leaves_unknown_alone: bool = True  # 429 and 401 tell of this try, not of those before
    key_in_use_is_unknown: bool = True  # 409: some copy of the request is at work
    failed_reversal_is_no_success: bool = True
    failed_reversal_mints: bool = True  # its key would bring back the same reversal for ever
    failed_reversal_mints_once: bool = True  # only the generation that made it is replaced for it

    # Identity and look-ups
    identity_is_not_a_serial_id: bool = True  # serial ids come back, or do not, after a failover
    look_up_reads_every_page: bool = True
    absence_is_dated_by_the_claim: bool = True  # of the look-up, not by its report
    quiet_covers_the_lease: bool = True  # counted from the claim, it is longer than lease and journey together

    # Keys and generations
    same_key_while_young: bool = True  # an absence alone is no reason for another key
    only_young_keys_are_posted: bool = True  # younger than 20 hours; an older one is looked up
    age_counts_from_minting: bool = True  # not from the last POST
    absence_mints_only_after_quiet: bool = True
    young_key_outlives_quiet: bool = True  # nor is an absence dated late enough, while the key can still work
    old_key_is_replaced: bool = True
    unsent_key_is_renewed: bool = True  # and not replaced: a generation is spent on nothing but a POST
    absence_renews_only_after_quiet: bool = True
    replayed_error_ends_posts: bool = True  # look-ups only, until an absence after quiet mints

    # Looking first
    look_before_first_post: bool = True
    look_before_each_generation: bool = True
    look_after_unknown: bool = True
    failover_is_an_unknown_post: bool = True  # of every open row, made the moment the database took over
    failover_outlasts_answers: bool = True  # until quiet no answer makes known what the failover made unknown
    failover_is_followed_by_silence: bool = True  # no call while leases of the lost history may be live

    # Giving up
    leased_row_is_not_given_up: bool = True  # live or lapsed
    unknown_row_is_not_given_up: bool = True
    only_quiet_absence_is_knowledge: bool = True  # one dated earlier leaves the row unknown
    unseen_row_is_not_given_up: bool = True  # not looked up since it was born, minted or 20 hours old


class Lease(NamedTuple):
    """The right to make one call."""

    action: Action
    age: int
    after_quiet: bool  # claimed at least QUIET after the last POST was: the date of an absence it may find


class Row(NamedTuple):
    """What the database knows of the reversal."""

    status: Status
    identity: int  # changes only where it is made of a serial id
    generation: int
    key_age: KeyAge  # old: 20 hours or more since it was minted
    sent: bool  # the key of this generation was claimed for a POST
    replayed_error: bool  # Stripe holds a server error for this key
    unknown: bool  # a POST may have moved money, or may yet
    looked: bool  # an absence was seen since the last reason to look
    last_post: int  # ticks since the last claim of a POST, up to QUIET
    lease: Lease | None
    halted: bool = False  # it is wanted no more: look-ups only, until it is known what became of it


class Claim(NamedTuple):
    """What a worker is told to do."""

    action: Action
    identity: int
    generation: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Database:
    """The functions of the database, under the rules given and for so many generations."""

    rules: Rules
    generations: int

    def born(self, births: int, since_failover: int) -> Row:
        """The app asks for the reversal: for the first time, or again after a failover lost the row."""
        identity = 0 if self.rules.identity_is_not_a_serial_id else births
        row = Row("reversal_pending", identity, 1, "young", False, False, False, False, QUIET, None)
        if self.rules.failover_is_an_unknown_post and since_failover < QUIET:
            row = row._replace(unknown=True, last_post=since_failover)
        return row

    def claim(self, row: Row, since_failover: int) -> tuple[Row, Claim] | None:
        """Lease the row for its next call, if a call is due."""
        rules = self.rules
        if row.status != "reversal_pending":
            return None
        if rules.failover_is_followed_by_silence and since_failover < SILENCE:
            return None
        if row.lease and row.lease.age <= LEASE and rules.one_live_lease:
            return None
        if row.lease and row.lease.action == "reverse" and rules.lost_post_is_unknown:
            row = self._unknown(row)
        if self._must_look(row):
            lease = Lease("look_up_reversals", 0, after_quiet=row.last_post >= self._quiet())
            return row._replace(lease=lease), Claim("look_up_reversals", row.identity, row.generation, 0)
        parameters = 1 if row.sent and not rules.parameters_are_written_once else 0
        claim = Claim("reverse", row.identity, row.generation, parameters)
        return row._replace(sent=True, last_post=0, lease=Lease("reverse", 0, after_quiet=False)), claim

    def _must_look(self, row: Row) -> bool:
        rules = self.rules
        if row.halted or (row.replayed_error and rules.replayed_error_ends_posts):
            return True
        if self._key_is_old(row) and rules.only_young_keys_are_posted:
            return True
        if row.unknown and not row.looked:
            return rules.look_after_unknown
        if row.generation == 1 and not row.looked:
            return rules.look_before_first_post
        return not row.looked and rules.look_before_each_generation

    def _key_is_old(self, row: Row) -> bool:
        return row.key_age == "old" and (row.sent or self.rules.age_counts_from_minting)

    def verdict(self, action: Action, answer: Answer) -> Verdict:
        """What an answer means, whatever the row looks like by then."""
        return self._verdict_on_post(answer) if action == "reverse" else self._verdict_on_look_up(answer)

    def _verdict_on_post(self, answer: Answer) -> Verdict:
        rules = self.rules
        match answer:
            case "succeeded":
                return "reversed"
            case "strange success":
                return "unknown" if rules.only_the_reversal_asked_for_is_success else "reversed"
            case "accepted":
                return "unknown"
            case "refused":
                return "refused"
            case "server error" | "no answer":
                return "unknown" if rules.unclear_answers_are_unknown else "refused"
            case "replayed server error":
                return "spent" if rules.unclear_answers_are_unknown else "refused"
            case "throttled":
                return "nothing new" if rules.throttling_leaves_unknown_alone else "known"
            case "key in use":
                return "unknown" if rules.key_in_use_is_unknown else "nothing new"
            case "other parameters":
                return "conflict"
            case _:
                assert answer == "not sent", answer
                return "nothing new"

    def _verdict_on_look_up(self, answer: Answer) -> Verdict:
        rules = self.rules
        match answer:
            case "found":
                return "reversed"
            case "found pending":
                return "unknown"
            case "found failed":
                if not rules.failed_reversal_is_no_success:
                    return "reversed"
                return "failed" if rules.failed_reversal_mints else "absent"
            case "found failed of another generation":
                return "absent" if rules.failed_reversal_mints_once else "failed"
            case "found nothing":
                return "absent"
            case "some pages only":
                return "nothing new" if rules.look_up_reads_every_page else "absent"
            case "look-up refused":
                return "nothing new" if rules.only_posts_are_definitive else "refused"
            case _:
                assert answer in ("no answer", "not sent"), answer
                return "nothing new"

    def report(self, row: Row, verdict: Verdict, since_failover: int, *, owns: bool) -> Row:
        """A worker reports; `owns`: its lease token is still the row's."""
        rules = self.rules
        if row.status != "reversal_pending":
            return row
        if not owns and rules.outcome_needs_the_rows_token:
            return row
        after = self._settled(row._replace(lease=None), row.lease, verdict)
        if row.unknown and since_failover < QUIET and rules.failover_outlasts_answers:
            return after._replace(unknown=True)
        return after

    def _settled(self, row: Row, lease: Lease | None, verdict: Verdict) -> Row:
        match verdict:
            case "reversed":
                return row._replace(status="reversed")
            case "unknown":
                return self._unknown(row)
            case "spent":
                return self._unknown(row)._replace(replayed_error=True)
            case "refused":
                return self._refused(row)
            case "failed":
                return self._mint(row)
            case "absent":
                return self._absent(row, lease)
            case "conflict":
                return row._replace(status="parked")
            case "known":
                return row._replace(unknown=False)
            case "nothing new":
                return row

    def _absent(self, row: Row, lease: Lease | None) -> Row:
        """Nothing of ours at Stripe, as of the look-up's claim."""
        rules = self.rules
        if lease is None or lease.age > LEASE:
            return row  # void: who knows how long ago that was
        after_quiet = lease.after_quiet if rules.absence_is_dated_by_the_claim else row.last_post >= self._quiet()
        if after_quiet or not rules.only_quiet_absence_is_knowledge:
            row = row._replace(unknown=False)
        row = row._replace(looked=True)
        old = self._key_is_old(row)
        if old and not row.sent and rules.unsent_key_is_renewed:
            in_time = after_quiet or not rules.absence_renews_only_after_quiet
            return row._replace(key_age="young") if in_time else row
        if not old and not rules.same_key_while_young:
            return self._mint(row)._replace(looked=True)
        spent = (old and rules.old_key_is_replaced) or (row.replayed_error and rules.replayed_error_ends_posts)
        due = spent or (not old and not rules.young_key_outlives_quiet)
        if due and (after_quiet or not rules.absence_mints_only_after_quiet):
            return self._mint(row)._replace(looked=True)
        return row

    def _quiet(self) -> int:
        return QUIET if self.rules.quiet_covers_the_lease else QUIET - LEASE

    def _unknown(self, row: Row) -> Row:
        return row._replace(unknown=True, looked=False)

    def _refused(self, row: Row) -> Row:
        """A definitive answer: another try with a new key, while there are any."""
        if row.generation >= self.generations:
            return row._replace(status="permanently_failed", unknown=False)
        return self._mint(row)

    def _mint(self, row: Row) -> Row:
        return row._replace(
            generation=row.generation + 1,
            key_age="young",
            sent=False,
            replayed_error=False,
            unknown=False,
            looked=False,
        )

    def give_up(self, row: Row) -> Row | None:
        """A person gives the row up; None if that is refused."""
        rules = self.rules
        if row.status != "reversal_pending":
            return None
        if row.lease and rules.leased_row_is_not_given_up:
            return None
        if row.unknown and rules.unknown_row_is_not_given_up:
            return None
        if rules.unseen_row_is_not_given_up and (not row.looked or self._key_is_old(row)):
            return None
        return row._replace(status="permanently_failed")

    def promoted(self, row: Row) -> Row:
        """This database is not the one it was: it may have lost leases, POSTs and answers."""
        if row.status != "reversal_pending" or not self.rules.failover_is_an_unknown_post:
            return row
        return self._unknown(row)._replace(last_post=0, lease=None)
