-- Refuses while there is an open row: what is known of its calls would be lost.

do $$
begin
  if to_regclass('marketplace.seller_transfers') is null then
    return;
  end if;
  if exists (select from marketplace.seller_transfers where status in ('pending', 'failed', 'reversal_pending')) then
    raise exception 'marketplace.seller_transfers holds open rows: what was looked up for them is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Let the runners finish, or give the rows up.';
  end if;
  drop function if exists marketplace.read_open_reversals();
  drop view if exists marketplace.open_reversals;
  alter table marketplace.seller_transfers
    drop column if exists call_absent_at,
    drop column if exists waiting_since;
  comment on column marketplace.seller_transfers.call_last_sent_at is 'When the last request that may have reached Stripe was claimed.';
  comment on column marketplace.seller_transfers.call_replayed is 'The last answer was a replay of one that Stripe had stored for the key.';
  comment on column marketplace.seller_transfers.streak_since is 'When this row of equal verdicts began: delays grow with streak, budgets by age count from here.';
  comment on column marketplace.seller_transfers.lease_action is 'What the worker was told to do.';
  comment on column marketplace.retry_policy.verdict is 'The verdict. configuration: the time between trial calls while calls are paused by verdict.';
  comment on column marketplace.retry_policy.max_age is 'insufficient_balance only: how long a row waits for the seller''s balance before it is permanently_failed.';
  comment on column marketplace.transfer_attempts.action is 'What the worker was told to do.';
  comment on column marketplace.transfer_attempts.stripe_object_id is 'Id of the object in the answer.';
  comment on column marketplace.transfer_attempts.verdict is 'What was concluded: see the README; not_sent and the unknown of a lost lease as well.';
  alter table marketplace.retry_policy
    drop constraint if exists chk_quiet_fits_its_verdict,
    drop column if exists quiet,
    drop column if exists key_max_age;
  alter table marketplace.stripe_control drop column if exists look_up_first_since;
  alter table marketplace.transfer_attempts drop column if exists found_count;
  alter type marketplace.stripe_outcome drop attribute if exists found cascade;
end
$$;
