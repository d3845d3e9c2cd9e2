-- Events that are kept, tried again: by a person or a schedule, and when something of their order or charge changes.
--
-- Nobody waits for an event's row: who has it is trying it.

create or replace function marketplace.retry_events(p_limit integer default 100)
returns setof marketplace.ingested_event
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_event marketplace.stripe_events;
  v_ids text[] := array[]::text[];
  v_orders text[] := array[]::text[];
  v_payments text[] := array[]::text[];
begin
  perform marketplace._require_limit(p_limit);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  for v_event in
    select e.* from marketplace.stripe_events as e
    where e.event_id = any (array(
      select k.event_id from marketplace.stripe_events as k
      where k.state = 'kept' order by k.last_tried_at, k.event_id limit p_limit for no key update skip locked))
    order by e.created_at, e.event_id
  loop
    -- An order that is being changed tries its events itself.
    if marketplace._try_lock_orders(marketplace._orders_to_lock(v_event)) then
      v_ids := v_ids || v_event.event_id;
      v_orders := v_orders || marketplace._orders_to_lock(v_event);
      v_payments := v_payments || marketplace._payments_of_event(v_event);
    end if;
  end loop;
  perform marketplace._lock_payment('{}', v_payments);
  perform marketplace._lock_rows(v_orders);
  return query select * from marketplace._retry_these(v_ids);
end
$$;

comment on function marketplace.retry_events(integer) is
  'Tries events that are kept again, at most p_limit, those that were not tried for longest; returns what became of each. Waits for nobody: what others are changing is left out.';

create or replace function marketplace._require_limit(p_limit integer)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception 'p_limit is %', coalesce(p_limit::text, 'missing')
      using errcode = case when p_limit is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass how many are wanted, 1 to 1000.', column = 'p_limit';
  end if;
end
$$;

comment on function marketplace._require_limit(integer) is 'Raises 22004 for null, 22023 for a limit outside 1 to 1000.';

create or replace function marketplace._retry_these(p_event_ids text[])
returns setof marketplace.ingested_event
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_event marketplace.stripe_events;
  v_id text;
  v_kept text := 'kept';  -- see _kept_for()
begin
  if p_event_ids = '{}' then
    return;
  end if;
  -- Charges first: others wait for what they tell.
  for v_id in
    select e.event_id from marketplace.stripe_events as e
    where e.event_id = any (p_event_ids) and e.state = v_kept
    order by (marketplace._kind_of_event(e.type) = 'charge') desc nulls last, e.created_at, e.event_id
  loop
    select * into v_event from marketplace.stripe_events as e
    where e.event_id = v_id and e.state = v_kept for no key update skip locked;
    if found then
      v_event := marketplace._write_try(marketplace._try_event(v_event));
      return next (v_event.event_id, v_event.type, v_event.state, v_event.detail)::marketplace.ingested_event;
    end if;
  end loop;
end
$$;

comment on function marketplace._retry_these(text[]) is 'Tries these events again, oldest first. Their orders and payments are locked.';

create or replace function marketplace._kept_for(p_charge_id text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_payment_intent text := (select c.payment_intent from marketplace.charges as c where c.charge_id = p_charge_id);
  -- Not as a constant: while few events are kept, a plan made then may go through all of them, and goes on to do so
  -- when they are many.
  v_kept text := 'kept';
  v_ids text[] := array(
    select e.event_id from marketplace.stripe_events as e where e.charge_id = p_charge_id and e.state = v_kept);
begin
  if v_payment_intent is not null then
    v_ids := v_ids || array(
      select e.event_id from marketplace.stripe_events as e
      where e.payment_intent = v_payment_intent and e.charge_id is null and e.state = v_kept);
  end if;
  return v_ids;
end
$$;

comment on function marketplace._kept_for(text) is 'The events that are kept and name this charge, or nothing but its payment intent.';

create or replace function marketplace._retry_events_of_charge(p_charge_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids text[] := marketplace._kept_for(p_charge_id);
begin
  if v_ids <> '{}' and marketplace._try_lock_orders(marketplace._orders_of_charge(p_charge_id)) then
    perform marketplace._retry_these(v_ids);
  end if;
end
$$;

comment on function marketplace._retry_events_of_charge(text) is
  'Tries again what waits for the charge, now that more is known of it. Its payment is locked.';
