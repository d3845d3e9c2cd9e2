-- Everything that happened to an order's transfers, in the order in which it became known here.
--
-- Four kinds of records in one shape. Each part is found by index from an order, a transfer_key or a row.

create or replace function marketplace._call_in_words(p_attempt marketplace.transfer_attempts)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return concat(concat_ws(' ',
    p_attempt.action,
    case p_attempt.kind
      when 'lost_lease' then 'was never reported'
      when 'not_sent' then 'was not sent'
      when 'second_report' then 'was reported again'
    end,
    '→ ' || p_attempt.verdict,
    case when p_attempt.disposition <> 'applied' then format('(%s: changes nothing)', p_attempt.disposition) end,
    'HTTP ' || p_attempt.http_status, p_attempt.error_code, p_attempt.stripe_object_id, p_attempt.stripe_request_id,
    case when p_attempt.replayed then 'replayed' end,
    'by ' || p_attempt.worker), ': ' || p_attempt.error_message);
end
$$;

comment on function marketplace._call_in_words(marketplace.transfer_attempts) is 'A call to Stripe and what came of it, in a line.';

create or replace view marketplace.transfer_timeline as
with named as not materialized (
  -- In two halves, for each has an index of its own.
  select t.id, t.order_id, t.transfer_key
  from marketplace.seller_transfers as t
  where t.root_id is null
  union all
  select t.id, t.order_id, r.transfer_key
  from marketplace.seller_transfers as r
  inner join marketplace.seller_transfers as t on t.root_id = r.id
),

happened as (
  select t.order_id, t.transfer_key, t.id as transfer_id, l.logged_at as happened_at, 1 as rank, l.id as number,
    concat(
      case
        when l.from_status is null then 'born ' || l.to_status
        when l.from_status = l.to_status then 'note'
        else l.from_status || ' → ' || l.to_status
      end, ' by ' || l.logged_by, ': ' || l.reason) as what
  from named as t
  inner join marketplace.transfer_status_log as l on l.transfer_id = t.id
  union all
  select t.order_id, t.transfer_key, t.id, a.finished_at, 2, a.id as number, marketplace._call_in_words(a)
  from named as t
  inner join marketplace.transfer_attempts as a on a.transfer_id = t.id
  union all
  select t.order_id, t.transfer_key, t.id, w.happened_at, 0, 0, w.what
  from marketplace.seller_transfers as t
  inner join marketplace.reversal_request_lines as l on l.transfer_id = t.id
  inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
  cross join lateral (
    values
    (r.requested_at, format('%s %s asks for %s (%s), of which %s could be taken; by %s (%s)',
      r.reason, r.reversal_request_id, marketplace.format_amount(l.asked, t.currency), l.asked,
      marketplace.format_amount(l.met, t.currency), r.requested_by, r.asked_by)),
    (r.withdrawn_at, format('%s is withdrawn by %s: %s', r.reversal_request_id, r.withdrawn_by, r.withdrawn_reason))
  ) as w (happened_at, what)
  where w.happened_at is not null
  union all
  select e.order_id, null, null, e.received_at, 0, 0,
    concat(concat_ws(' ', 'event', e.event_id, e.type, e.state), ': ' || e.detail)
  from marketplace.stripe_events as e
  where e.order_id is not null
)

select
  h.order_id,
  h.transfer_key,
  h.transfer_id,
  date_trunc('second', h.happened_at) as happened_at,
  marketplace._wrapped(h.what, 40, 600) as what
from happened as h
order by h.happened_at, h.rank, h.number;

comment on view marketplace.transfer_timeline is 'Everything that happened to a transfer, in time order: where order_id = …, transfer_key = … (with its slices and successors) or transfer_id = … (one row).';
comment on column marketplace.transfer_timeline.order_id is 'The order: all its transfers, what was paid again after a refund failed, and the Stripe events about it.';
comment on column marketplace.transfer_timeline.transfer_key is 'The transfer as the app named it; null for what was paid again, and for events: find those by order_id.';
comment on column marketplace.transfer_timeline.transfer_id is 'The row; null for an event.';
comment on column marketplace.transfer_timeline.happened_at is 'When it was known here.';
comment on column marketplace.transfer_timeline.what is 'A birth, a change of status, a note, a call and its verdict, a request or its withdrawal, an event: by whom, and why.';
