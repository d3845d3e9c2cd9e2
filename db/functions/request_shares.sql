-- What became of every refund and dispute, seller by seller: what it was to take, what it took, and what it gave back.
--
-- By cause: what events ask under re_1+2 belongs to re_1. A row that another took over from counts in no sum; the other
-- one does, for the request that has it now. What was reversed elsewhere is shown once it is found, as a request of its
-- own.

create or replace view marketplace.request_shares as
with requests as not materialized (
  select
    r.reversal_request_id, r.reason, r.withdrawn_at, r.withdrawn_reason,
    coalesce(r.asked_for, r.reversal_request_id) as cause,
    r.withdrawn_at is not null and exists (
      select from marketplace.reversal_requests as n
      where n.asked_for = r.asked_for and n.replaces = r.reversal_request_id
    ) as is_replaced
  from marketplace.reversal_requests as r
),

parts as (
  select
    -- By order, the view is read through its indexes.
    t.reversal_request_id, t.order_id, t.seller_id, t.currency, 0::bigint as asked,
    case when t.status = 'reversed' then t.amount else 0 end as taken_back,
    case when t.status = 'reversed' then b.given_back else 0 end as given_back,
    case when t.status = 'permanently_failed' and t.completed_at is null and not k.is_kept then t.amount else 0 end
      as not_sent,
    case when t.status = 'reversal_pending' then t.amount else 0 end as under_way,
    0::bigint as wanted_next,
    case when t.status = 'permanently_failed' and t.completed_at is not null then t.amount else 0 end as not_taken_back,
    t.amount as had,
    case
      when t.status = 'reversal_pending' then 'under way: ' || marketplace._reason_open(t)
      when t.status = 'permanently_failed' and t.completed_at is not null
        then 'given up: ' || case t.failure_code when 'given_up' then 'by a person' else t.failure_code end
      when t.status = 'reversed' then concat_ws(
        '; ', case when t.stripe_reversal_id is null then 'reversed elsewhere' end, b.why)
    end as why
  from marketplace.seller_transfers as t
  inner join requests as r on r.reversal_request_id = t.reversal_request_id
  -- What was to give it back, but for what the same refund or dispute, asked again, has kept of that.
  cross join lateral (
    select
      coalesce(sum(x.amount) filter (where not e.is_ended or e.is_of_another), 0)::bigint as given_back,
      string_agg(distinct 'not given back: ' || x.failure_code, '; ') filter (where e.is_ended and q.cause is null)
        as why
    from marketplace.seller_transfers as c
    inner join marketplace.seller_transfers as x on c.id in (x.id, x.root_id)
    left join requests as q on q.reversal_request_id = x.reversal_request_id
    cross join lateral (
      select
        x.status = 'permanently_failed' and x.completed_at is null as is_ended,
        coalesce(q.cause <> r.cause, false) as is_of_another
    ) as e
    where
      c.compensates = t.id
      and not exists (
        select from marketplace.seller_transfers as s
        where s.successor_of = x.id
      )
  ) as b
  cross join lateral (
    select count(*) > 0 as is_kept
    from marketplace.seller_transfers as c
    inner join marketplace.seller_transfers as g on g.id = c.compensates
    inner join requests as q on q.reversal_request_id = g.reversal_request_id
    where c.id = coalesce(t.root_id, t.id) and q.cause = r.cause
  ) as k
  where t.reversal_request_id is not null and not exists (
    select from marketplace.seller_transfers as s
    where s.successor_of = t.id
  )
  union all
  select
    l.reversal_request_id, t.order_id, t.seller_id, t.currency, l.asked, 0, 0, 0,
    case when u.unmet > 0 and u.is_in_flight then u.unmet else 0 end,
    case when u.unmet > 0 and not u.is_in_flight and u.may_come_free then u.unmet else 0 end,
    case when u.unmet > 0 and not u.is_in_flight and not u.may_come_free then u.unmet else 0 end,
    u.unmet,
    case
      when u.unmet > 0 and u.is_in_flight then 'under way: it is not known yet whether the seller is paid'
      when u.unmet > 0 and u.may_come_free then 'under way: it waits for what a withdrawn request may have reversed'
      when u.unmet > 0 then 'asked for, and not to be had'
    end
  from marketplace.reversal_request_lines as l
  inner join requests as r on r.reversal_request_id = l.reversal_request_id
  inner join marketplace.seller_transfers as t on t.id = l.transfer_id
  cross join lateral (
    select
      case when r.withdrawn_at is null then l.unmet else 0 end as unmet,
      l.unmet > 0 and marketplace._is_in_flight(l.transfer_id) as is_in_flight,
      l.unmet > 0 and marketplace._may_come_free(l.transfer_id) as may_come_free
  ) as u
)

select
  r.cause as request,
  p.order_id,
  r.reason,
  p.seller_id,
  p.currency,
  -- What was asked again for less was asked once. A request may take more than its lines ask: what another one let go
  -- of. Evidence has no lines.
  greatest(
    coalesce(sum(p.asked) filter (where not r.is_replaced), 0), coalesce(sum(p.had) filter (where not r.is_replaced), 0)
  )::bigint as asked,
  sum(p.taken_back)::bigint as taken_back,
  sum(p.given_back)::bigint as given_back,
  sum(p.not_sent)::bigint as not_sent,
  -- What is wanted of money that is on its way back for more is a part of it.
  (
    coalesce(sum(p.under_way) filter (where not r.is_replaced), 0)
    + greatest(coalesce(sum(p.under_way) filter (where r.is_replaced), 0), sum(p.wanted_next))
  )::bigint as under_way,
  sum(p.not_taken_back)::bigint as not_taken_back,
  concat_ws(
    '; ', string_agg(distinct nullif(p.why, ''), '; '), string_agg(distinct 'withdrawn: ' || r.withdrawn_reason, '; ')
  ) as why
from parts as p
inner join requests as r on r.reversal_request_id = p.reversal_request_id
group by r.cause, p.order_id, r.reason, p.seller_id, p.currency;

comment on view marketplace.request_shares is 'Per refund or dispute, order, seller and currency: what was asked of the seller, and what became of it, in minor units. What a refund of everything could not have because another had given it up is in the lines of both. In psql, with \x.';
comment on column marketplace.request_shares.request is 'What was asked for: the refund (re_…), the dispute (dp_…), or an id of the app''s; what was asked as re_1+2 is in re_1. elsewhere:… is what somebody reversed at Stripe and nobody had asked for here.';
comment on column marketplace.request_shares.order_id is 'The order.';
comment on column marketplace.request_shares.reason is 'refund, dispute or manual.';
comment on column marketplace.request_shares.seller_id is 'The seller.';
comment on column marketplace.request_shares.currency is 'The transfers'' currency.';
comment on column marketplace.request_shares.asked is 'The seller''s share, as it was asked for; as it was asked last, where another refund failed or a part of the dispute came back.';
comment on column marketplace.request_shares.taken_back is 'Reversed at Stripe; what was given back since included.';
comment on column marketplace.request_shares.given_back is 'Of that, paid to the seller again, or about to be, because the request was withdrawn, or asked again for less. Taken back less given back is what the seller bears.';
comment on column marketplace.request_shares.not_sent is 'The seller never got it: the request came before the transfer was made.';
comment on column marketplace.request_shares.under_way is 'On its way back, or in flight to the seller still.';
comment on column marketplace.request_shares.not_taken_back is 'Given up, or not to be had: the seller has it, and the marketplace bears it for now.';
comment on column marketplace.request_shares.why is 'Why it is under way or not taken back, as in open_reversals or by failure_code; who else reversed it; why the request was withdrawn.';
