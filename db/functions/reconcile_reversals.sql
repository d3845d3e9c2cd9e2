-- Reversals at Stripe, and the rows that they took back.

create or replace function marketplace._listed_reversals(p_run marketplace.reconcile_runs)
returns table (
  it marketplace.reconcile_objects, is_live boolean, database text, row_id bigint, is_explained boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with listed as (
    select
      o as it, coalesce(o.status, 'succeeded') in ('pending', 'succeeded') as is_live,
      marketplace._reversed_for(o) as database, h.id as held_by, h.status as held_status
    from marketplace.reconcile_objects as o
    -- Metadata can be edited at Stripe: by its id a reversal is known whatever became of that.
    left join marketplace.seller_transfers as h on h.stripe_reversal_id = o.stripe_id
    where o.run_id = p_run.id and o.object = 'transfer_reversal'
  )
  select
    l.it, l.is_live, l.database, coalesce(l.held_by, w.id),
    -- By its row; or by one that is being called for, or looked up, or that a person is being asked about.
    coalesce(l.held_status in ('reversed', 'reversal_pending'), false) or coalesce(
      w.status = 'reversal_pending' and (w.lease_token is not null or w.call_unknown or w.parked_reason is not null), false)
  from listed as l
  left join lateral (
    select t.id, t.status, t.lease_token, t.call_unknown, t.parked_reason
    from marketplace._rows_of_stripe_transfer((l.it).stripe_transfer_id) as t
    where l.held_by is null and l.is_live and l.database = 'ours' and t.call_part is not null
      and marketplace._reversal_identity(
        (select c.database_id from marketplace.stripe_control as c),
        t.stripe_transfer_id, t.reversal_request_id, t.call_part) = (l.it).identity
    order by t.id desc
    limit 1
  ) as w on true
$$;

comment on function marketplace._listed_reversals(marketplace.reconcile_runs) is
  'The reversals that Stripe listed: whether each counts, whose it is, which row it is of, and whether the row or work in progress explains it.';

create or replace function marketplace._compare_reversals(p_run marketplace.reconcile_runs)
returns setof marketplace.reconcile_difference
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with listed as materialized (
    select * from marketplace._listed_reversals(p_run)
  )
  select
    'reversed twice', true, false, min(l.row_id), min((l.it).order_id), min((l.it).stripe_transfer_id),
    min((l.it).stripe_id), null::bigint, sum((l.it).amount)::bigint, min((l.it).currency),
    left(format('Stripe has %s live reversals for one that was asked for: %s.',
      count(*), string_agg((l.it).stripe_id, ', ' order by (l.it).created_at, (l.it).stripe_id)), 1000),
    'Give one of them back at Stripe, by a transfer.'
  from listed as l
  where l.is_live and l.database = 'ours'
  group by (l.it).identity
  having count(*) > 1
  union all
  select
    'reversed unheard', c.look_up_first_since is null or t.status <> 'reversal_pending', false, t.id, t.order_id,
    t.stripe_transfer_id, (l.it).stripe_id, t.amount, (l.it).amount, (l.it).currency,
    format('Stripe has taken it back for this row, which is %s and does not know.', t.status),
    format('select * from marketplace.look_up_differences(p_run_id => %s, p_reason => ''…'');', p_run.id)
  from listed as l
  inner join marketplace.seller_transfers as t on t.id = l.row_id
  cross join marketplace.stripe_control as c
  where l.is_live and not l.is_explained and t.status <> 'reversed'
  union all
  select
    'not reversed', true, false, t.id, t.order_id, t.stripe_transfer_id, t.stripe_reversal_id,
    t.amount, case when l.is_live then (l.it).amount end, coalesce((l.it).currency, t.currency),
    case
      when (l.it).stripe_id is null then 'The row says that it was taken back by this reversal, and Stripe has none of this id.'
      when not l.is_live then format('The row says that it was taken back, and at Stripe the reversal has %s.', (l.it).status)
      else format('The row says that %s were taken back; at Stripe they are %s, of %s.',
        marketplace._amount_in_words(t.amount, t.currency),
        marketplace._amount_in_words((l.it).amount, (l.it).currency), (l.it).stripe_transfer_id)
    end,
    'Take back at Stripe, by a reversal, what was not.'
  from marketplace.seller_transfers as t
  inner join marketplace.reconcile_objects as o on o.run_id = p_run.id and o.stripe_id = t.stripe_transfer_id
  left join listed as l on (l.it).stripe_id = t.stripe_reversal_id
  where t.status = 'reversed' and t.stripe_reversal_id is not null
    -- What it came to later need not be on the list.
    and t.updated_at < o.read_since
    and (not coalesce(l.is_live, false)
      or ((l.it).amount, (l.it).currency, (l.it).stripe_transfer_id) is distinct from (t.amount, t.currency, t.stripe_transfer_id))
$$;

comment on function marketplace._compare_reversals(marketplace.reconcile_runs) is
  'Reversals of ours that are too many, or that their rows do not know of, and rows whose reversal Stripe does not have.';
