-- Why transfers are not sent yet, in words: for people, and for `seller-transfers status`.

create or replace view marketplace.open_transfers as
with open_rows as (
  -- A part for each index.
  select
    marketplace._reason_open(t) as reason, false as is_parked,
    coalesce(t.waiting_since, t.streak_since, t.call_minted_at) as since
  from marketplace.seller_transfers as t
  where t.status = 'pending' and t.parked_reason is null
  union all
  select marketplace._reason_open(t), false, coalesce(t.waiting_since, t.streak_since, t.call_minted_at)
  from marketplace.seller_transfers as t
  where t.status = 'failed' and t.parked_reason is null
  union all
  select marketplace._reason_open(t), true, coalesce(t.waiting_since, t.streak_since, t.call_minted_at)
  from marketplace.seller_transfers as t
  where t.status in ('pending', 'failed') and t.parked_reason is not null
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
    and a.action in ('send', 'look_up_transfer')
  group by a.verdict
)

select
  r.reason,
  r.is_parked as needs_a_person,
  r.transfers,
  r.oldest_since,
  case r.reason
    when 'new' then 'Due for the first call, or on its way there.'
    when 'unknown' then 'A call may have paid the seller: looked for until it is certain.'
    when 'unclear' then 'Stripe''s list of the seller''s transfers could not be read to its end: read again.'
    when 'insufficient_balance' then 'The platform''s balance does not cover it: tried again as retry_policy says.'
    when 'throttled' then 'Stripe asks to wait: tried again in seconds.'
    when 'transient' then 'Stripe refused it: tried again, given up after the retries in retry_policy.'
    when 'configuration' then case when r.is_parked
      then 'Stripe refuses the key for this transfer only: parked_reason says why; mend that at Stripe.'
      else 'Stripe refuses the key or the account: nothing is spent, tried again when calls go on.' end
    when 'conflict' then
      'Stripe knows the key with other parameters: look for its idempotency_key in Stripe''s logs.'
    when 'mismatch' then
      'Stripe has something else than was asked for, or somebody else''s alike: compare parked_reason.'
    when 'held' then
      'The rest of one that was sent for less: sent only if somebody says so. See needs_attention.'
    when 'moved_twice' then
      'Two transfers were made for one: take one back. Paid rows: see needs_attention.'
    when 'late_success' then
      'Sent after the row was given up, and another row has taken over. Which: see needs_attention.'
    else 'Waits for a person: see parked_reason.'
  end as meaning
from reasons as r;

comment on view marketplace.open_transfers is 'Why transfers are not sent yet: one row per reason, with its words. Also what came to light in the last 30 days about rows that were paid or had ended. In psql, with \x.';
comment on column marketplace.open_transfers.reason is 'One word: a verdict, new, or of a parked_reason.';
comment on column marketplace.open_transfers.needs_a_person is 'True: no machine touches these rows.';
comment on column marketplace.open_transfers.transfers is 'How many rows.';
comment on column marketplace.open_transfers.oldest_since is 'Since when the first of them has waited for this reason.';
comment on column marketplace.open_transfers.meaning is 'What the reason means and what happens next.';

create or replace function marketplace.read_open_transfers()
returns setof marketplace.open_transfers
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select o.* from marketplace.open_transfers as o order by o.needs_a_person desc, o.reason
$$;

comment on function marketplace.read_open_transfers() is 'The view open_transfers, for programs: they call functions only.';
