-- A charge as events tell of it, and what of any object can be read.

create or replace function marketplace._read_money(p_value jsonb)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when jsonb_typeof(p_value) = 'number' and (p_value #>> '{}')::numeric between 1 and 999999999999
    and (p_value #>> '{}')::numeric = trunc((p_value #>> '{}')::numeric) then (p_value #>> '{}')::numeric::bigint end;
end
$$;

comment on function marketplace._read_money(jsonb) is 'An amount in minor units; null if it is none.';

create or replace function marketplace._refuse_object(p_kind text, p_problem text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'no % that can be acted on: %', p_kind, p_problem
    using errcode = 'ST010',
          hint = format('Look the %s up at Stripe; what it means for a seller can be asked for by request_reversal().', p_kind);
end
$$;

comment on function marketplace._refuse_object(text, text) is 'Raises ST010 for an object that says something it cannot.';

create or replace function marketplace._note_charge_event(p_event marketplace.stripe_events)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_event.payload -> 'data' -> 'object';
  v_captured bigint := marketplace._read_money(v_object -> 'amount_captured');
  v_refunded bigint := coalesce(marketplace._read_money(v_object -> 'amount_refunded'), 0);
  v_amount bigint := marketplace._read_money(v_object -> 'amount');
  v_group text := marketplace._read_text(v_object -> 'transfer_group', 255);
  v_currency text := nullif(left(lower(marketplace._read_text(v_object -> 'currency', 10)), 10), '');
  v_uncaptured bigint := v_amount - v_captured;
  v_is_new boolean := false;
begin
  if coalesce(p_event.object_id, '') !~ '^(ch|py)_[A-Za-z0-9]+$' or length(p_event.object_id) > 243
    or v_amount is null then
    perform marketplace._refuse_object('charge', format('id %s, amount %s', p_event.object_id, v_amount));
  end if;
  if v_object ->> 'status' = 'failed' then
    return;
  end if;
  -- What the buyer paid is what was captured, which may be less than what was authorized; not captured, it is not known
  -- yet, unless there is something to refund.
  if v_object -> 'captured' = 'true'::jsonb then
    v_amount := coalesce(marketplace._grown(p_event.object_id, v_captured, v_uncaptured), v_amount);
  elsif v_object -> 'captured' = 'false'::jsonb and v_refunded = 0 then
    v_amount := null;
  end if;
  if not exists (select from marketplace.charges as c where c.charge_id = p_event.object_id) then
    insert into marketplace.charges (
      charge_id, amount, payment_intent, transfer_group, currency, refunded, told_at)
    values (
      p_event.object_id, v_amount, p_event.payment_intent, v_group, v_currency, v_refunded, p_event.created_at)
    on conflict on constraint pk_charges do nothing;
    v_is_new := found;
  end if;
  if not v_is_new then
    perform marketplace._merge_charge(
      p_event.object_id, v_amount, p_event.payment_intent, null, v_group, v_currency);
  end if;
  -- Most are captured as they succeed, all of them: that says nothing more.
  if v_object -> 'captured' = 'true'::jsonb and v_uncaptured >= 0 and p_event.type <> 'charge.succeeded' then
    perform marketplace._note_capture(p_event, v_captured, v_uncaptured, v_refunded);
  end if;
  if not v_is_new then
    update marketplace.charges as c
    set refunded = v_refunded, told_at = p_event.created_at, updated_at = clock_timestamp()
    where c.charge_id = p_event.object_id
      and (c.refunded is null or (c.told_at, c.refunded) < (p_event.created_at, v_refunded));
  end if;
end
$$;

comment on function marketplace._note_charge_event(marketplace.stripe_events) is
  'Adds what an event says of a charge to what is known of it. Raises ST003 where the two contradict each other, ST010 for what is no charge.';

create or replace function marketplace._act_on_charge(p_event marketplace.stripe_events)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_refund marketplace.stripe_refunds;
begin
  if p_event.payload -> 'data' -> 'object' ->> 'status' = 'failed' then
    return 'nothing to do: the payment failed';
  end if;
  for v_refund in
    select r.* from marketplace.charges as c
    inner join marketplace.stripe_refunds as r on r.charge_id = c.charge_id and r.amount = c.uncaptured
    where c.charge_id = p_event.object_id and r.status = 'succeeded'
    order by r.created_at, r.refund_id
  loop
    -- Of several that fit, one: asked of each when it is its turn.
    continue when not coalesce(marketplace._is_release(v_refund), false);
    perform marketplace._withdraw_cause(v_refund.refund_id, marketplace._released_in_words(v_refund));
    perform marketplace._settle_what_stands(v_refund.charge_id);
  end loop;
  return format('charge %s is noted', p_event.object_id);
end
$$;

comment on function marketplace._act_on_charge(marketplace.stripe_events) is
  'What an event of a charge comes to by itself; refunds and disputes that waited for it are tried again after it.';
