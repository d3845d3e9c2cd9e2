-- What an event may move, for the locks that are taken before it is touched; see order_lock.sql.

create or replace function marketplace._orders_to_lock(p_event marketplace.stripe_events)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_event.payload -> 'data' -> 'object';
  v_orders text[] := marketplace._orders_of_charge(marketplace._charge_of(p_event.charge_id, p_event.payment_intent))
    || marketplace._read_text(v_object -> 'transfer_group', 255)
    || marketplace._read_text(v_object -> 'metadata' -> 'order_id', 255);
begin
  case marketplace._kind_of_event(p_event.type)
    when 'transfer' then
      v_orders := v_orders || array(
        select t.order_id from marketplace.seller_transfers as t
        where t.stripe_transfer_id = p_event.object_id and t.root_id is null);
    when 'charge' then
      null;
    else
      v_orders := v_orders || array(
        select r.order_id from marketplace.reversal_requests as r where r.reversal_request_id = p_event.object_id
        union all
        select r.order_id from marketplace.reversal_requests as r where r.asked_for = p_event.object_id);
  end case;
  return marketplace._sorted(v_orders);
end
$$;

comment on function marketplace._orders_to_lock(marketplace.stripe_events) is
  'Every order whose money the event may move, sorted; also what may only look like an order.';

create or replace function marketplace._payments_of_event(p_event marketplace.stripe_events)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array[
    p_event.charge_id, p_event.payment_intent, marketplace._charge_of(p_event.charge_id, p_event.payment_intent)];
end
$$;

comment on function marketplace._payments_of_event(marketplace.stripe_events) is
  'The charge and the payment intent of an event, for their locks.';

create or replace function marketplace._lock_event(p_event marketplace.stripe_events)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_orders text[];
begin
  for v_try in 1..5 loop
    v_orders := marketplace._orders_to_lock(p_event);
    begin
      perform marketplace._lock_payment(v_orders, marketplace._payments_of_event(p_event));
      if marketplace._orders_to_lock(p_event) <@ v_orders then
        perform pg_advisory_xact_lock(hashtextextended('seller-transfers event ' || p_event.event_id, 0));
        return;
      end if;
      raise exception 'event %: its order has just become known', p_event.event_id
        using errcode = 'serialization_failure', hint = 'Deliver the event again.';
    exception
      when serialization_failure then
        -- Goes back behind the savepoint, which gives the locks back: an order's comes before a payment's.
        if v_try = 5 then
          raise;
        end if;
    end;
  end loop;
end
$$;

comment on function marketplace._lock_event(marketplace.stripe_events) is
  'Waits for the locks of an event''s orders and payment, then for its own. Raises 40001 where ever new orders become known meanwhile.';
