-- Why reversals are open, in words: for people, and for `seller-transfers status`.

create or replace function marketplace._reason_open(p_row marketplace.seller_transfers)
returns text
language plpgsql
immutable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when p_row.parked_reason is not null then
      coalesce(substring(p_row.parked_reason from '^(conflict|mismatch|moved_twice|accepted|configuration|held|refuted):'), 'parked')
    when p_row.call_unknown then 'unknown'
    when p_row.stripe_reversal_id is not null then 'accepted'
    when p_row.failure_code = 'configuration' then 'configuration'
    when p_row.streak_verdict is null then 'new'
    -- No money is in doubt: a look-up was lost or could not be read.
    when p_row.streak_verdict = 'unknown' then 'unclear'
    else p_row.streak_verdict
  end;
end
$$;

comment on function marketplace._reason_open(marketplace.seller_transfers) is
  'Why an open row is not done yet, in one word: of its parked_reason, or what its last call came to.';

create or replace view marketplace.open_reversals as
with open_rows as (
  -- In two halves, for each has an index of its own.
  select
    marketplace._reason_open(t) as reason, false as is_parked,
    coalesce(t.waiting_since, t.streak_since, t.call_minted_at) as since
  from marketplace.seller_transfers as t
  where t.status = 'reversal_pending' and t.parked_reason is null
  union all
  select marketplace._reason_open(t), true, coalesce(t.waiting_since, t.streak_since, t.call_minted_at)
  from marketplace.seller_transfers as t
  where t.status = 'reversal_pending' and t.parked_reason is not null
),

reasons as (
  select t.reason, t.is_parked, count(*) as transfers, min(t.since) as oldest_since
  from open_rows as t
  group by t.reason, t.is_parked
  union all
  -- These rows have ended: what came after their end is kept with their attempts.
  select a.verdict, true, count(distinct a.transfer_id), min(a.finished_at)
  from marketplace.transfer_attempts as a
  where a.verdict in ('moved_twice', 'late_success') and a.disposition = 'late'
    and a.finished_at > clock_timestamp() - interval '30 days'
    and a.action in ('reverse', 'look_up_reversals')
  group by a.verdict
)

select
  r.reason,
  r.is_parked as needs_a_person,
  r.transfers,
  r.oldest_since,
  case r.reason
    when 'new' then 'Due for the first call, or on its way there.'
    when 'unknown' then 'A call may have moved the money: looked up until it is certain.'
    when 'unclear' then 'What Stripe has of the transfer could not be read to its end: looked up again.'
    when 'accepted' then 'Stripe holds it until the seller''s balance covers it: looked up until it is made or dropped.'
    when 'insufficient_balance' then 'The seller''s balance does not cover it: tried again as retry_policy says.'
    when 'throttled' then 'Stripe asks to wait: tried again in seconds.'
    when 'transient' then 'Stripe refused it: tried again, given up after the retries in retry_policy.'
    when 'already_reversed' then 'Stripe says it is reversed already: looked up to see by whom.'
    when 'configuration' then case when r.is_parked
      then 'Stripe refuses the key for this transfer only: parked_reason says why; mend that at Stripe.'
      else 'Stripe refuses the key or the account: nothing is spent, tried again when calls go on.' end
    when 'conflict' then
      'Stripe knows the key with other parameters: look for its idempotency_key in Stripe''s logs.'
    when 'mismatch' then 'Stripe has something else than was asked for: compare what parked_reason says with the row.'
    when 'refuted' then
      'The reversal that somebody named did not take it back: name the right one, or try again.'
    when 'moved_twice' then
      'Two reversals were made for one: give one back by a transfer. Ended rows: see needs_attention.'
    when 'late_success' then
      'Made after the row was given up, and another row has taken over. Which: see needs_attention.'
    else 'Waits for a person: see parked_reason.'
  end as meaning
from reasons as r;

comment on view marketplace.open_reversals is 'Why reversals are not done yet: one row per reason, with its words. Also what came to light in the last 30 days about rows that had ended. In psql, with \x.';
comment on column marketplace.open_reversals.reason is 'One word: a verdict, new, or of a parked_reason.';
comment on column marketplace.open_reversals.needs_a_person is 'True: no machine touches these rows.';
comment on column marketplace.open_reversals.transfers is 'How many rows.';
comment on column marketplace.open_reversals.oldest_since is 'Since when the first of them has waited for this reason.';
comment on column marketplace.open_reversals.meaning is 'What the reason means and what happens next.';

create or replace function marketplace.read_open_reversals()
returns setof marketplace.open_reversals
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select o.* from marketplace.open_reversals as o order by o.needs_a_person desc, o.reason
$$;

comment on function marketplace.read_open_reversals() is 'The view open_reversals, for programs: they call functions only.';
