-- The lock of an order: whatever creates or moves an order's money takes it first, before any row.
--
-- Events know a payment before they know its order, so a payment has a lock as well, taken after the orders': of an
-- event that finds no order and a transfer that is being recorded for one, the second to come sees the first.

create or replace function marketplace._lock_order(p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('seller-transfers order ' || p_order_id, 0));
end
$$;

comment on function marketplace._lock_order(text) is
  'Waits for the order''s lock and holds it to the end of the transaction. Taken before any row of the order.';

create or replace function marketplace._try_lock_orders(p_order_ids text[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return marketplace._lock_words('order', p_order_ids, false);
end
$$;

comment on function marketplace._try_lock_orders(text[]) is
  'Takes the locks of these orders without waiting; false if another session holds one of them.';

create or replace function marketplace._sorted(p_texts text[])
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(p_texts) < 2 then  -- nearly always
    return array_remove(p_texts, null);
  end if;
  return array(
    select distinct t.word collate "C" from unnest(p_texts) as t (word) where t.word is not null order by 1);
end
$$;

comment on function marketplace._sorted(text[]) is
  'These texts, each once, in the order in which their locks are taken: the same in every database.';

create or replace function marketplace._lock_payment(p_order_ids text[], p_payments text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_orders text[] := marketplace._sorted(p_order_ids);
  v_payments text[] := marketplace._sorted(p_payments);
begin
  -- Who has a payment may come to want one of the orders: a charge of several, recorded in one transaction. So nobody
  -- waits for a payment with an order that he has not had before; behind the savepoint he gives it back.
  for v_try in 1..10 loop
    exit when v_orders = '{}' or v_payments = '{}';
    begin
      perform marketplace._lock_words('order', v_orders, true);
      if marketplace._lock_words('payment', v_payments, false) then
        return;
      end if;
      perform marketplace._give_locks_back();
    exception
      when serialization_failure then null;
    end;
    begin
      perform marketplace._lock_words('payment', v_payments, true);
      perform marketplace._give_locks_back();
    exception
      when serialization_failure then null;
    end;
  end loop;
  perform marketplace._lock_words('order', v_orders, true);
  perform marketplace._lock_words('payment', v_payments, true);
end
$$;

comment on function marketplace._lock_payment(text[], text[]) is
  'Waits for the locks of these orders, then for those of these charges and payment intents.';

create or replace function marketplace._lock_words(p_kind text, p_words text[], p_waits boolean)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_word text;
  v_key bigint;
begin
  foreach v_word in array p_words loop
    v_key := hashtextextended(format('seller-transfers %s %s', p_kind, v_word), 0);
    if p_waits then
      perform pg_advisory_xact_lock(v_key);
    elsif not pg_try_advisory_xact_lock(v_key) then
      return false;
    end if;
  end loop;
  return true;
end
$$;

comment on function marketplace._lock_words(text, text[], boolean) is
  'Takes the locks of these orders or payments, in the order given; without waiting, false if another session holds one of them.';

create or replace function marketplace._give_locks_back()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the locks are given back'
    using errcode = 'serialization_failure', hint = 'Run the transaction again.';
end
$$;

comment on function marketplace._give_locks_back() is 'Raises 40001, for whoever goes back behind his savepoint by it.';

create or replace function marketplace._lock_rows(p_order_ids text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  perform t.id from marketplace.seller_transfers as t
  where t.order_id = any (p_order_ids) order by t.id for no key update;
end
$$;

comment on function marketplace._lock_rows(text[]) is 'Locks all rows of these orders in id order; their orders are locked.';
