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
    perform marketplace._take_share(v_share.root_id, v_request_id, v_share.missing);
  end loop;
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._ask(text, text, text, text, marketplace.charges, bigint, bigint) is
  'A request by events for what is still to be asked of an order''s transfers, also if that is nothing: it stands for the refund or dispute.';

create or replace function marketplace._take_share(p_root_id bigint, p_request_id text, p_asked bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
begin
  -- First what is not paid, of each, for it need not move; then what is; then what is in flight, for it may be paid yet.
  -- What cannot be taken of any is kept for the one with the most in flight, or else for the transfer itself.
  for v_part in
    select
      p.id,
      greatest(0, least(p.unpaid, p_asked - p.unpaid_before))
      + greatest(0, least(p.free - p.unpaid, p_asked - p.all_unpaid - (p.free_before - p.unpaid_before)))
      + greatest(0, least(p.awaited, p_asked - p.all_free - p.awaited_before))
      + case when p.is_last then greatest(0, p_asked - p.all_free - p.all_awaited) else 0 end as asked
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
    if v_part.asked > 0 then
      perform marketplace._take_back_family(v_part.id, p_request_id, v_part.asked::bigint);
    end if;
  end loop;
end
$$;

comment on function marketplace._take_share(bigint, text, bigint) is
  'Asks for an amount of a transfer, or of what was given back of it; what is not there to be taken is unmet.';
