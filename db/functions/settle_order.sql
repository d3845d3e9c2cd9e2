-- One order's part in settling a charge: which request asks for which share; settle_charge.sql says why.

create or replace function marketplace._settle_order(p_charge marketplace.charges, p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_causes marketplace.counted_cause[] := marketplace._counted_causes(p_charge.charge_id, p_order_id);
  v_by_app bigint := marketplace._gone_by_app(p_charge.charge_id, v_causes);
  v_cause marketplace.counted_cause;
  v_gone bigint := 0;
  v_sums record;
begin
  perform marketplace._require_no_evidence_under_way(p_order_id);
  perform marketplace._ask_late_shares(p_charge, p_order_id, v_causes, v_by_app);
  -- Those that have their request first: each later one asks for what they left.
  foreach v_cause in array v_causes loop
    v_gone := v_gone + v_cause.amount;
    if v_cause.is_to_ask then
      perform marketplace._ask(v_cause.cause_id, v_cause.reason, p_order_id, null, p_charge, v_gone, v_by_app);
    end if;
  end loop;

  select coalesce(sum(s.over), 0) as over, coalesce(sum(s.missing), 0) as missing into v_sums
  from marketplace._shares_of_charge(p_charge, p_order_id, v_gone, v_by_app) as s;
  if v_sums.over > 0 then
    perform marketplace._ask_for_less(p_charge, p_order_id, v_gone, v_by_app);
  end if;
  if v_sums.missing > 0 and (v_sums.over = 0 or exists (
    select from marketplace._shares_of_charge(p_charge, p_order_id, v_gone, v_by_app) as s where s.missing > 0
  )) then
    -- A share that nobody could ask before: left by a refund that failed.
    select r.asked_for, r.reason into v_cause.cause_id, v_cause.reason
    from marketplace.reversal_requests as r
    where r.order_id = p_order_id and r.withdrawn_at is null
      and r.asked_for = any (array(select c.cause_id from unnest(v_causes) as c))
    order by r.requested_at desc, r.reversal_request_id desc
    limit 1;
    if found then
      perform marketplace._ask(v_cause.cause_id, v_cause.reason, p_order_id, null, p_charge, v_gone, v_by_app);
    end if;
  end if;
end
$$;

comment on function marketplace._settle_order(marketplace.charges, text) is
  'Asks for what is still to be asked of an order''s transfers that the charge paid for. The order and its rows are locked. Raises ST010 while it is looked up what was reversed elsewhere.';

create or replace function marketplace._require_no_evidence_under_way(p_order_id text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  -- Found, it is a part of the share that need not be asked for; not found, it has to be. Not `is null`: without
  -- statistics the planner would walk the partial index of all that is on its way back, instead of the order's own.
  select t.id into v_id
  from marketplace.seller_transfers as t
  inner join marketplace.reversal_requests as r on r.reversal_request_id = t.reversal_request_id
  where t.order_id = p_order_id and t.status = 'reversal_pending' and num_nulls(t.parked_reason) = 1 and r.is_evidence
  limit 1;
  if found then
    perform marketplace._not_yet(format('transfer %s may have been reversed elsewhere, and is looked up', v_id));
  end if;
end
$$;

comment on function marketplace._require_no_evidence_under_way(text) is
  'Raises ST010 while a row of the order is looked up that may have been reversed elsewhere.';

create or replace function marketplace._counted_causes(p_charge_id text, p_order_id text)
returns marketplace.counted_cause[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select (c.cause_id, c.reason, c.amount, q.is_to_ask)::marketplace.counted_cause
    from marketplace._causes_of_charge(p_charge_id) as c
    cross join lateral (
      select not exists (
        select from marketplace.reversal_requests as r where r.asked_for = c.cause_id and r.order_id = p_order_id
      ) as is_to_ask
    ) as q
    where not c.is_of_app
    order by q.is_to_ask, c.created_at, c.cause_id);
end
$$;

comment on function marketplace._counted_causes(text, text) is
  'What went back of the charge and is for events to ask: first what has been asked of the order for, then what is to be, in the order in which it happened.';

create or replace function marketplace._gone_by_app(p_charge_id text, p_causes marketplace.counted_cause[])
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Where the app decides on all refunds, a dispute asks for its own share alone, whatever the app asked for others.
  if not exists (select from unnest(p_causes) as c where c.reason = 'refund') then
    return null;
  end if;
  return (
    select coalesce(sum(c.amount), 0)::bigint
    from marketplace._causes_of_charge(p_charge_id) as c
    where c.is_of_app);
end
$$;

comment on function marketplace._gone_by_app(text, marketplace.counted_cause[]) is
  'What went back of the charge and is for the app to ask, or was asked by it; null if what the app asks does not count.';
