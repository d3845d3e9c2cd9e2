-- Transfers at Stripe that say whose they are, and no row stands for them.

create or replace function marketplace._compare_sent(p_run marketplace.reconcile_runs)
returns setof marketplace.reconcile_difference
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with marked as (
    select o as it,
      count(*) filter (where o.amount_reversed < o.amount) over (partition by o.identity) as live
    from marketplace.reconcile_objects as o
    where o.run_id = p_run.id and o.object = 'transfer' and o.identity is not null
  ), strange as materialized (
    -- Nearly all of them are the one that a row stands for; whose the rest is costs more to say.
    select m.it, m.live, marketplace._is_recorded((m.it).stripe_id) as is_recorded
    from marked as m
    where m.live > 1 or not marketplace._is_recorded((m.it).stripe_id)
  ), told as materialized (
    select (s.it).*, s.it, s.live, s.is_recorded, w.database, w.row_id
    from strange as s
    cross join lateral marketplace._sent_for(s.it) as w
  )
  select
    'paid twice', true, false, min(o.row_id), min(o.order_id), min(o.stripe_id), null::text,
    null::bigint, sum(o.amount)::bigint, min(o.currency),
    left(format('Stripe has %s transfers for one that was asked for: %s.',
      count(*), string_agg(o.stripe_id, ', ' order by o.created_at, o.stripe_id)), 1000),
    format('Take one of them back at Stripe, by a reversal; the row stands for %s.', coalesce((
      select t.stripe_transfer_id from marketplace.seller_transfers as t where t.id = min(o.row_id)), 'none of them'))
  from told as o
  where o.database = 'ours' and o.live > 1 and o.amount_reversed < o.amount
  group by o.identity
  union all
  select d.*
  from told as o
  cross join lateral marketplace._unheard_payment(o.it, o.row_id) as d
  where o.database = 'ours' and o.live <= 1 and not o.is_recorded
    -- What was taken back in full is no payment any more, unless it is the row's only one.
    and (o.amount_reversed < o.amount or o.live = 0)
  union all
  select
    'another database', true, true, t.id, t.order_id, o.stripe_id, null, t.amount, o.amount, o.currency,
    format('Another database has paid for transfer_key %s at the same Stripe account: it calls itself %s.',
      o.transfer_key, substring(o.identity from '[0-9a-f-]{36}')),
    case when t.status = 'pending' and t.call_last_sent_at is null
      then marketplace._record_statement(o.it, t.transfer_key, t.order_id, t.seller_id)
      else 'Stop the other database; then take this transfer back at Stripe, by a reversal.' end
  from told as o
  inner join marketplace.seller_transfers as t on t.transfer_key = o.transfer_key
  where o.database = 'another' and o.amount_reversed < o.amount and not o.is_recorded
$$;

comment on function marketplace._compare_sent(marketplace.reconcile_runs) is
  'Transfers at Stripe that bear our mark, or another database''s for a transfer_key of ours, and no row knows, or too many.';

create or replace function marketplace._unheard_payment(p_object marketplace.reconcile_objects, p_row_id bigint)
returns setof marketplace.reconcile_difference
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_looks_first boolean := (select c.look_up_first_since is not null from marketplace.stripe_control as c);
begin
  select t.* into v_row from marketplace.seller_transfers as t where t.id = p_row_id;
  if v_row.id is null then
    return next (
      'lost transfer', not v_looks_first, false, null::bigint, p_object.order_id, p_object.stripe_id, null::text,
      null::bigint, p_object.amount, p_object.currency,
      format('It was sent by this database for transfer_key %s, and there is no row for it. The app had better ask again as it did.',
        coalesce(p_object.transfer_key, 'unknown')),
      marketplace._lost_transfer_step(p_object)
    )::marketplace.reconcile_difference;
  elsif v_row.status in ('pending', 'failed')
    and (v_row.lease_token is not null or v_row.call_unknown or v_row.parked_reason is not null) then
    -- Work in progress: what it came to is being found out, or a person is being asked already.
    return;
  elsif v_row.stripe_transfer_id is not null then
    if p_object.amount_reversed >= p_object.amount then
      return;
    end if;
    return next (
      'paid twice', true, false, v_row.id, v_row.order_id, p_object.stripe_id, null::text,
      v_row.amount, p_object.amount, p_object.currency,
      format('It was sent for this row, which stands for %s.', v_row.stripe_transfer_id),
      'Take one of the two back at Stripe, by a reversal.'
    )::marketplace.reconcile_difference;
  else
    return next (
      'paid unheard', not v_looks_first, false, v_row.id, v_row.order_id, p_object.stripe_id, null::text,
      v_row.amount, p_object.amount, p_object.currency,
      format('The seller was paid by this transfer, and the row is %s and does not know.', v_row.status),
      case when v_row.completed_at is not null
        then format('select id, status from marketplace.reopen(p_id => %s, p_reason => ''…'', p_stripe_transfer_id => %L);',
          v_row.id, p_object.stripe_id)
        else format('select * from marketplace.look_up_differences(p_run_id => %s, p_reason => ''…'');', p_object.run_id)
      end
    )::marketplace.reconcile_difference;
  end if;
end
$$;

comment on function marketplace._unheard_payment(marketplace.reconcile_objects, bigint) is
  'What differs where Stripe has a transfer of ours by which no row is paid; no row if work in progress explains it.';
