-- What an event is about, before anything is done for it.

create or replace function marketplace._read_id(p_value jsonb)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- An object where an id was expected is the object of that id, expanded.
  if jsonb_typeof(p_value) = 'object' then
    return marketplace._read_id(p_value -> 'id');
  end if;
  -- Lengths apart: counted repetitions make a pattern twenty times as slow, and this one is asked for every event.
  return case when jsonb_typeof(p_value) = 'string' and p_value #>> '{}' ~ '^[a-z]+_[A-Za-z0-9_]+$'
    and position('_' in p_value #>> '{}') <= 11
    and length(p_value #>> '{}') - position('_' in p_value #>> '{}') <= 240
    then p_value #>> '{}' end;
end
$$;

comment on function marketplace._read_id(jsonb) is 'The id of a Stripe object, or of the object that is there; null if there is none.';

create or replace function marketplace._read_epoch(p_value jsonb)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when jsonb_typeof(p_value) = 'number' and (p_value #>> '{}')::numeric between 0 and 253402300799
    then to_timestamp((p_value #>> '{}')::double precision) end;
end
$$;

comment on function marketplace._read_epoch(jsonb) is 'A time of Stripe''s, given in seconds since 1970; null if it is none.';

create or replace function marketplace._read_event(p_event jsonb, p_raw_sha256 text)
returns marketplace.stripe_events
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_event -> 'data' -> 'object';
  v_kind text := marketplace._kind_of_event(p_event ->> 'type');
  v_event marketplace.stripe_events;
begin
  v_event.event_id := p_event ->> 'id';
  v_event.type := p_event ->> 'type';
  v_event.livemode := case jsonb_typeof(p_event -> 'livemode') when 'boolean' then (p_event ->> 'livemode')::boolean end;
  v_event.account := marketplace._read_text(p_event -> 'account', 255);
  v_event.created_at := marketplace._read_epoch(p_event -> 'created');
  v_event.received_at := clock_timestamp();
  v_event.last_tried_at := v_event.received_at;
  v_event.attempts := 0;
  v_event.payload := p_event;
  v_event.raw_sha256 := p_raw_sha256;
  if v_kind is not null then
    v_event.object_id := marketplace._read_id(v_object -> 'id');
    v_event.payment_intent := marketplace._read_id(v_object -> 'payment_intent');
    v_event.charge_id := case v_kind
      when 'charge' then v_event.object_id
      when 'transfer' then null
      else marketplace._read_id(v_object -> 'charge') end;
  end if;
  v_event.detail := marketplace._why_ignored(v_event, v_kind);
  v_event.state := case when v_event.detail is null then 'kept' else 'ignored' end;
  return v_event;
end
$$;

comment on function marketplace._read_event(jsonb, text) is
  'The row of an event that has just come: ignored with the reason, or kept until it is tried.';

create or replace function marketplace._why_ignored(p_event marketplace.stripe_events, p_kind text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
begin
  select * into strict v_control from marketplace.stripe_control;
  return case
    when v_control.livemode is not null and p_event.livemode is distinct from v_control.livemode then
      format('It is of %s; this database belongs to %s.',
        case when p_event.livemode then 'live mode' when not p_event.livemode then 'test mode' else 'no known mode' end,
        marketplace._account_in_words(v_control.stripe_account, v_control.livemode))
    when p_event.account is distinct from v_control.stripe_account and p_event.account is not null then
      format('It is of account %s, and not of the platform''s own.', p_event.account)
    when p_kind is null then 'Events of this type are not acted on.'
  end;
end
$$;

comment on function marketplace._why_ignored(marketplace.stripe_events, text) is
  'Why nothing is to be done for an event, in words; null if something may be.';
