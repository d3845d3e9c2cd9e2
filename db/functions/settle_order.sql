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
    -- A share that nobody could ask before: of a transfer recorded since, or left by a refund that failed.
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
  'Asks for what is still to be asked of an order''s transfers that the charge paid for. The order and its rows are locked.';

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

create or replace function marketplace._ask_for_less(
  p_charge marketplace.charges, p_order_id text, p_gone bigint, p_by_app bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_request marketplace.reversal_requests;
  v_ids bigint[];
  v_done bigint[] := array[]::bigint[];
begin
  for v_round in 1..100 loop
    v_ids := null;
    select marketplace._families_of_key(s.root_id) into v_ids
    from marketplace._shares_of_charge(p_charge, p_order_id, p_gone, p_by_app) as s
    where s.over > 0 and s.root_id <> all (v_done)
    order by s.root_id limit 1;
    exit when not found;
    select r.* into v_request
    from marketplace.reversal_request_lines as l
    inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
    where l.transfer_id = any (v_ids) and r.asked_by = 'events' and r.withdrawn_at is null
      -- A quantum too much is no reason to send money back and forth: with a reversal sent, the next refund makes it up.
      and not exists (
        select from marketplace.seller_transfers as t
        where t.reversal_request_id = r.reversal_request_id and t.order_id = p_order_id and (
          t.status = 'reversed'
          or (t.status = 'reversal_pending' and (
            t.lease_token is not null or t.call_last_sent_at is not null or t.call_unknown))
          or (t.status = 'permanently_failed' and t.completed_at is not null)))
    order by r.requested_at desc, r.reversal_request_id desc
    limit 1;
    if not found then
      v_done := v_done || v_ids[1];
      continue;
    end if;
    perform marketplace._withdraw_request(
      v_request.reversal_request_id, 'asked again for less: another refund of the charge failed');
    perform marketplace._ask(v_request.asked_for, v_request.reason, p_order_id, v_request.reversal_request_id,
      p_charge, p_gone, p_by_app);
  end loop;
end
$$;

comment on function marketplace._ask_for_less(marketplace.charges, text, bigint, bigint) is
  'Withdraws requests by events of which nothing was sent yet, and asks anew, where they come to more than the share of what stands.';
