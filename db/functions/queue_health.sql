-- How the work stands: for people, and for `seller-transfers status`.

create or replace view marketplace.queue_health_full as
select
  k.kind,
  count(*) filter (
    where t.next_retry_at <= n.now and t.parked_reason is null and coalesce(t.lease_expires_at <= n.now, true)
  ) as due,
  max(n.now - t.next_retry_at) filter (
    where t.next_retry_at <= n.now and t.parked_reason is null and coalesce(t.lease_expires_at <= n.now, true)
  ) as oldest_due_for,
  count(*) filter (where t.next_retry_at > n.now and t.parked_reason is null and t.lease_token is null) as waiting,
  count(*) filter (where t.lease_expires_at > n.now) as leased,
  count(*) filter (where t.lease_expires_at <= n.now) as lapsed,
  count(*) filter (where t.parked_reason is not null) as parked,
  count(*) filter (where t.call_unknown) as unknown_outcome,
  c.paused_at,
  c.paused_by,
  c.pause_reason,
  c.probe_at,
  c.reconcile_needed_since
from marketplace.stripe_control as c
cross join (select clock_timestamp() as now) as n
cross join (values ('reversals'), ('transfers')) as k (kind)
-- A part for each index; together they would be a scan of everything there ever was. By name: a view of all columns
-- would keep a rollback from dropping any.
left join (
  select 'reversals' as kind, h.next_retry_at, h.lease_token, h.lease_expires_at, h.parked_reason, h.call_unknown
  from marketplace.seller_transfers as h
  where h.status = 'reversal_pending' and h.parked_reason is null
  union all
  select 'transfers', h.next_retry_at, h.lease_token, h.lease_expires_at, h.parked_reason, h.call_unknown
  from marketplace.seller_transfers as h
  where h.status = 'pending' and h.parked_reason is null
  union all
  select 'transfers', h.next_retry_at, h.lease_token, h.lease_expires_at, h.parked_reason, h.call_unknown
  from marketplace.seller_transfers as h
  where h.status = 'failed' and h.parked_reason is null
  union all
  select
    case h.status when 'reversal_pending' then 'reversals' else 'transfers' end,
    h.next_retry_at, h.lease_token, h.lease_expires_at, h.parked_reason, h.call_unknown
  from marketplace.seller_transfers as h
  where h.parked_reason is not null
) as t on t.kind = k.kind
group by k.kind, c.paused_at, c.paused_by, c.pause_reason, c.probe_at, c.reconcile_needed_since;

comment on view marketplace.queue_health_full is 'One row per kind of work: how much is due, waiting, leased, parked, and whether calls are paused. Wide: queue_health is for eyes.';
comment on column marketplace.queue_health_full.kind is 'reversals, or transfers that are to be sent.';
comment on column marketplace.queue_health_full.due is 'Rows a claim could return now, were calls not paused.';
comment on column marketplace.queue_health_full.oldest_due_for is 'How long the longest of them has been due.';
comment on column marketplace.queue_health_full.waiting is 'Rows whose next try is in the future.';
comment on column marketplace.queue_health_full.leased is 'Rows a worker is calling Stripe for.';
comment on column marketplace.queue_health_full.lapsed is 'Rows whose worker has not reported in time; the next claim takes them over.';
comment on column marketplace.queue_health_full.parked is 'Rows that wait for a person; parked_reason says why.';
comment on column marketplace.queue_health_full.unknown_outcome is 'Rows with a call whose outcome nobody knows yet.';
comment on column marketplace.queue_health_full.paused_at is 'Since when no calls are made; null while they are.';
comment on column marketplace.queue_health_full.paused_by is 'person or verdict.';
comment on column marketplace.queue_health_full.pause_reason is 'Why, in words.';
comment on column marketplace.queue_health_full.probe_at is 'When the next trial call may be made.';
comment on column marketplace.queue_health_full.reconcile_needed_since is
  'Since when no calls are made because the database is not the one it was; null while they are. seller-transfers reconcile ends it.';

create or replace view marketplace.queue_health as
select
  h.kind,
  h.due,
  date_trunc('second', h.oldest_due_for) as oldest_due_for,
  h.waiting,
  h.leased,
  h.lapsed,
  h.parked,
  h.unknown_outcome,
  h.paused_by
from marketplace.queue_health_full as h
order by h.kind;

comment on view marketplace.queue_health is 'One row per kind of work: how much is due, waiting, leased, parked, and whether calls are paused. Why they are: needs_attention, queue_health_full.';
comment on column marketplace.queue_health.kind is 'reversals, or transfers that are to be sent.';
comment on column marketplace.queue_health.due is 'Rows a claim could return now, were calls not paused.';
comment on column marketplace.queue_health.oldest_due_for is 'How long the longest of them has been due.';
comment on column marketplace.queue_health.waiting is 'Rows whose next try is in the future.';
comment on column marketplace.queue_health.leased is 'Rows a worker is calling Stripe for.';
comment on column marketplace.queue_health.lapsed is 'Rows whose worker has not reported in time; the next claim takes them over.';
comment on column marketplace.queue_health.parked is 'Rows that wait for a person; needs_attention says why.';
comment on column marketplace.queue_health.unknown_outcome is 'Rows with a call whose outcome nobody knows yet.';
comment on column marketplace.queue_health.paused_by is 'person or verdict: no calls are made; null: they are.';

create or replace function marketplace.read_queue_health()
returns setof marketplace.queue_health_full
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select h.* from marketplace.queue_health_full as h order by h.kind
$$;

comment on function marketplace.read_queue_health() is 'The view queue_health_full, for programs: they call functions only.';
