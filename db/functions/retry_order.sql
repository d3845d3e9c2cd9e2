-- When an order gets a transfer, what was told of its charges is looked at again: events that waited for it, and shares
-- of the new transfer in what went back to the buyer before.

create or replace function marketplace._retry_events_of_order(p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_charges text[] := marketplace._charges_of_order(p_order_id);
  v_charge_id text;
  v_kept text := 'kept';  -- see _kept_for()
  v_ids text[];
begin
  perform marketplace._lock_payment('{}', v_charges);
  v_ids := array(
    select e.event_id from marketplace.stripe_events as e where e.order_id = p_order_id and e.state = v_kept);
  foreach v_charge_id in array v_charges loop
    v_ids := v_ids || marketplace._kept_for(v_charge_id);
  end loop;
  -- Locks of other orders are not waited for here: what is about several is left to retry_events().
  perform marketplace._retry_these(array(
    select e.event_id from marketplace.stripe_events as e
    where e.event_id = any (v_ids) and marketplace._try_lock_orders(marketplace._orders_to_lock(e))));

  foreach v_charge_id in array v_charges loop
    if exists (select from marketplace._causes_of_charge(v_charge_id)) then
      perform marketplace._settle_or_keep(v_charge_id, p_order_id);
    end if;
  end loop;
end
$$;

comment on function marketplace._retry_events_of_order(text) is
  'Acts on what waited for the order, or for its charges, to change. Called at the end of whatever adds a transfer to it; the order is locked.';

create or replace function marketplace._settle_or_keep(p_charge_id text, p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_charge marketplace.charges;
  v_sqlstate text;
  v_message text;
  v_hint text;
begin
  select * into v_charge from marketplace.charges as c where c.charge_id = p_charge_id;
  if v_charge.amount is null then
    return;
  end if;
  begin
    perform marketplace._require_one_currency(v_charge);
    perform marketplace._lock_rows(array[p_order_id]);
    perform marketplace._settle_order(v_charge, p_order_id);
  exception
    when others then
      get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text, v_hint = pg_exception_hint;
      if marketplace._mends_itself(v_sqlstate) then
        raise;
      end if;
      -- The app's transfer is recorded whatever becomes of the event, which says so from now on.
      update marketplace.stripe_events as e
      set
        state = 'kept', detail = marketplace._clean_text(format('%s: %s', v_sqlstate, v_message), 1000),
        next_step = marketplace._clean_text(v_hint, 1000),
        kept_at = case when e.state = 'kept' then e.kept_at else clock_timestamp() end
      where e.event_id = marketplace._newest_event(p_charge_id);
  end;
end
$$;

comment on function marketplace._settle_or_keep(text, text) is
  'Asks for a new transfer''s share in what went back of its charge before; if that fails, the newest event of the charge is kept again with the error.';

create or replace function marketplace._newest_event(p_charge_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event_id text;
begin
  select e.event_id into v_event_id from marketplace.stripe_events as e
  where e.charge_id = p_charge_id and e.state <> 'ignored'
    and marketplace._kind_of_event(e.type) in ('refund', 'dispute')
  order by e.received_at desc, e.event_id limit 1;
  if not found then
    -- Hardly ever: all events of the charge name its payment alone.
    select e.event_id into v_event_id
    from marketplace.charges as c
    inner join marketplace.stripe_events as e on e.payment_intent = c.payment_intent
    where c.charge_id = p_charge_id and e.charge_id is null and e.state <> 'ignored'
      and marketplace._kind_of_event(e.type) in ('refund', 'dispute')
    order by e.received_at desc, e.event_id limit 1;
  end if;
  return v_event_id;
end
$$;

comment on function marketplace._newest_event(text) is
  'The newest event of a refund or dispute of the charge; null if there is none.';
