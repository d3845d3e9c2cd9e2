-- What each seller owes, and why: what was to be taken back and is still the seller's.
--
-- Counted by transfer: what is on its way back, and what was given up or could not be had. A refund of all counts what
-- had been given up before among what it could not have, so of these two the larger is owed, and no transfer owes more
-- than is left of it.

create or replace view marketplace.seller_debts as
with transfers as (
  select
    coalesce(t.root_id, t.id) as root_id,
    min(t.seller_id) as seller_id,
    min(t.currency) as currency,
    sum(t.amount) as paid,
    coalesce(sum(t.amount) filter (where t.status = 'reversed'), 0) as given_back,
    coalesce(sum(t.amount) filter (where t.status = 'reversal_pending' and not coalesce(r.is_evidence, false)), 0)
      as on_its_way,
    coalesce(sum(t.amount) filter (where t.status = 'permanently_failed'), 0) as given_up,
    string_agg(distinct marketplace._reason_open(t), ', ') filter (where t.status = 'reversal_pending') as open_because,
    string_agg(distinct case t.failure_code when 'given_up' then 'by a person' else t.failure_code end, ', ')
      filter (where t.status = 'permanently_failed') as given_up_because
  from marketplace.seller_transfers as t
  left join marketplace.reversal_requests as r on r.reversal_request_id = t.reversal_request_id
  where
    t.completed_at is not null
    and not exists (
      select from marketplace.seller_transfers as s
      where s.successor_of = t.id
    )
  group by coalesce(t.root_id, t.id)
),

unmet as (
  select l.transfer_id as root_id, sum(l.unmet) as unmet
  from marketplace.reversal_request_lines as l
  inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
  where l.unmet > 0 and r.withdrawn_at is null
  group by l.transfer_id
),

owed as (
  select
    t.*,
    least(t.paid - t.given_back, t.on_its_way + greatest(t.given_up, coalesce(u.unmet, 0))) as not_given_back
  from transfers as t
  left join unmet as u on u.root_id = t.root_id
),

sellers as (
  select
    o.seller_id,
    o.currency,
    sum(o.paid)::bigint as paid,
    sum(o.given_back + o.not_given_back)::bigint as refunded,
    sum(o.not_given_back)::bigint as not_given_back,
    sum(o.on_its_way)::bigint as on_its_way,
    sum(o.given_up)::bigint as given_up,
    sum(o.not_given_back - o.on_its_way - o.given_up)::bigint as not_to_be_had,
    string_agg(distinct o.open_because, ', ') as open_because,
    string_agg(distinct o.given_up_because, ', ') as given_up_because
  from owed as o
  group by o.seller_id, o.currency
)

select
  s.seller_id,
  s.currency,
  s.paid,
  s.refunded,
  s.not_given_back,
  marketplace._wrapped(concat_ws('; ',
    format('Paid %s, refunded %s, owes %s',
      marketplace.format_amount(s.paid, s.currency), marketplace.format_amount(s.refunded, s.currency),
      marketplace.format_amount(s.not_given_back, s.currency)),
    case when s.on_its_way > 0 then format(
      '%s on the way back (%s)', marketplace.format_amount(s.on_its_way, s.currency), s.open_because) end,
    case when s.given_up > 0 then format(
      '%s given up (%s)', marketplace.format_amount(s.given_up, s.currency), s.given_up_because) end,
    case when s.not_to_be_had > 0 then format(
      '%s asked for, and not to be had', marketplace.format_amount(s.not_to_be_had, s.currency)) end), 46, 600) as why
from sellers as s
order by s.not_given_back desc, s.seller_id asc, s.currency asc;

comment on view marketplace.seller_debts is 'Per seller and currency: what was paid, what is to be given back because buyers were refunded, and what of that is not back yet and why. Amounts in minor units, and in why as people write them.';
comment on column marketplace.seller_debts.seller_id is 'The seller.';
comment on column marketplace.seller_debts.currency is 'The transfers'' currency.';
comment on column marketplace.seller_debts.paid is 'Paid, what was paid again after a refund failed included.';
comment on column marketplace.seller_debts.refunded is 'Of that, what was to be taken back: what is back, and what is not.';
comment on column marketplace.seller_debts.not_given_back is 'What the seller owes: on the way back, given up, or asked for and not to be had.';
comment on column marketplace.seller_debts.why is 'The same in words, with the reasons: of open rows as in open_reversals, of those that were given up their failure_code, or that a person did.';
