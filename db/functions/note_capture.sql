-- A charge may be captured in part, or in several parts. What the buyer paid is what was captured by now; the rest is
-- released, and before API version 2025-03-31 that came as a refund of its own, though nothing went back to anybody.

create or replace function marketplace._grown(p_charge_id text, p_captured bigint, p_uncaptured bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_charge marketplace.charges;
begin
  select * into v_charge from marketplace.charges as c where c.charge_id = p_charge_id;
  if v_charge.amount <> v_charge.captured
    or coalesce(v_charge.captured + v_charge.uncaptured <> p_captured + p_uncaptured, true)
  then
    return p_captured;
  elsif p_captured <= v_charge.captured then
    return v_charge.captured;
  end if;
  -- What was asked of sellers was a share of less: a share that was reversed already is not worked out anew.
  if exists (
    select from marketplace._causes_of_charge(p_charge_id) as c
    inner join marketplace.reversal_requests as r on r.asked_for = c.cause_id
  ) then
    raise exception 'charge % was captured in parts, % and now % in all, and refunded or disputed in between',
      p_charge_id, v_charge.captured, p_captured
      using errcode = 'ST003',
            hint = 'What was asked of the sellers was a share of less: give back what is too much, withdraw_reversal_request() and request_reversal() with an allocation.',
            schema = 'marketplace', table = 'charges', column = 'amount';
  end if;
  update marketplace.charges set amount = p_captured, updated_at = clock_timestamp() where charge_id = p_charge_id;
  return p_captured;
end
$$;

comment on function marketplace._grown(text, bigint, bigint) is
  'What the charge amounts to now that Stripe tells of so much captured: the most it told, also where older events come later. Raises ST003 where shares of less were asked already.';

create or replace function marketplace._note_capture(
  p_event marketplace.stripe_events, p_captured bigint, p_uncaptured bigint, p_refunded bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  -- At the capture nothing can have been refunded but what it released; later it may be either.
  v_is_released boolean := case
    when p_uncaptured > 0 and p_refunded < p_uncaptured then false
    when p_uncaptured > 0 and p_event.type = 'charge.captured' then true
  end;
  v_captured_at timestamptz := case when p_event.type = 'charge.captured' then p_event.created_at end;
begin
  update marketplace.charges as c
  set
    captured = greatest(c.captured, p_captured),
    uncaptured = least(c.uncaptured, p_uncaptured),
    is_released = coalesce(c.is_released or v_is_released, c.is_released, v_is_released),
    captured_at = greatest(c.captured_at, v_captured_at)
  where c.charge_id = p_event.object_id and (
    c.captured is null or c.captured < p_captured
    or (c.is_released is null and v_is_released is not null) or (v_is_released and not c.is_released)
    or (c.captured_at is null and v_captured_at is not null) or c.captured_at < v_captured_at);
end
$$;

comment on function marketplace._note_capture(marketplace.stripe_events, bigint, bigint, bigint) is
  'Notes what was captured of a charge and what was not, and whether that was told as a refund.';
