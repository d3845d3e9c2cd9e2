-- What is known of a charge, whoever tells it: the app, a person, or Stripe. What was said once is not said otherwise.

create or replace function marketplace._merge_charge(
  p_charge_id text, p_amount bigint, p_payment_intent text, p_order_id text, p_transfer_group text, p_currency text
)
returns marketplace.charges
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_charge marketplace.charges;
  v_wrong record;
begin
  select * into v_charge from marketplace.charges as c where c.charge_id = p_charge_id;
  if not found then
    insert into marketplace.charges (charge_id, amount, payment_intent, order_id, transfer_group, currency)
    values (p_charge_id, p_amount, p_payment_intent, p_order_id, p_transfer_group, p_currency)
    on conflict on constraint pk_charges do nothing
    returning * into v_charge;
    if found then
      return v_charge;
    end if;
    select * into v_charge from marketplace.charges as c where c.charge_id = p_charge_id;
  end if;
  if v_charge.amount <> p_amount or v_charge.payment_intent <> p_payment_intent or v_charge.order_id <> p_order_id
    or v_charge.transfer_group <> p_transfer_group or v_charge.currency <> p_currency then
    select * into v_wrong from (values
      ('amount', v_charge.amount::text, p_amount::text),
      ('payment_intent', v_charge.payment_intent, p_payment_intent),
      ('order_id', v_charge.order_id, p_order_id),
      ('transfer_group', v_charge.transfer_group, p_transfer_group),
      ('currency', v_charge.currency, p_currency)
    ) as w (name, known, said)
    where w.known <> w.said limit 1;
    raise exception 'charge % is known with % %, not %', p_charge_id, v_wrong.name, v_wrong.known, v_wrong.said
      using errcode = 'ST003',
            hint = 'A charge is one payment of one amount: look it up at Stripe, and pass what it says there each time.',
            schema = 'marketplace', table = 'charges', column = v_wrong.name;
  end if;
  -- Written only where there is news: most calls bring none.
  if num_nonnulls(p_amount, p_payment_intent, p_order_id, p_transfer_group, p_currency)
    > num_nonnulls(
      case when p_amount is not null then v_charge.amount end,
      case when p_payment_intent is not null then v_charge.payment_intent end,
      case when p_order_id is not null then v_charge.order_id end,
      case when p_transfer_group is not null then v_charge.transfer_group end,
      case when p_currency is not null then v_charge.currency end) then
    update marketplace.charges
    set
      amount = coalesce(amount, p_amount),
      payment_intent = coalesce(payment_intent, p_payment_intent),
      order_id = coalesce(order_id, p_order_id),
      transfer_group = coalesce(transfer_group, p_transfer_group),
      currency = coalesce(currency, p_currency),
      updated_at = clock_timestamp()
    where charge_id = p_charge_id
    returning * into v_charge;
  end if;
  return v_charge;
end
$$;

comment on function marketplace._merge_charge(text, bigint, text, text, text, text) is
  'Adds what is said of a charge to what is known; null says nothing. Raises ST003 where the two contradict each other.';

create or replace function marketplace._note_charge(p_charge_id text, p_amount bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_amount is not null then
    perform marketplace._merge_charge(p_charge_id, p_amount, null, null, null, null);
  end if;
end
$$;

comment on function marketplace._note_charge(text, bigint) is
  'Remembers what a charge amounts to; raises ST003 if it is known with another amount.';

create or replace function marketplace.note_charge(
  p_charge_id text, p_amount bigint default null, p_payment_intent text default null,
  p_order_id text default null, p_transfer_group text default null, p_currency text default null
)
returns setof marketplace.charges
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_stripe_id('p_charge_id', p_charge_id, array['ch', 'py']);
  if p_amount is not null then
    perform marketplace._require_amount('p_amount', p_amount);
  end if;
  if p_payment_intent is not null then
    perform marketplace._require_stripe_id('p_payment_intent', p_payment_intent, array['pi']);
  end if;
  if p_order_id is not null then
    perform marketplace._require_text('p_order_id', p_order_id);
  end if;
  if p_transfer_group is not null then
    perform marketplace._require_text('p_transfer_group', p_transfer_group);
  end if;
  if p_currency is not null then
    perform marketplace._require_currency('p_currency', p_currency);
  end if;
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  perform marketplace._lock_payment(
    marketplace._orders_of_charge(p_charge_id) || p_order_id || p_transfer_group,
    array[p_charge_id, p_payment_intent]);
  perform marketplace._merge_charge(
    p_charge_id, p_amount, p_payment_intent, p_order_id, p_transfer_group, p_currency);
  perform marketplace._retry_events_of_charge(p_charge_id);
  return query select c.* from marketplace.charges as c where c.charge_id = p_charge_id;
end
$$;

comment on function marketplace.note_charge(text, bigint, text, text, text, text) is
  'Says of a charge what it amounts to (minor units of its own currency), which payment intent it is of, and which order it paid; what is null is not said. Events that waited for that are tried again. Raises ST003 where it contradicts what is known.';
