-- What came back of a dispute, where Stripe's event did not say, or only in the currency of the platform's balance.

create or replace function marketplace.note_reinstated(p_dispute_id text, p_amount bigint)
returns setof marketplace.stripe_disputes
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dispute marketplace.stripe_disputes;
  v_charge_id text;
begin
  perform marketplace._require_stripe_id('p_dispute_id', p_dispute_id, array['dp', 'du']);
  if p_amount is distinct from 0 then
    perform marketplace._require_amount('p_amount', p_amount);
  end if;
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  select * into v_dispute from marketplace.stripe_disputes as d where d.dispute_id = p_dispute_id;
  if not found then
    raise exception 'dispute % is not known', p_dispute_id
      using errcode = 'invalid_parameter_value',
            hint = 'Pass a dispute (dp_…, du_…) that an event has told of: select * from marketplace.stripe_disputes;',
            column = 'p_dispute_id';
  end if;
  v_charge_id := marketplace._charge_of(v_dispute.charge_id, v_dispute.payment_intent);
  perform marketplace._lock_payment(
    marketplace._orders_of_charge(v_charge_id)
      || array(select r.order_id from marketplace._requests_for(p_dispute_id) as r),
    array[v_charge_id, v_dispute.payment_intent]);
  select * into strict v_dispute from marketplace.stripe_disputes as d where d.dispute_id = p_dispute_id for no key update;
  if p_amount > v_dispute.amount then
    raise exception 'dispute % is of % %, not of %', p_dispute_id, v_dispute.amount, v_dispute.currency, p_amount
      using errcode = 'invalid_parameter_value',
            hint = 'Pass what came back of it, in minor units of the dispute''s currency; 0 if nothing did.',
            column = 'p_amount';
  elsif v_dispute.remaining < v_dispute.amount - p_amount then
    raise exception 'dispute % is known with % % left of it, not %',
      p_dispute_id, v_dispute.remaining, v_dispute.currency, v_dispute.amount - p_amount
      using errcode = 'ST003',
            hint = 'What came back is the sellers'' again and is not taken a second time: ask for it by request_reversal().',
            schema = 'marketplace', table = 'stripe_disputes', column = 'remaining';
  end if;
  if v_dispute.remaining is distinct from v_dispute.amount - p_amount then
    update marketplace.stripe_disputes
    set remaining = v_dispute.amount - p_amount, updated_at = clock_timestamp()
    where dispute_id = p_dispute_id returning * into v_dispute;
    perform marketplace._settle_dispute(v_dispute, v_charge_id);
    perform marketplace._retry_events_of_charge(v_charge_id);
  end if;
  return query select d.* from marketplace.stripe_disputes as d where d.dispute_id = p_dispute_id;
end
$$;

comment on function marketplace.note_reinstated(text, bigint) is
  'Says how much of a dispute''s funds came back, in minor units of the dispute''s currency, where Stripe''s event did not; 0 if nothing did. The event that waited for that is acted on. Raises ST003 for less than is known.';
