-- Asking for a share: a request by events, and what it takes of each transfer.

create or replace function marketplace._ask(
  p_cause_id text, p_reason text, p_order_id text, p_replaces text,
  p_charge marketplace.charges, p_gone bigint, p_by_app bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
  v_request_id text;
  v_share record;
  v_before text;
begin
  select count(*) into v_count from marketplace._requests_for(p_cause_id);
  v_request_id := p_cause_id || case when v_count > 0 then '+' || v_count + 1 else '' end;
  insert into marketplace.reversal_requests (
    reversal_request_id, order_id, reason, is_whole, asked_by, asked_for, asked_of, replaces
  ) values (
    v_request_id, p_order_id, p_reason, false, 'events', p_cause_id, marketplace._left_of_dispute(p_cause_id), p_replaces
  );
  v_before := marketplace._add_reason(format('%s %s requested by Stripe''s event', p_reason, v_request_id));
  for v_share in
    select * from marketplace._shares_of_charge(p_charge, p_order_id, p_gone, p_by_app) as s where s.missing > 0
  loop
    perform marketplace._take_share(
      v_share.root_id, v_request_id, v_share.missing, case when p_replaces is not null then p_cause_id end);
  end loop;
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._ask(text, text, text, text, marketplace.charges, bigint, bigint) is
  'A request by events for what is still to be asked of an order''s transfers, also if that is nothing: it stands for the refund or dispute.';

create or replace function marketplace._take_share(
  p_root_id bigint, p_request_id text, p_asked bigint, p_replaced_cause text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
  v_later bigint := marketplace._under_way_for(p_root_id, p_replaced_cause);
  v_now bigint;
begin
  -- First what is not paid, of each, for it need not move; then what is; then what is in flight, for it may be paid yet.
  -- What cannot be taken of any is kept for the one with the most in flight, or else for the transfer itself. And so is
  -- what may have been taken already by the request before this one: as soon as that is known it is offered.
  for v_part in
    select
      p.id, p.is_last, least(v_later, greatest(0, p_asked - p.all_unpaid)) as later,
      p.unpaid, p.unpaid_before, p.all_unpaid, p.free, p.free_before, p.all_free, p.awaited, p.awaited_before, p.all_awaited
    from (
      select
        i.*,
        u.unpaid, sum(u.unpaid) over () as all_unpaid, sum(u.unpaid) over w - u.unpaid as unpaid_before,
        sum(i.free) over () as all_free, sum(i.free) over w - i.free as free_before,
        sum(i.awaited) over () as all_awaited, sum(i.awaited) over w - i.awaited as awaited_before
      from marketplace._parts_of_key(p_root_id) as i
      cross join lateral (
        select coalesce(sum(f.amount), 0) as unpaid from marketplace._family(i.id) as f
        where f.completed_at is null and marketplace._is_left(f)
      ) as u
      window w as (order by i.is_last, i.id)
    ) as p
    order by p.is_last, p.id
  loop
    v_now := p_asked - v_part.later;
    v_now := greatest(0, least(v_part.unpaid, v_now - v_part.unpaid_before))
      + greatest(0, least(v_part.free - v_part.unpaid,
          v_now - v_part.all_unpaid - (v_part.free_before - v_part.unpaid_before)))
      + greatest(0, least(v_part.awaited, v_now - v_part.all_free - v_part.awaited_before))
      + case when v_part.is_last then greatest(0, v_now - v_part.all_free - v_part.all_awaited) else 0 end;
    v_part.later := case when v_part.is_last then v_part.later else 0 end;
    if v_now + v_part.later > 0 then
      perform marketplace._take_back_family(v_part.id, p_request_id, v_now + v_part.later::bigint, v_part.later::bigint);
    end if;
  end loop;
end
$$;

comment on function marketplace._take_share(bigint, text, bigint, text) is
  'Asks for an amount of a transfer, or of what was given back of it; what is not there to be taken is unmet. p_replaced_cause: the refund or dispute that it is asked again for; null if it is not.';

create or replace function marketplace._under_way_for(p_root_id bigint, p_cause_id text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(sum(t.amount), 0)::bigint
    from marketplace._rows_of_key(p_root_id) as t
    inner join marketplace.reversal_requests as r on r.reversal_request_id = t.reversal_request_id
    where t.status = 'reversal_pending' and r.asked_for = p_cause_id and r.withdrawn_at is not null);
end
$$;

comment on function marketplace._under_way_for(bigint, text) is
  'What is on its way back of a transfer, or may be, for requests for a refund or dispute that were withdrawn; minor units, none for no cause.';
