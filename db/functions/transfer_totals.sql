-- Where the money stands: for people, and for `seller-transfers status`.

create or replace view marketplace.transfer_totals as
select
  t.currency,
  c.exponent,
  t.status,
  count(*) as transfers,
  sum(t.amount) as amount,
  marketplace.format_amount(sum(t.amount)::bigint, t.currency) as amount_in_words
from marketplace.seller_transfers as t
inner join marketplace.currencies as c on c.currency = t.currency
where
  not exists (
    select from marketplace.seller_transfers as s
    where s.successor_of = t.id
  )
group by t.currency, c.exponent, t.status;

comment on view marketplace.transfer_totals is 'Where the money stands: transfers and their sum per currency and status. A row that another took over from is in no sum.';
comment on column marketplace.transfer_totals.currency is 'Currency.';
comment on column marketplace.transfer_totals.exponent is 'Digits after its decimal point.';
comment on column marketplace.transfer_totals.status is 'Status.';
comment on column marketplace.transfer_totals.transfers is 'How many rows.';
comment on column marketplace.transfer_totals.amount is 'Their sum, in minor units.';
comment on column marketplace.transfer_totals.amount_in_words is 'Their sum, as people write it.';

create or replace function marketplace.read_transfer_totals()
returns table (currency text, exponent smallint, status text, transfers bigint, amount numeric)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.currency, s.exponent, s.status, s.transfers, s.amount
  from marketplace.transfer_totals as s order by s.currency, s.status
$$;

comment on function marketplace.read_transfer_totals() is 'The view transfer_totals, for programs: they call functions only.';
