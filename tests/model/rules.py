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

LEASE = 1  # live in the tick of its claim and in the next; it may be shorter
TRAVEL = 1  # a request acts at Stripe in the tick of the runner's last check, in the next, or never
QUIET = LEASE + TRAVEL + 1  # the check comes up to a lease after the claim, and only then the journey starts
SILENCE = LEASE + 1  # after a failover, until no lease of the lost history can be live
LAPSED = LEASE + 1


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules hold; `replace(Rules(), name=False)` is the system without one of them."""

    # Claims
    one_live_lease: bool = True
    lease_checked_before_send: bool = True
    lost_post_is_unknown: bool = True
    outcome_needs_the_rows_token: bool = True
    parameters_are_written_once: bool = True

    # Answers
    unclear_answers_are_unknown: bool = True
    only_the_reversal_asked_for_is_success: bool = True
    only_posts_are_definitive: bool = True
    throttling_leaves_unknown_alone: bool = True
    key_in_use_is_unknown: bool = True
    failed_reversal_is_no_success: bool = True
    failed_reversal_mints: bool = True
    failed_reversal_mints_once: bool = True

    # Identity and look-ups
    identity_is_not_a_serial_id: bool = True
    look_up_reads_every_page: bool = True
    absence_is_dated_by_the_claim: bool = True
    absence_after_the_lease_is_void: bool = True

    # Keys and generations
    same_key_while_young: bool = True
    only_young_keys_are_posted: bool = True
    age_counts_from_minting: bool = True
    absence_mints_only_after_quiet: bool = True
    young_key_outlives_quiet: bool = True
    old_key_is_replaced: bool = True
    unsent_key_is_renewed: bool = True
    replayed_error_ends_posts: bool = True

    # Looking first
    look_before_first_post: bool = True
    look_before_each_generation: bool = True
    look_after_unknown: bool = True
    failover_is_an_unknown_post: bool = True
    failover_is_followed_by_silence: bool = True

    # Giving up
    leased_row_is_not_given_up: bool = True
    unknown_row_is_not_given_up: bool = True
    only_quiet_absence_is_knowledge: bool = True
    unseen_row_is_not_given_up: bool = True


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
            lease = Lease("look_up_reversals", 0, after_quiet=row.last_post >= QUIET)
            return row._replace(lease=lease), Claim("look_up_reversals", row.identity, row.generation, 0)
        parameters = 1 if row.sent and not rules.parameters_are_written_once else 0
        claim = Claim("reverse", row.identity, row.generation, parameters)
        return row._replace(sent=True, last_post=0, lease=Lease("reverse", 0, after_quiet=False)), claim

    def _must_look(self, row: Row) -> bool:
        rules = self.rules
        if row.replayed_error and rules.replayed_error_ends_posts:
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

    def report(self, row: Row, claim: Claim, answer: Answer, *, owns: bool) -> Row:
        """A worker reports; `owns`: its lease token is still the row's."""
        if row.status != "reversal_pending":
            return row
        if not owns and self.rules.outcome_needs_the_rows_token:
            # It changes nothing, but proof of success is worth a look.
            return row._replace(looked=False) if answer in ("succeeded", "accepted", "found") else row
        lease = row.lease or Lease(claim.action, LAPSED, after_quiet=False)
        row = row._replace(lease=None)
        if claim.action == "reverse":
            return self._posted(row, answer)
        return self._looked_up(row, lease, answer)

    def _posted(self, row: Row, answer: Answer) -> Row:
        rules = self.rules
        match answer:
            case "succeeded":
                return row._replace(status="reversed")
            case "strange success":
                if rules.only_the_reversal_asked_for_is_success:
                    return self._unknown(row)
                return row._replace(status="reversed")
            case "accepted":
                return self._unknown(row)
            case "refused":
                return self._refused(row)
            case "server error" | "replayed server error" | "no answer":
                if not rules.unclear_answers_are_unknown:
                    return self._refused(row)
                replayed = row.replayed_error or answer == "replayed server error"
                return self._unknown(row)._replace(replayed_error=replayed)
            case "throttled":
                return row if rules.throttling_leaves_unknown_alone else row._replace(unknown=False)
            case "key in use":
                return self._unknown(row) if rules.key_in_use_is_unknown else row
            case "other parameters":
                return row._replace(status="parked")
            case _:
                assert answer == "not sent", answer
                return row

    def _looked_up(self, row: Row, lease: Lease, answer: Answer) -> Row:
        rules = self.rules
        match answer:
            case "found":
                return row._replace(status="reversed")
            case "found pending":
                return self._unknown(row)
            case "found failed":
                if not rules.failed_reversal_is_no_success:
                    return row._replace(status="reversed")
                return self._mint(row) if rules.failed_reversal_mints else row._replace(looked=True, unknown=False)
            case "found failed of another generation":
                return self._absent(row, lease) if rules.failed_reversal_mints_once else self._mint(row)
            case "found nothing":
                return self._absent(row, lease)
            case "some pages only":
                return row if rules.look_up_reads_every_page else self._absent(row, lease)
            case "look-up refused":
                return row if rules.only_posts_are_definitive else self._refused(row)
            case _:
                assert answer in ("no answer", "not sent"), answer
                return row

    def _absent(self, row: Row, lease: Lease) -> Row:
        """Nothing of ours at Stripe, as of the look-up's claim."""
        rules = self.rules
        if lease.age > LEASE and rules.absence_after_the_lease_is_void:
            return row
        after_quiet = lease.after_quiet if rules.absence_is_dated_by_the_claim else row.last_post >= QUIET
        if after_quiet or not rules.only_quiet_absence_is_knowledge:
            row = row._replace(unknown=False)
        row = row._replace(looked=True)
        old = self._key_is_old(row)
        if old and not row.sent and rules.unsent_key_is_renewed:
            return row._replace(key_age="young")
        if not old and not rules.same_key_while_young:
            return self._mint(row)._replace(looked=True)
        spent = (old and rules.old_key_is_replaced) or (row.replayed_error and rules.replayed_error_ends_posts)
        due = spent or (not old and not rules.young_key_outlives_quiet)
        if due and (after_quiet or not rules.absence_mints_only_after_quiet):
            return self._mint(row)._replace(looked=True)
        return row

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
        """This database is not the one it was: what its past told the workers to do is lost."""
        if row.status != "reversal_pending" or not self.rules.failover_is_an_unknown_post:
            return row
        lease = row.lease._replace(after_quiet=False) if row.lease else None
        return self._unknown(row)._replace(last_post=0, lease=lease)
