-- What no machine will mend, one line per problem: what it is, why, since when, and what to type next.

create or replace view marketplace.needs_attention_full as
with problems as (
  select
    'parked' as problem, true as is_urgent, coalesce(t.streak_since, t.updated_at) as needed_since,
    t.id as transfer_id, t.order_id, t.parked_reason as why,
    -- Once it is certain what there is, a look-up brings nothing new.
    case when t.status = 'reversal_pending' and marketplace._is_seen(t)
      then format(
        'select id, status from marketplace.mark_reversed(p_id => %s, p_stripe_reversal_id => ''trr_…'', '
        'p_reason => ''…'');', t.id)
      -- If it is not this one's payment, that is recorded as another's first.
      when t.completed_at is null and marketplace._is_seen_paid(t)
        then format(
          'select id, status from marketplace.mark_paid(p_id => %s, p_stripe_transfer_id => ''tr_…'', '
          'p_reason => ''…'');', t.id)
      else format('select id, status from marketplace.retry_now(p_id => %s, p_reason => ''…'');', t.id)
    end as next_step,
    format('parked:%s', t.id) as problem_id
  from marketplace.seller_transfers as t
  where t.parked_reason is not null
  union all
  select
    case when t.completed_at is null then 'not paid' else 'not taken back' end, false, t.updated_at, t.id, t.order_id,
    format('%s: %s', t.failure_code, t.failure_message),
    format(
      'select id, status from marketplace.reopen(p_id => %s, p_reason => ''…''%s);', t.id,
      case when t.completed_at is not null and t.stripe_transfer_id is null
        then ', p_stripe_transfer_id => ''tr_…''' else '' end),
    format('ended:%s', t.id)
  from marketplace.seller_transfers as t
  where
    t.status = 'permanently_failed'
    -- What a person gave up is decided; seller_debts counts it.
    and t.failure_code not in ('refunded_before_transfer', 'request_withdrawn', 'not_reversed', 'given_up')
    and not exists (
      select from marketplace.seller_transfers as s
      where s.successor_of = t.id
    )
  union all
  select
    'no Stripe id', false, t.created_at, t.id, t.order_id,
    'Recorded as paid without its Stripe id: it cannot be taken back.',
    format(
      'select id from marketplace.reopen(p_id => %s, p_reason => ''…'', p_stripe_transfer_id => ''tr_…'');', t.id),
    format('no-id:%s', t.id)
  from marketplace.seller_transfers as t
  where t.status = 'completed' and t.stripe_transfer_id is null
  union all
  -- However long ago: until somebody has seen it.
  select
    a.verdict, true, a.finished_at, t.id, t.order_id, format(
      'Stripe has %s for this row as well. %s%s', coalesce(a.stripe_object_id, 'something'),
      case when a.action in ('send', 'look_up_transfer')
        then 'Take it back at Stripe, by a reversal; then dismiss this.'
        else 'Give it back at Stripe, by a transfer; then dismiss this.' end, ' ' || a.error_message),
    format('select reason from marketplace.dismiss(p_problem_id => ''attempt:%s'', p_reason => ''…'');', a.id),
    format('attempt:%s', a.id)
  from marketplace.transfer_attempts as a
  inner join marketplace.seller_transfers as t on t.id = a.transfer_id
  where a.verdict in ('moved_twice', 'late_success') and a.disposition = 'late'
  union all
  select
    'unmet', false, r.requested_at, l.transfer_id, r.order_id,
    format('%s asked for %s (%s) more than is left of the transfer. Settle it with the seller; then dismiss this.',
      r.reversal_request_id, marketplace.format_amount(l.unmet, t.currency), l.unmet),
    format('select reason from marketplace.dismiss(p_problem_id => ''%s'', p_reason => ''…'');', u.problem_id),
    u.problem_id
  from marketplace.reversal_request_lines as l
  inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
  inner join marketplace.seller_transfers as t on t.id = l.transfer_id
  cross join lateral (
    -- Should it become more, it is another problem.
    select concat_ws(':', 'unmet', l.transfer_id, l.unmet, r.reversal_request_id) as problem_id
  ) as u
  where
    l.unmet > 0 and r.withdrawn_at is null
    -- What is in flight, or on its way back for somebody who wants it no more, may be had yet.
    and not marketplace._is_in_flight(l.transfer_id)
    and not marketplace._may_come_free(l.transfer_id)
  union all
  -- One that waits for its order to be recorded is nothing unusual for a while.
  select
    'event kept', e.kept_since < clock_timestamp() - interval '1 hour', e.kept_since, null, e.order_id,
    format('%s %s: %s', e.type, e.event_id, e.detail), e.next_step,
    -- Should something else come to stand in its way, that is another problem.
    format('event:%s:%s', e.event_id, left(md5(e.detail), 8))
  from marketplace.kept_events as e
  union all
  -- The rows have gone on since: what a comparison found is told by itself, and by the next one.
  select
    'differs from Stripe', r.urgent > 0, r.finished_at, null, null,
    format('A comparison with Stripe found %s %s, %s of them urgent.',
      r.differences, case r.differences when 1 then 'difference' else 'differences' end, r.urgent),
    format('select * from marketplace.reconcile_differences(p_run_id => %s);', r.id), format('comparison:%s', r.id)
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
    'select * from marketplace.resume_stripe_calls(p_reason => ''…'');', 'paused'
  from marketplace.stripe_control as c
  where c.paused_by is not null
  union all
  select
    'to reconcile', true, c.reconcile_needed_since, null, null, marketplace._change_in_words(c),
    marketplace._change_hint(c), 'to reconcile'
  from marketplace.stripe_control as c
  where c.reconcile_needed_since is not null
  union all
  select
    'commits lost', false, c.look_up_first_since, null, null,
    format(
      'A standby took over, or somebody says so: what was committed since %s may be lost. Look-ups come first.',
      coalesce(c.lost_since, c.look_up_first_since)),
    marketplace._change_hint(c), 'commits lost'
  from marketplace.stripe_control as c
  where c.look_up_first_since is not null and c.reconcile_needed_since is null
)

select
  p.problem, p.is_urgent, p.needed_since, p.transfer_id, p.order_id, left(p.why, 1000) as why, p.next_step,
  p.problem_id, t.amount, t.currency
from problems as p
left join marketplace.seller_transfers as t on t.id = p.transfer_id
where not exists (
  select from marketplace.dismissals as d
  where d.problem_id = p.problem_id
);

comment on view marketplace.needs_attention_full is 'One line per problem that waits for a person, with everything that is known of it. Wide: needs_attention is for eyes, read_needs_attention() for programs.';
comment on column marketplace.needs_attention_full.problem is 'parked, not paid, not taken back, no Stripe id, moved_twice, late_success, unmet, event kept, differs from Stripe, paused, to reconcile or commits lost.';
comment on column marketplace.needs_attention_full.is_urgent is 'True: money is in doubt, or goes on being so, until somebody acts. False: it was given up or cannot be had, and says so until it is reopened or dismissed.';
comment on column marketplace.needs_attention_full.needed_since is 'Since when.';
comment on column marketplace.needs_attention_full.transfer_id is 'The row; null where it is about none.';
comment on column marketplace.needs_attention_full.order_id is 'Its order; null where none is known.';
comment on column marketplace.needs_attention_full.why is 'Why, in words.';
comment on column marketplace.needs_attention_full.next_step is 'What to type next.';
comment on column marketplace.needs_attention_full.problem_id is 'What dismiss() takes. What is parked, paused, to reconcile or about lost commits is not over by being dismissed.';
comment on column marketplace.needs_attention_full.amount is 'The row''s amount, in minor units.';
comment on column marketplace.needs_attention_full.currency is 'Its currency.';
