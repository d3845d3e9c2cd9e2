-- Refunds as events tell of them. Whatever order and number these come in, the furthest is kept.
--
-- Written only where there is news: an event that is tried again from within a call for its order finds nothing to
-- write, and waits for no row.

create or replace function marketplace._note_refund(p_event marketplace.stripe_events)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_event.payload -> 'data' -> 'object';
  v_ranks text[] := array['pending', 'requires_action', 'succeeded', 'canceled', 'failed'];
  v_status text := marketplace._read_text(v_object -> 'status', 100);
  v_amount bigint := marketplace._read_money(v_object -> 'amount');
  v_currency text := marketplace._read_text(v_object -> 'currency', 10);
  v_charge_id text := marketplace._charge_of(p_event.charge_id, p_event.payment_intent);
  v_now timestamptz := clock_timestamp();
  v_refund marketplace.stripe_refunds;
begin
  if p_event.object_id is null or v_amount is null or v_currency is null
    or array_position(v_ranks, v_status) is null then
    perform marketplace._refuse_object('refund', format('id %s, amount %s, currency %s, status %s',
      coalesce(p_event.object_id, 'none'), coalesce(v_amount::text, 'none'), coalesce(v_currency, 'none'),
      coalesce(v_status, 'none')));
  end if;
  select * into v_refund from marketplace.stripe_refunds as r where r.refund_id = p_event.object_id;
  if not found then
    insert into marketplace.stripe_refunds (
      refund_id, charge_id, payment_intent, amount, currency, status, decided_by, created_at, ended_at)
    values (
      p_event.object_id, v_charge_id, p_event.payment_intent, v_amount, v_currency, v_status,
      case when v_status = 'succeeded' then (select c.refunds_by from marketplace.stripe_control as c) end,
      marketplace._read_epoch(v_object -> 'created'), case when v_status in ('canceled', 'failed') then v_now end)
    on conflict on constraint pk_stripe_refunds do nothing;
    if found then
      return;
    end if;
    select * into strict v_refund from marketplace.stripe_refunds as r where r.refund_id = p_event.object_id;
  end if;
  if (v_refund.amount, v_refund.currency) <> (v_amount, v_currency)
    or v_refund.charge_id <> p_event.charge_id then
    perform marketplace._refuse_object('refund', format('it was %s %s of %s, and now is %s %s of %s',
      v_refund.amount, v_refund.currency, v_refund.charge_id, v_amount, v_currency, p_event.charge_id));
  end if;
  if array_position(v_ranks, v_status) <= array_position(v_ranks, v_refund.status)
    and (v_refund.charge_id is not null or v_charge_id is null)
    and (v_refund.payment_intent is not null or p_event.payment_intent is null) then
    return;
  end if;
  v_refund.status := v_ranks[greatest(array_position(v_ranks, v_status), array_position(v_ranks, v_refund.status))];
  update marketplace.stripe_refunds
  set
    charge_id = coalesce(charge_id, v_charge_id),
    payment_intent = coalesce(payment_intent, p_event.payment_intent),
    status = v_refund.status,
    decided_by = coalesce(decided_by, case when v_refund.status = 'succeeded'
      then (select c.refunds_by from marketplace.stripe_control as c) end),
    ended_at = case when v_refund.status in ('canceled', 'failed') then coalesce(ended_at, v_now) end,
    updated_at = v_now
  where refund_id = p_event.object_id;
end
$$;

comment on function marketplace._note_refund(marketplace.stripe_events) is
  'Keeps the furthest that was told of a refund: pending, requires_action, succeeded, canceled, failed. Raises ST010 for what is no refund.';
