-- What events asked and turned out to be too much, for another refund of the charge failed, or a part of the dispute
-- came back: asked again for less.
--
-- In one transaction, so what was reversed is given back only as far as it is not asked again: of the compensation,
-- which nobody has sent yet, the new request takes what stands, and that part ends unpaid. What is in flight is looked
-- up, and the same follows from it.

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
    cross join lateral (select marketplace._has_come_back(r) as has_come_back) as d
    where l.transfer_id = any (v_ids) and r.asked_by = 'events' and r.withdrawn_at is null
      -- A quantum too much is no reason to send money back and forth: with a reversal sent, the next refund makes it up.
      and (d.has_come_back or not marketplace._is_sent(r.reversal_request_id, p_order_id))
    order by d.has_come_back desc, r.requested_at desc, r.reversal_request_id desc
    limit 1;
    if not found then
      v_done := v_done || v_ids[1];
      continue;
    end if;
    perform marketplace._withdraw_request(v_request.reversal_request_id, 'asked again for less: ' || case
      when marketplace._has_come_back(v_request) then format('a part of dispute %s came back', v_request.asked_for)
      else 'another refund of the charge failed' end);
    perform marketplace._ask(v_request.asked_for, v_request.reason, p_order_id, v_request.reversal_request_id,
      p_charge, p_gone, p_by_app);
  end loop;
end
$$;

comment on function marketplace._ask_for_less(marketplace.charges, text, bigint, bigint) is
  'Withdraws requests by events of which nothing was sent yet, or whose dispute came back in part, and asks anew, where they come to more than the share of what stands.';

create or replace function marketplace._has_come_back(p_request marketplace.reversal_requests)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A request of an earlier release does not say what it asked a share of: all of the dispute.
  return exists (
    select from marketplace.stripe_disputes as d
    where d.dispute_id = p_request.asked_for
      and least(d.amount, d.remaining) < coalesce(p_request.asked_of, d.amount));
end
$$;

comment on function marketplace._has_come_back(marketplace.reversal_requests) is
  'True of a request for a dispute of which less is gone now than when it was asked.';

create or replace function marketplace._is_sent(p_reversal_request_id text, p_order_id text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from marketplace.seller_transfers as t
    where t.reversal_request_id = p_reversal_request_id and t.order_id = p_order_id and (
      t.status = 'reversed'
      or (t.status = 'reversal_pending' and (
        t.lease_token is not null or t.call_last_sent_at is not null or t.call_unknown))
      or (t.status = 'permanently_failed' and t.completed_at is not null)));
end
$$;

comment on function marketplace._is_sent(text, text) is
  'True if a reversal for the request was sent, or is about to be.';
