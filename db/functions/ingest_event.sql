-- The inbox: what Stripe delivers is stored once and acted on, in any order, any number of times.
--
-- Stripe delivers at least once, unordered, and gives up after three days; so nothing that is an event is refused. What
-- cannot be acted on is kept with its error and tried again. Only what another try mends by itself, a deadlock or a
-- server that stops, is an error to the caller: the endpoint answers no 2xx and Stripe delivers again.
--
-- Written once, with what it came to: an event is the longest row there is, and most are stored to no other purpose.
--
-- All that is asked on the way is found by its key, whatever the key: a plan made once will do, and making it takes
-- several times as long as running it. That goes for everything that is called from here.
--
-- Lock order: orders, payments, the event, then what it tells of and the order's rows. One event per transaction.

create or replace function marketplace.ingest_stripe_event(p_event jsonb, p_raw_sha256 text default null)
returns setof marketplace.ingested_event
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_event marketplace.stripe_events;
  v_known marketplace.stripe_events;
  v_is_new boolean;
begin
  perform marketplace._require_event(p_event, p_raw_sha256);
  perform marketplace._require_read_committed();
  return query
    select e.event_id, e.type, 'already_known', e.detail
    from marketplace.stripe_events as e where e.event_id = p_event ->> 'id' and e.state <> 'kept';
  if found then
    return;
  end if;

  v_event := marketplace._read_event(p_event, p_raw_sha256);
  if v_event.state = 'kept' then
    perform marketplace._notice_change();
    perform marketplace._lock_event(v_event);
    v_is_new := not exists (select from marketplace.stripe_events as e where e.event_id = v_event.event_id);
    if v_is_new then
      v_event := marketplace._try_event(v_event);
    else
      -- Never waits for its row: who has it locked is trying it. Of this state, not of a constant: see _kept_for().
      select * into v_known from marketplace.stripe_events as e
      where e.event_id = v_event.event_id and e.state = v_event.state for no key update skip locked;
      if found then
        v_event := marketplace._write_try(marketplace._try_event(v_known));
      end if;
    end if;
  end if;
  if v_known.event_id is null then
    insert into marketplace.stripe_events values (v_event.*) on conflict on constraint pk_stripe_events do nothing;
    if not found then
      return query
        select e.event_id, e.type, 'already_known', e.detail
        from marketplace.stripe_events as e where e.event_id = v_event.event_id;
      return;
    end if;
  end if;
  -- A charge says what others wait for, and of a dispute one event what another did not.
  if v_event.state = 'acted' and marketplace._kind_of_event(v_event.type) in ('charge', 'dispute') then
    perform marketplace._retry_events_of_charge(marketplace._charge_of(v_event.charge_id, v_event.payment_intent));
  end if;
  return next (v_event.event_id, v_event.type, v_event.state, v_event.detail)::marketplace.ingested_event;
end
$$;

comment on function marketplace.ingest_stripe_event(jsonb, text) is
  'Stores an event of Stripe''s once and acts on it; call it in a transaction of its own. p_event is the event, p_raw_sha256 the SHA-256 of the bytes it came in. Returns what became of it: acted, ignored, kept (with the reason; tried again by itself and by retry_events), or already_known. Raises 22004 or 22023 for what is no event; everything else is stored.';

create or replace function marketplace._require_event(p_event jsonb, p_raw_sha256 text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  if p_event is null then
    raise exception 'p_event is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass the JSON body that Stripe sent.', column = 'p_event';
  end if;
  v_problem := case
    -- Refused and not stored: of a refund it says neither the amount nor what became of it, and Stripe's answer to a 4xx
    -- is an endpoint that is shown to fail.
    when p_event ->> 'object' = 'v2.core.event' then 'is a thin event, which does not say what happened'
    when jsonb_typeof(p_event) <> 'object' or p_event -> 'object' is distinct from '"event"'::jsonb
      then 'is no event'
    when jsonb_typeof(p_event -> 'id') is distinct from 'string'
      -- Counted apart: a {1,250} in the pattern takes twenty times as long.
      or p_event ->> 'id' !~ '^evt_[A-Za-z0-9_]+$' or length(p_event ->> 'id') > 254 then 'has no id of an event'
    when jsonb_typeof(p_event -> 'type') is distinct from 'string'
      or btrim(p_event ->> 'type') = '' or length(p_event ->> 'type') > 255
      or p_event ->> 'type' ~ '[[:cntrl:]]' then 'has no type'
    when jsonb_typeof(p_event -> 'data') is distinct from 'object'
      or jsonb_typeof(p_event -> 'data' -> 'object') is distinct from 'object' then 'has no data.object'
    -- As text it is written out to be measured: what is far from too long is not.
    when pg_column_size(p_event) > 65536 and octet_length(p_event::text) > 1048576 then 'is longer than a megabyte'
  end;
  if v_problem is not null then
    raise exception 'p_event %', v_problem
      using errcode = 'invalid_parameter_value',
            hint = 'Pass the JSON body of a webhook with snapshot payloads, or an element of GET /v1/events, as Stripe sent it.',
            column = 'p_event';
  end if;
  if length(p_raw_sha256) <> 64 or p_raw_sha256 ~ '[^0-9a-f]' then
    raise exception 'p_raw_sha256 is no SHA-256'
      using errcode = 'invalid_parameter_value', hint = 'Pass 64 hexadecimal digits in lower case, or nothing.',
            column = 'p_raw_sha256';
  end if;
end
$$;

comment on function marketplace._require_event(jsonb, text) is
  'Raises 22004 or 22023 for what is not an event of Stripe''s.';
