-- The sellers' share of what went back to the buyer, per transfer of the charge: original amount × what went back so
-- far ÷ the charge's amount, rounded half up to what Stripe takes, less what was asked before; all of it once the whole
-- charge went back.
--
-- Computed anew from all that is known whenever something of it changes, and only the difference is asked; so whatever
-- order events come in, the sums per transfer end the same. Where a refund fails after others were asked, their rounded
-- shares may not add up to the share of what stands: what lacks is asked beside them, what is too much is asked again
-- for less, as long as no reversal of it was sent; and in any case where a part of its dispute came back since.

create or replace function marketplace._settle_charge(p_charge_id text, p_payment_intent text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_charge marketplace.charges;
  v_orders text[] := marketplace._orders_of_charge(p_charge_id);
  v_order_id text;
  v_hint text;
begin
  if p_charge_id is null then
    raise exception 'no charge is known for payment intent %', coalesce(p_payment_intent, '(none named)')
      using errcode = 'ST010', hint = format(
        'select * from marketplace.note_charge(p_charge_id => ''ch_…'', p_payment_intent => %L, p_order_id => ''…'', p_amount => …);',
        coalesce(p_payment_intent, 'pi_…'));
  end if;
  if not exists (select from marketplace._causes_of_charge(p_charge_id)) then
    return;
  end if;
  if not exists (select from marketplace._transfers_of_charge(p_charge_id, v_orders)) then
    v_hint := format('select * from marketplace.note_charge(p_charge_id => %L, p_order_id => ''…'');', p_charge_id);
    if v_orders <> '{}' then
      raise exception 'order % has no transfer of charge % yet', v_orders[1], p_charge_id
        using errcode = 'ST010', hint = 'Record the order''s transfers: the event is tried again then.';
    end if;
    raise exception 'no order is known for charge %', p_charge_id using errcode = 'ST010', hint = v_hint;
  end if;
  select * into v_charge from marketplace.charges as c where c.charge_id = p_charge_id;
  if v_charge.amount is null then
    raise exception 'it is not known what charge % amounted to', p_charge_id
      using errcode = 'ST010', hint = format(
        'select * from marketplace.note_charge(p_charge_id => %L, p_amount => …);', p_charge_id);
  end if;
  perform marketplace._require_one_currency(v_charge);
  perform marketplace._lock_rows(v_orders);
  foreach v_order_id in array v_orders loop
    perform marketplace._settle_order(v_charge, v_order_id);
  end loop;
end
$$;

comment on function marketplace._settle_charge(text, text) is
  'Asks for what is still to be asked of the charge''s transfers. Its orders and payment are locked. Raises ST010 where something is not known yet.';

create or replace function marketplace._require_one_currency(p_charge marketplace.charges)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_currency text := p_charge.currency;
  v_other text;
begin
  -- A refund is in its charge's currency; a dispute need not be.
  if v_currency is null then
    select c.currency into v_currency from marketplace._causes_of_charge(p_charge.charge_id) as c
    where not c.is_of_app order by c.reason desc, c.created_at, c.cause_id limit 1;
  end if;
  select c.cause_id into v_other from marketplace._causes_of_charge(p_charge.charge_id) as c
  where not c.is_of_app and c.currency <> v_currency limit 1;
  if found then
    raise exception 'charge % is in %, and % in another currency', p_charge.charge_id, v_currency, v_other
      using errcode = 'ST010', hint = format(
        'Say what is to be taken back of which transfer: request_reversal(p_order_id, %L, p_allocation => …).', v_other);
  end if;
end
$$;

comment on function marketplace._require_one_currency(marketplace.charges) is
  'Raises ST010 where what events are to ask for is not all in one currency, the charge''s if that is known.';
