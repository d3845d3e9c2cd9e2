-- What no machine will mend, one line per problem: what it is, why, since when, and what to type next.

create or replace function marketplace._is_in_flight(p_root_id bigint)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from marketplace._family(p_root_id) as f where f.status in ('pending', 'failed'));
end
$$;

comment on function marketplace._is_in_flight(bigint) is 'True if a row of the transfer may be paid yet.';

create or replace view marketplace.needs_attention as
with problems as (
  select
    'parked' as problem, true as is_urgent, coalesce(t.streak_since, t.updated_at) as needed_since,
    t.id as transfer_id, t.order_id, t.parked_reason as why,
    format('select id, status from marketplace.retry_now(p_id => %s, p_reason => ''…'');', t.id) as next_step
  from marketplace.seller_transfers as t
  where t.parked_reason is not null
  union all
  select
    case when t.completed_at is null then 'not paid' else 'not taken back' end, false, t.updated_at, t.id, t.order_id,
    format('%s: %s', t.failure_code, t.failure_message),
    format(
      'select id, status from marketplace.reopen(p_id => %s, p_reason => ''…''%s);', t.id,
      case when t.completed_at is not null and t.stripe_transfer_id is null
        then ', p_stripe_transfer_id => ''tr_…''' else '' end)
  from marketplace.seller_transfers as t
  where
    t.status = 'permanently_failed'
    and t.failure_code not in ('refunded_before_transfer', 'request_withdrawn', 'not_reversed')
    and not exists (
      select from marketplace.seller_transfers as s
      where s.successor_of = t.id
    )
  union all
  select
    'no Stripe id', false, t.created_at, t.id, t.order_id,
    'Recorded as paid without its Stripe id: it cannot be taken back.',
    format(
      'select id from marketplace.reopen(p_id => %s, p_reason => ''…'', p_stripe_transfer_id => ''tr_…'');', t.id)
  from marketplace.seller_transfers as t
  where t.status = 'completed' and t.stripe_transfer_id is null
  union all
  select
    a.verdict, true, a.finished_at, t.id, t.order_id, format(
      'Stripe has %s for this row as well%s', coalesce(a.stripe_object_id, 'something'), ': ' || a.error_message),
    case when a.action in ('send', 'look_up_transfer')
      then 'Take it back at Stripe, by a reversal.' else 'Give it back at Stripe, by a transfer.' end
  from marketplace.transfer_attempts as a
  inner join marketplace.seller_transfers as t on t.id = a.transfer_id
  where
    a.verdict in ('moved_twice', 'late_success') and a.disposition = 'late'
    and a.finished_at > clock_timestamp() - interval '30 days'
  union all
  select
    'unmet', false, r.requested_at, l.transfer_id, r.order_id,
    format('%s asked for %s more than is left of the transfer', r.reversal_request_id, l.unmet),
    format('select * from marketplace.reversal_request_lines where reversal_request_id = %L;', r.reversal_request_id)
  from marketplace.reversal_request_lines as l
  inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
  where
    l.unmet > 0 and r.withdrawn_at is null
    -- What is in flight may be had yet.
    and not marketplace._is_in_flight(l.transfer_id)
  union all
  -- One that waits for its order to be recorded is nothing unusual for a while.
  select
    'event kept', e.kept_since < clock_timestamp() - interval '1 hour', e.kept_since, null, e.order_id,
    format('%s %s: %s', e.type, e.event_id, e.detail), e.next_step
  from marketplace.kept_events as e
  union all
  -- The rows have gone on since: what a comparison found is told by itself, and by the next one.
  select
    'differs from Stripe', r.urgent > 0, r.finished_at, null, null,
    format('A comparison with Stripe found %s differences, %s of them urgent.', r.differences, r.urgent),
    format('select * from marketplace.reconcile_differences(p_run_id => %s);', r.id)
  from marketplace.reconcile_runs as r
  where
    r.differences > 0 and r.finished_at > clock_timestamp() - interval '7 days'
    and not exists (
      select from marketplace.reconcile_runs as l
      where l.id > r.id and l.is_complete
    )
  union all
  select
    'paused', c.paused_by = 'verdict', c.paused_at, null, null, c.pause_reason,
    'select * from marketplace.resume_stripe_calls(p_reason => ''…'');'
  from marketplace.stripe_control as c
  where c.paused_by is not null
  union all
  select
    'to reconcile', true, c.reconcile_needed_since, null, null, marketplace._change_in_words(c),
    marketplace._change_hint(c)
  from marketplace.stripe_control as c
  where c.reconcile_needed_since is not null
  union all
  select
    'commits lost', false, c.look_up_first_since, null, null,
    format(
      'A standby took over, or somebody says so: what was committed since %s may be lost. Look-ups come first.',
      coalesce(c.lost_since, c.look_up_first_since)),
    marketplace._change_hint(c)
  from marketplace.stripe_control as c
  where c.look_up_first_since is not null and c.reconcile_needed_since is null
)

select p.problem, p.is_urgent, p.needed_since, p.transfer_id, p.order_id, left(p.why, 1000) as why, p.next_step
from problems as p;

comment on view marketplace.needs_attention is 'One line per problem that waits for a person: what it is, why, since when, and what to type next. An empty view is good news.';
comment on column marketplace.needs_attention.problem is 'parked, not paid, not taken back, no Stripe id, moved_twice, late_success, unmet, event kept, differs from Stripe, paused, to reconcile or commits lost.';
comment on column marketplace.needs_attention.is_urgent is 'True: money is in doubt, or goes on being so, until somebody acts. False: it was given up or cannot be had, and says so until it is reopened.';
comment on column marketplace.needs_attention.needed_since is 'Since when.';
comment on column marketplace.needs_attention.transfer_id is 'The row; null where it is about none.';
comment on column marketplace.needs_attention.order_id is 'Its order; null where none is known.';
comment on column marketplace.needs_attention.why is 'Why, in words.';
comment on column marketplace.needs_attention.next_step is 'What to type, or do, next.';

create or replace function marketplace.read_needs_attention()
returns setof marketplace.needs_attention
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select n.* from marketplace.needs_attention as n order by n.is_urgent desc, n.needed_since, n.transfer_id
$$;

comment on function marketplace.read_needs_attention() is 'The view needs_attention, urgent ones and older ones first, for programs: they call functions only.';
