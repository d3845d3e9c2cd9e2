-- An event is acted on in two steps, each of which happens whole or not at all: what it tells is noted, then what
-- follows is done. What is told stays noted when what follows has to wait.

create or replace function marketplace._try_event(p_event marketplace.stripe_events)
returns marketplace.stripe_events
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event marketplace.stripe_events := p_event;
  v_sqlstate text;
  v_message text;
  v_hint text;
begin
  v_event.attempts := v_event.attempts + 1;
  v_event.last_tried_at := clock_timestamp();
  begin
    perform marketplace._note_event(v_event);
    begin
      v_event.detail := marketplace._act_on_event(v_event);
      if marketplace._kind_of_event(v_event.type) <> 'charge' then
        -- What is asked at commit is asked now, while there is a savepoint to go back to. A charge moves no money.
        set constraints marketplace._800_conserve_birth, marketplace._800_conserve_amount immediate;
        set constraints marketplace._800_conserve_birth, marketplace._800_conserve_amount deferred;
      end if;
      v_event.state := case when v_event.detail like 'nothing to do%' then 'ignored' else 'acted' end;
      v_event.next_step := null;
    exception
      -- One that takes too long is kept as well: given back, it would come again and take as long.
      when others or query_canceled then
        get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text, v_hint = pg_exception_hint;
        if marketplace._mends_itself(v_sqlstate) then
          raise;
        end if;
    end;
  exception
    when others or query_canceled then
      get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text, v_hint = pg_exception_hint;
      if marketplace._mends_itself(v_sqlstate) then
        raise;
      end if;
  end;
  if v_sqlstate is not null then
    v_event.state := 'kept';
    v_event.detail := marketplace._clean_text(format('%s: %s', v_sqlstate, v_message), 1000);
    v_event.next_step := marketplace._clean_text(v_hint, 1000);
  end if;
  v_event.order_id := coalesce(left((marketplace._orders_of_event(v_event))[1], 255), v_event.order_id);
  v_event.detail := marketplace._clean_text(v_event.detail, 1000);
  return v_event;
end
$$;

comment on function marketplace._try_event(marketplace.stripe_events) is
  'Acts on an event that is kept, and returns it with what came of it, to be written. The locks of its orders and its payment are held. Raises only what another try mends.';

create or replace function marketplace._write_try(p_event marketplace.stripe_events)
returns marketplace.stripe_events
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.stripe_events as e
  set
    state = p_event.state, detail = p_event.detail, next_step = p_event.next_step, order_id = p_event.order_id,
    attempts = p_event.attempts, last_tried_at = p_event.last_tried_at
  where e.event_id = p_event.event_id;
  return p_event;
end
$$;

comment on function marketplace._write_try(marketplace.stripe_events) is
  'Writes what came of an event that was kept and has been tried again.';

create or replace function marketplace._mends_itself(p_sqlstate text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_sqlstate <> '57014' and (p_sqlstate = '55P03' or left(p_sqlstate, 2) in ('40', '53', '57'));
end
$$;

comment on function marketplace._mends_itself(text) is
  'True for a deadlock, a lock that did not come, a server short of something or about to stop: the same call may succeed a moment later.';

create or replace function marketplace._orders_of_event(p_event marketplace.stripe_events)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if marketplace._kind_of_event(p_event.type) = 'transfer' then
    -- What we wrote into a transfer of ours comes first: its transfer_group need not be the order's id.
    return array_remove(
      marketplace._read_text(p_event.payload #> '{data,object,metadata,order_id}', 255)
      || marketplace._orders_to_lock(p_event), null);
  end if;
  return marketplace._orders_of_charge(marketplace._charge_of(p_event.charge_id, p_event.payment_intent));
end
$$;

comment on function marketplace._orders_of_event(marketplace.stripe_events) is
  'The orders an event is about, as far as they are known; of a transfer''s event also the order that Stripe''s object names.';

create or replace function marketplace._note_event(p_event marketplace.stripe_events)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  case marketplace._kind_of_event(p_event.type)
    when 'refund' then perform marketplace._note_refund(p_event);
    when 'dispute' then perform marketplace._note_dispute(p_event);
    when 'charge' then perform marketplace._note_charge_event(p_event);
    else null;
  end case;
end
$$;

comment on function marketplace._note_event(marketplace.stripe_events) is 'Notes what an event tells of its object, whatever follows from it.';

create or replace function marketplace._act_on_event(p_event marketplace.stripe_events)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_event.payload -> 'data' -> 'object';
begin
  return case marketplace._kind_of_event(p_event.type)
    when 'refund' then marketplace._act_on_refund(p_event)
    when 'dispute' then marketplace._act_on_dispute(p_event)
    when 'charge' then marketplace._act_on_charge(p_event)
    when 'transfer' then
      case when p_event.type = 'transfer.reversed' then marketplace._note_transfer_reversed(v_object)
        else marketplace._note_transfer_created(v_object) end
    else 'nothing to do: events of this type are not acted on' end;
end
$$;

comment on function marketplace._act_on_event(marketplace.stripe_events) is
  'Does what follows from an event, and returns it in words. Raises ST010 for what has to wait.';
