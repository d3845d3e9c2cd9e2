-- What a person types about something at Stripe that no row stands for.

create or replace function marketplace._record_statement(
  p_object marketplace.reconcile_objects, p_transfer_key text, p_order_id text, p_seller_id text
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return format(
    'select id, status from marketplace.record_completed_transfer(p_transfer_key => %L, p_order_id => %L, '
    'p_seller_id => %L, p_destination_account => %L, p_amount => %s, p_currency => %L%s, p_stripe_transfer_id => %L);',
    coalesce(p_transfer_key, '…'), coalesce(p_order_id, '…'), coalesce(p_seller_id, '…'), p_object.destination_account,
    p_object.amount, p_object.currency, ', p_source_charge => ' || quote_literal(p_object.source_charge),
    p_object.stripe_id);
end
$$;

comment on function marketplace._record_statement(marketplace.reconcile_objects, text, text, text) is
  'What to type to record a transfer at Stripe as the one of this key.';

create or replace function marketplace._lost_transfer_step(p_object marketplace.reconcile_objects)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_made_for text := (regexp_match(p_object.identity, '^transfer:again:[0-9a-f-]{36}:[0-9]+:(.*)$'))[1];
  v_held_id bigint;
begin
  select t.id into v_held_id
  from marketplace._rows_of_stripe_transfer(substr(v_made_for, length(p_object.transfer_key || ':rest:') + 1)) as r
  inner join marketplace.seller_transfers as t on t.root_id = coalesce(r.root_id, r.id) and t.split_from = r.id
  where v_made_for ~ ':rest:tr_' and marketplace._is_held(t)
  limit 1;
  if found then
    -- Sent because a person said so: said again it is wanted again, and found.
    return format('select id, status from marketplace.retry_now(p_id => %s, p_reason => ''…'');', v_held_id);
  end if;
  if v_made_for is not null then
    -- Made when a request was withdrawn: withdrawn again it is wanted again, and found.
    return format('select id, status from marketplace.withdraw_reversal_request(p_reversal_request_id => %L, p_reason => ''…'');',
      regexp_replace(substr(v_made_for, length(p_object.transfer_key) + 2), ':-?[0-9]+$', ''));
  end if;
  -- Whom the app calls this seller, Stripe does not know.
  return marketplace._record_statement(p_object, p_object.transfer_key, p_object.order_id, null);
end
$$;

comment on function marketplace._lost_transfer_step(marketplace.reconcile_objects) is
  'What to type about a transfer of ours at Stripe that has no row.';

create or replace function marketplace._lost_reversal_step(p_object marketplace.reconcile_objects)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_allocation jsonb;
begin
  if exists (
    select from marketplace.reversal_requests as r where r.reversal_request_id = p_object.reversal_request_id
  ) then
    return format('select * from marketplace.reversal_request_lines where reversal_request_id = %L;',
      p_object.reversal_request_id);
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('transfer_key', a.transfer_key, 'amount', a.amount) order by a.transfer_key), '[]')
  into v_allocation
  from (
    select o.transfer_key, sum(o.amount) as amount
    from marketplace.reconcile_objects as o
    where o.run_id = p_object.run_id and o.reversal_request_id = p_object.reversal_request_id
      and o.object = 'transfer_reversal' and coalesce(o.status, 'succeeded') in ('pending', 'succeeded')
      and marketplace._reversed_for(o) = 'ours'
    group by o.transfer_key
  ) as a;
  return left(format(
    'select id, status from marketplace.request_reversal(p_order_id => %L, p_reversal_request_id => %L, p_allocation => %L);',
    coalesce(p_object.order_id, '…'), coalesce(p_object.reversal_request_id, '…'), v_allocation), 2000);
end
$$;

comment on function marketplace._lost_reversal_step(marketplace.reconcile_objects) is
  'What to type to ask again for what a request took back that is not known any more: all that Stripe has of it.';
