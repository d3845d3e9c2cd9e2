-- Which orders a charge paid for, and which charges paid for an order.

create or replace function marketplace._orders_of_charge(p_charge_id text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_charge marketplace.charges;
  v_orders text[];
begin
  if p_charge_id is null then
    return array[]::text[];
  end if;
  select * into v_charge from marketplace.charges as c where c.charge_id = p_charge_id;
  v_orders := array(
    select t.order_id from marketplace.seller_transfers as t where t.source_charge = p_charge_id) || v_charge.order_id;
  if v_charge.transfer_group is not null and exists (
    select from marketplace.seller_transfers as g where g.order_id = v_charge.transfer_group
  ) then
    v_orders := v_orders || v_charge.transfer_group;
  end if;
  -- Sorted, for that is how their locks are taken.
  return marketplace._sorted(v_orders);
end
$$;

comment on function marketplace._orders_of_charge(text) is
  'The orders that a charge is known to have paid for: by its transfers, by what was said, by a transfer_group that is an order''s id. Sorted.';

create or replace function marketplace._charges_of_order(p_order_id text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select t.source_charge from marketplace.seller_transfers as t
    where t.order_id = p_order_id and t.source_charge is not null
    union
    select c.charge_id from marketplace.charges as c where c.order_id = p_order_id
    union
    select c.charge_id from marketplace.charges as c where c.transfer_group = p_order_id);
end
$$;

comment on function marketplace._charges_of_order(text) is 'The charges that are known to have paid for an order.';

create or replace function marketplace._lock_order_and_charges(p_order_id text, p_source_charge text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._lock_payment(array[p_order_id], marketplace._charges_of_order(p_order_id) || p_source_charge);
  -- What has become known of the order while it was waited for.
  perform marketplace._lock_payment('{}', marketplace._charges_of_order(p_order_id));
end
$$;

comment on function marketplace._lock_order_and_charges(text, text) is
  'Waits for the lock of an order, then for those of its charges and of the one that is said to have paid for it.';

create or replace function marketplace._charge_of(p_charge_id text, p_payment_intent text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_charges text[];
begin
  if p_charge_id is not null then
    return p_charge_id;
  end if;
  v_charges := array(
    select c.charge_id from marketplace.charges as c where c.payment_intent = p_payment_intent limit 2);
  return case when cardinality(v_charges) = 1 then v_charges[1] end;
end
$$;

comment on function marketplace._charge_of(text, text) is
  'The charge, or the only one known of the payment intent; null if there is none, or more than one.';

create or replace function marketplace._transfers_of_charge(p_charge_id text, p_order_ids text[])
returns table (id bigint, order_id text, transfer_key text, original_amount bigint, currency text, quantum smallint)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_unclear text;
begin
  -- A transfer that names no charge was paid from the order's only one; of several nobody knows which.
  select t.order_id into v_unclear from marketplace.seller_transfers as t
  where t.order_id = any (p_order_ids) and t.transfer_key is not null and t.source_charge is null
    and cardinality(marketplace._charges_of_order(t.order_id)) > 1
  limit 1;
  if found then
    raise exception 'order % was paid by several charges, and has transfers that name none', v_unclear
      using errcode = 'ST010',
            hint = 'Say what is to be taken back of which transfer: request_reversal(p_order_id, p_reversal_request_id, p_allocation => …).';
  end if;
  return query
    select
      r.id, r.order_id, r.transfer_key, r.original_amount, r.currency,
      (select c.quantum from marketplace.currencies as c where c.currency = r.currency)
    from marketplace.seller_transfers as r
    where r.order_id = any (p_order_ids) and r.transfer_key is not null
      and coalesce(r.source_charge, p_charge_id) = p_charge_id
    order by r.id;
end
$$;

comment on function marketplace._transfers_of_charge(text, text[]) is
  'The transfers of these orders that were paid from the charge, in id order. Raises ST010 where that is not known.';
