-- What became of every refund and dispute, seller by seller: what it was to take, what it took, and what it gave back.
--
-- By cause: what events ask under re_1+2 belongs to re_1. A row that another took over from counts in no sum; the other
-- one does, for the request that has it now. What was reversed elsewhere is shown once it is found, as a request of its
-- own.

create or replace view marketplace.request_shares as
with parts as (
  select
    -- By order, the view is read through its indexes.
    t.reversal_request_id, t.order_id, t.seller_id, t.currency, 0::bigint as asked,
    case when t.status = 'reversed' then t.amount else 0 end as taken_back,
    case when t.status = 'reversed' and exists (
      select from marketplace.seller_transfers as c
      where c.compensates = t.id) then t.amount else 0 end as given_back,
    case when t.status = 'permanently_failed' and t.completed_at is null then t.amount else 0 end as not_sent,
    case when t.status = 'reversal_pending' then t.amount else 0 end as under_way,
    case when t.status = 'permanently_failed' and t.completed_at is not null then t.amount else 0 end as not_taken_back,
    case
      when t.status = 'reversal_pending' then 'under way: ' || marketplace._reason_open(t)
      when t.status = 'permanently_failed' and t.completed_at is not null
        then 'given up: ' || case t.failure_code when 'given_up' then 'by a person' else t.failure_code end
      when t.status = 'reversed' and t.stripe_reversal_id is null then 'reversed elsewhere'
    end as why
  from marketplace.seller_transfers as t
  where t.reversal_request_id is not null and not exists (
    select from marketplace.seller_transfers as s
    where s.successor_of = t.id
  )
  union all
  select
    l.reversal_request_id, t.order_id, t.seller_id, t.currency, l.asked, 0, 0, 0,
    case when u.unmet > 0 and u.is_in_flight then u.unmet else 0 end,
    case when u.unmet > 0 and not u.is_in_flight then u.unmet else 0 end,
    case
      when u.unmet > 0 and u.is_in_flight then 'under way: it is not known yet whether the seller is paid'
      when u.unmet > 0 then 'asked for, and not to be had'
    end
  from marketplace.reversal_request_lines as l
  inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
  inner join marketplace.seller_transfers as t on t.id = l.transfer_id
  cross join lateral (
    select
      case when r.withdrawn_at is null then l.unmet else 0 end as unmet,
      l.unmet > 0 and marketplace._is_in_flight(l.transfer_id) as is_in_flight
  ) as u
)

select
  coalesce(r.asked_for, r.reversal_request_id) as request,
  p.order_id,
  r.reason,
  p.seller_id,
  p.currency,
  -- A request may take more than its lines ask: what another one let go of. Evidence has no lines.
  greatest(sum(p.asked), sum(p.taken_back + p.not_sent + p.under_way + p.not_taken_back))::bigint as asked,
  sum(p.taken_back)::bigint as taken_back,
  sum(p.given_back)::bigint as given_back,
  sum(p.not_sent)::bigint as not_sent,
  sum(p.under_way)::bigint as under_way,
  sum(p.not_taken_back)::bigint as not_taken_back,
  concat_ws(
    '; ', string_agg(distinct p.why, '; '), string_agg(distinct 'withdrawn: ' || r.withdrawn_reason, '; ')
  ) as why
from parts as p
inner join marketplace.reversal_requests as r on r.reversal_request_id = p.reversal_request_id
group by coalesce(r.asked_for, r.reversal_request_id), p.order_id, r.reason, p.seller_id, p.currency;

comment on view marketplace.request_shares is 'Per refund or dispute, order, seller and currency: what was asked of the seller, and what became of it, in minor units. What a refund of everything could not have because another had given it up is in the lines of both. In psql, with \x.';
comment on column marketplace.request_shares.request is 'What was asked for: the refund (re_…), the dispute (dp_…), or an id of the app''s; what was asked as re_1+2 is in re_1. elsewhere:… is what somebody reversed at Stripe and nobody had asked for here.';
comment on column marketplace.request_shares.order_id is 'The order.';
comment on column marketplace.request_shares.reason is 'refund, dispute or manual.';
comment on column marketplace.request_shares.seller_id is 'The seller.';
comment on column marketplace.request_shares.currency is 'The transfers'' currency.';
comment on column marketplace.request_shares.asked is 'The seller''s share, as it was asked for.';
comment on column marketplace.request_shares.taken_back is 'Reversed at Stripe; what was given back since included.';
comment on column marketplace.request_shares.given_back is 'Of that, paid to the seller again, or about to be, because the request was withdrawn.';
comment on column marketplace.request_shares.not_sent is 'The seller never got it: the request came before the transfer was made.';
comment on column marketplace.request_shares.under_way is 'On its way back, or in flight to the seller still.';
comment on column marketplace.request_shares.not_taken_back is 'Given up, or not to be had: the seller has it, and the marketplace bears it for now.';
comment on column marketplace.request_shares.why is 'Why it is under way or not taken back, as in open_reversals or by failure_code; who else reversed it; why the request was withdrawn.';
