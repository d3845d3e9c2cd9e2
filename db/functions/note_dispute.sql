-- A dispute as events, or a person, tell of it. Whatever order and number these come in, the furthest is kept.
--
-- What Stripe took for it and gave back it lists as balance transactions, in every event: less than 0 was withdrawn,
-- more came back. A dispute that was won in part is `lost`, and only the second one says how much came back.

create or replace function marketplace._note_dispute(p_event marketplace.stripe_events)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_event.payload -> 'data' -> 'object';
  v_ranks text[] := array['warning_needs_response', 'warning_under_review', 'needs_response', 'under_review',
    'warning_closed', 'prevented', 'charge_refunded', 'lost', 'won'];
  v_status text := marketplace._read_text(v_object -> 'status', 100);
  v_amount bigint := marketplace._read_money(v_object -> 'amount');
  v_currency text := marketplace._read_text(v_object -> 'currency', 10);
  v_old marketplace.stripe_disputes;
  v_new marketplace.stripe_disputes;
begin
  if p_event.object_id is null or v_amount is null or v_currency is null or v_status is null then
    perform marketplace._refuse_object('dispute', format('id %s, amount %s, currency %s, status %s',
      coalesce(p_event.object_id, 'none'), coalesce(v_amount::text, 'none'), coalesce(v_currency, 'none'),
      coalesce(v_status, 'none')));
  end if;
  select * into v_old from marketplace.stripe_disputes as d where d.dispute_id = p_event.object_id;
  if not found then
    insert into marketplace.stripe_disputes (
      dispute_id, charge_id, payment_intent, amount, currency, status, funds_withdrawn, funds_reinstated, remaining,
      created_at)
    values (
      p_event.object_id, marketplace._charge_of(p_event.charge_id, p_event.payment_intent), p_event.payment_intent,
      v_amount, v_currency, v_status,
      p_event.type = 'charge.dispute.funds_withdrawn' or marketplace._lists_withdrawal(v_object),
      p_event.type = 'charge.dispute.funds_reinstated', marketplace._read_remaining(v_object),
      marketplace._read_epoch(v_object -> 'created'))
    on conflict on constraint pk_stripe_disputes do nothing;
    if found then
      return;
    end if;
    select * into strict v_old from marketplace.stripe_disputes as d where d.dispute_id = p_event.object_id;
  end if;
  if v_old.currency <> v_currency or v_old.charge_id <> p_event.charge_id then
    perform marketplace._refuse_object('dispute', format('it was in %s of %s, and now is in %s of %s',
      v_old.currency, v_old.charge_id, v_currency, p_event.charge_id));
  end if;
  v_new := v_old;
  v_new.charge_id := coalesce(
    v_old.charge_id, marketplace._charge_of(p_event.charge_id, p_event.payment_intent));
  v_new.payment_intent := coalesce(v_old.payment_intent, p_event.payment_intent);
  -- Of two amounts the smaller: no more is asked of sellers than Stripe is sure to have taken.
  v_new.amount := least(v_old.amount, v_amount);
  v_new.remaining := least(v_old.remaining, marketplace._read_remaining(v_object));
  if (coalesce(array_position(v_ranks, v_status), 0), v_status)
    > (coalesce(array_position(v_ranks, v_old.status), 0), v_old.status) then
    v_new.status := v_status;
  end if;
  v_new.funds_withdrawn := v_old.funds_withdrawn or p_event.type = 'charge.dispute.funds_withdrawn'
    or marketplace._lists_withdrawal(v_object);
  v_new.funds_reinstated := v_old.funds_reinstated or p_event.type = 'charge.dispute.funds_reinstated';
  if v_new is distinct from v_old then
    update marketplace.stripe_disputes
    set
      charge_id = v_new.charge_id, payment_intent = v_new.payment_intent, amount = v_new.amount,
      status = v_new.status, funds_withdrawn = v_new.funds_withdrawn, funds_reinstated = v_new.funds_reinstated,
      remaining = v_new.remaining, updated_at = clock_timestamp()
    where dispute_id = p_event.object_id;
  end if;
end
$$;

comment on function marketplace._note_dispute(marketplace.stripe_events) is
  'Keeps the furthest that was told of a dispute: whether its funds were withdrawn and reinstated, and what remains of it. Raises ST010 for what is no dispute.';

create or replace function marketplace._moved_by_dispute(p_object jsonb)
returns table (amount numeric, currency text)
language plpgsql
immutable
rows 2
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(p_object -> 'balance_transactions') is distinct from 'array' then
    return;
  end if;
  return query
    select
      case when jsonb_typeof(t.said -> 'amount') = 'number' then trunc((t.said ->> 'amount')::numeric) end,
      lower(t.said ->> 'currency')
    from jsonb_array_elements(p_object -> 'balance_transactions') as t (said);
end
$$;

comment on function marketplace._moved_by_dispute(jsonb) is
  'What a dispute''s balance transactions moved, in minor units of their own currency: less than 0 was withdrawn, more came back; null for what cannot be read.';

create or replace function marketplace._lists_withdrawal(p_object jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from marketplace._moved_by_dispute(p_object) as m where m.amount < 0);
end
$$;

comment on function marketplace._lists_withdrawal(jsonb) is
  'True if a dispute lists that its funds were withdrawn, whatever the type of the event.';

create or replace function marketplace._read_remaining(p_object jsonb)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_gone numeric;
  v_back numeric;
begin
  -- In the currency of the platform's balance, which need not be the dispute's: then nobody can say by what rate.
  if exists (
    select from marketplace._moved_by_dispute(p_object) as m
    where coalesce(m.amount not between -999999999999 and 999999999999, true)
      or m.currency is distinct from lower(p_object ->> 'currency')
  ) then
    return null;
  end if;
  select coalesce(-sum(m.amount) filter (where m.amount < 0), marketplace._read_money(p_object -> 'amount')),
    sum(m.amount) filter (where m.amount > 0)
  into v_gone, v_back
  from marketplace._moved_by_dispute(p_object) as m;
  return case when v_back is not null then greatest(0, least(v_gone - v_back, 999999999999)) end;
end
$$;

comment on function marketplace._read_remaining(jsonb) is
  'What is still gone of a dispute of which some came back, in minor units; null where nothing came back, or it is not told how much in the dispute''s currency.';

create or replace function marketplace._left_of_dispute(p_dispute_id text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select least(d.amount, d.remaining) from marketplace.stripe_disputes as d where d.dispute_id = p_dispute_id);
end
$$;

comment on function marketplace._left_of_dispute(text) is
  'What a dispute comes to, less what came back, in minor units; null for what is no dispute.';
