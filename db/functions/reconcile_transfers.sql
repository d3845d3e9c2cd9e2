-- Transfers at Stripe, and the rows that stand for them.

create or replace function marketplace._stands()
returns table (
  stripe_transfer_id text, transfer_id bigint, order_id text, transfer_key text, amount bigint, currency text,
  destination_account text, known_since timestamptz, elsewhere bigint, elsewhere_at timestamptz, evidence bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select
    t.stripe_transfer_id, min(t.id), min(t.order_id), min(t.transfer_key),
    -- A row that another took over from counts in no sum.
    coalesce(sum(t.amount) filter (where s.id is null), 0)::bigint,
    min(t.currency), min(t.destination_account), min(t.completed_at),
    coalesce(sum(t.amount) filter (where t.status = 'reversed' and t.stripe_reversal_id is null), 0)::bigint,
    max(t.updated_at) filter (where t.status = 'reversed' and t.stripe_reversal_id is null),
    -- On its way to be found reversed elsewhere, perhaps.
    coalesce(sum(t.amount) filter (where t.status = 'reversal_pending' and (
      r.is_evidence or t.call_unknown or t.lease_token is not null)), 0)::bigint
  from marketplace.seller_transfers as t
  left join marketplace.seller_transfers as s on s.successor_of = t.id
  left join marketplace.reversal_requests as r
    on t.status = 'reversal_pending' and r.reversal_request_id = t.reversal_request_id
  where t.stripe_transfer_id is not null
  group by t.stripe_transfer_id
$$;

comment on function marketplace._stands() is
  'What the rows say of each transfer at Stripe: the first row, the sum of all, how much of it was reversed elsewhere, and how much is being looked into.';

create or replace function marketplace._compare_paid(p_run marketplace.reconcile_runs)
returns setof marketplace.reconcile_difference
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select
    'not at Stripe', true, false, s.transfer_id, s.order_id, s.stripe_transfer_id, null::text,
    s.amount, null::bigint, s.currency,
    'The row says that the seller was paid by this transfer, and Stripe has none of this id.',
    format('select * from marketplace.transfer_attempts where transfer_id = %s order by id;', s.transfer_id)
  from marketplace._stands() as s
  where not exists (
    select from marketplace.reconcile_objects as o
    where o.run_id = p_run.id and o.stripe_id = s.stripe_transfer_id)
    -- What came to be known later need not be on the list.
    and s.known_since < p_run.started_at
    and coalesce(s.known_since >= p_run.created_since + interval '1 day', true)
  union all
  select
    'other values', true, false, s.transfer_id, s.order_id, s.stripe_transfer_id, null,
    s.amount, o.amount, o.currency,
    format('At Stripe it is %s to %s; the rows say %s to %s.',
      marketplace._amount_in_words(o.amount, o.currency), o.destination_account,
      marketplace._amount_in_words(s.amount, s.currency), s.destination_account),
    format('select * from marketplace.seller_transfers where stripe_transfer_id = %L order by id;', s.stripe_transfer_id)
  from marketplace._stands() as s
  inner join marketplace.reconcile_objects as o on o.run_id = p_run.id and o.stripe_id = s.stripe_transfer_id
  where (o.amount, o.currency, o.destination_account) is distinct from (s.amount, s.currency, s.destination_account)
$$;

comment on function marketplace._compare_paid(marketplace.reconcile_runs) is
  'Rows that are paid by a transfer that Stripe does not have, or has with other values.';
