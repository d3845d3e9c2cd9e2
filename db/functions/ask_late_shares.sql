-- A transfer that was recorded when some of its charge had gone back already: who asks for which share of it.

create or replace function marketplace._ask_late_shares(
  p_charge marketplace.charges, p_order_id text, p_causes marketplace.counted_cause[], p_by_app bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_cause marketplace.counted_cause;
  v_gone bigint;
begin
  -- Of a transfer recorded since. Each refund and dispute asks for its own share of it: should one fail or be won, that
  -- much is given back, and no more.
  select sum(c.amount) into v_gone from unnest(p_causes) as c where not c.is_to_ask;
  if v_gone is null or not exists (
    select from marketplace._shares_of_charge(p_charge, p_order_id, v_gone, p_by_app) as s where s.missing > 0
  ) then
    return;
  end if;
  v_gone := 0;
  foreach v_cause in array p_causes loop
    exit when v_cause.is_to_ask;
    v_gone := v_gone + v_cause.amount;
    if exists (
      select from marketplace._shares_of_charge(p_charge, p_order_id, v_gone, p_by_app) as s where s.missing > 0
    ) and exists (
      select from marketplace.reversal_requests as r
      where r.asked_for = v_cause.cause_id and r.order_id = p_order_id and r.withdrawn_at is null
    ) then
      perform marketplace._ask(v_cause.cause_id, v_cause.reason, p_order_id, null, p_charge, v_gone, p_by_app);
    end if;
  end loop;
end
$$;

comment on function marketplace._ask_late_shares(
  marketplace.charges, text, marketplace.counted_cause[], bigint
) is 'Asks for what could not be asked yet when the refunds and disputes that were asked of the order were: for each its own share.';
