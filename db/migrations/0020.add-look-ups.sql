-- Reading back before trying again: when a look-up last found nothing, how long that takes to be knowledge, and how
-- old a key may get.
-- depends: 0019.add-rate-budget

alter table marketplace.seller_transfers
add column if not exists call_absent_at timestamptz,
add column if not exists waiting_since timestamptz;

-- Rows that wait already have been waiting since their streak began.
update marketplace.seller_transfers
set waiting_since = streak_since
where
  status = 'reversal_pending'
  and streak_verdict in ('insufficient_balance', 'accepted')
  and waiting_since is null;

-- What was parked because nobody could follow it can be followed now.
update marketplace.seller_transfers
set parked_reason = null
where
  status = 'reversal_pending'
  and parked_reason like 'accepted: Stripe has held %'
  and stripe_reversal_id is not null;

comment on column marketplace.seller_transfers.call_absent_at is
  'When the look-up was claimed that found nothing of this row''s at Stripe; null while there is a reason to look (again): a request of unknown outcome, a new key.';
comment on column marketplace.seller_transfers.waiting_since is
  'Since when the seller''s balance has not covered the reversal: what the 45 days count from.';
comment on column marketplace.seller_transfers.call_last_sent_at is
  'The latest moment at which the last request may have left us: when its answer was reported, or when the lease ran out under which nobody reported.';
comment on column marketplace.seller_transfers.streak_since is
  'When this row of equal verdicts began: delays grow with it. What a budget by age counts from is waiting_since.';
comment on column marketplace.seller_transfers.lease_action is
  'What the worker was told to do: reverse, which may move money, or look_up_reversals, which does not.';
comment on column marketplace.seller_transfers.call_replayed is
  'Stripe replays a server error for this key: the key can bring nothing else any more, so it is only looked up.';

alter table marketplace.retry_policy
add column if not exists quiet interval,
add column if not exists key_max_age interval;

update marketplace.retry_policy
set quiet = coalesce(quiet, '1 hour'), key_max_age = coalesce(key_max_age, '20 hours')
where verdict = 'unknown' and num_nulls(quiet, key_max_age) > 0;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.retry_policy'::regclass and conname = 'chk_quiet_fits_its_verdict'
  ) then
    alter table marketplace.retry_policy add constraint chk_quiet_fits_its_verdict check (
      case verdict
        when 'unknown' then
          quiet between interval '1 millisecond' and interval '30 days' and quiet is not null
          and key_max_age between interval '1 millisecond' and interval '20 hours' and key_max_age is not null
        else num_nulls(quiet, key_max_age) = 2
      end
    );
  end if;
end
$$;

comment on column marketplace.retry_policy.quiet is
  'unknown only: how long after the last request that may have left us nothing of it can arrive at Stripe any more. A look-up claimed later than that, and finding nothing, is knowledge.';
comment on column marketplace.retry_policy.key_max_age is
  'unknown only: how old an idempotency key may be when it is sent; Stripe may forget it after 24 hours and a lease lasts up to one.';
comment on column marketplace.retry_policy.verdict is
  'The verdict. configuration: the time between trial calls while calls are paused by verdict. transient: already_reversed too, but for the first look. unknown: look-ups that were lost or unclear, too.';
comment on column marketplace.retry_policy.max_age is
  'insufficient_balance only: how long a row waits for the seller''s balance (waiting_since), reversals that Stripe holds included, before it is permanently_failed.';
comment on constraint chk_quiet_fits_its_verdict on marketplace.retry_policy is
  'Both for unknown, none for the others; no key is sent that Stripe may have forgotten.';

alter table marketplace.stripe_control
add column if not exists look_up_first_since timestamptz;

comment on column marketplace.stripe_control.look_up_first_since is
  'Set: this database may have lost commits (promoted, restored) at that moment. Every open row counts as sent then and is looked up before anything is sent; null: it is the one it always was.';

alter table marketplace.transfer_attempts
add column if not exists found_count integer;

comment on column marketplace.transfer_attempts.action is 'What the worker was told to do: reverse or look_up_reversals.';
comment on column marketplace.transfer_attempts.stripe_object_id is
  'Id of the reversal in the answer, or of the one that a look-up found to be this row''s.';
comment on column marketplace.transfer_attempts.verdict is
  'What was concluded, in the words of the README''s tables; a lost lease is unknown, or unclear if it was a look-up''s. Not in those: not_sent, and late_success for a success after the row was given up.';
comment on column marketplace.transfer_attempts.found_count is
  'Look-ups only: how many reversals of the transfer were listed; null if the list was not complete.';

do $$
begin
  if not exists (
    select from pg_catalog.pg_attribute
    where attrelid = 'marketplace.stripe_outcome'::regclass and attname = 'found' and not attisdropped
  ) then
    alter type marketplace.stripe_outcome add attribute found jsonb;
  end if;
end
$$;

-- What look-ups replace; nobody but this schema's own functions calls it, and those are loaded anew.
-- squawk-ignore ban-drop-function
drop function if exists marketplace._park_held_reversals(bigint[], timestamptz);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._keep_attempt(
  marketplace.stripe_outcome, marketplace.seller_transfers, text, text, text, timestamptz
);
