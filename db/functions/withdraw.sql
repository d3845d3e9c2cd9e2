-- The refund failed after all, or the dispute was won: what was asked back is the seller's again.
--
-- For good, and by its id alone: a withdrawal that comes before its request is remembered until then. Which of the two
-- came first is told by the request's row, whose unique index makes one wait for the other; only then the order's lock,
-- then its rows in id order. Whoever has the order's lock and asks for the same id waits for nothing but that first
-- insert, and that one waits for nobody.

create or replace function marketplace.withdraw_reversal_request(p_reversal_request_id text, p_reason text)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_ids text[];
begin
  perform marketplace._require_request_id(p_reversal_request_id);
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();

  insert into marketplace.reversal_requests (reversal_request_id, withdrawn_at, withdrawn_by, withdrawn_reason)
  values (p_reversal_request_id, clock_timestamp(), session_user, p_reason)
  on conflict on constraint pk_reversal_requests do nothing;
  -- Who withdraws a refund means all that events asked for it, of other orders and of transfers that came later.
  perform marketplace._lock_payment(
    array(select r.order_id from marketplace._requests_for(p_reversal_request_id) as r), '{}');
  v_ids := array(select r.reversal_request_id from marketplace._requests_for(p_reversal_request_id) as r order by 1);
  perform marketplace._withdraw_request(i.id, p_reason) from unnest(v_ids) as i (id);

  return query
    select t.* from marketplace.seller_transfers as t
    where t.order_id in (
      select r.order_id from marketplace.reversal_requests as r where r.reversal_request_id = any (v_ids))
      and (t.reversal_request_id = any (v_ids) or exists (
        select from marketplace.seller_transfers as b
        where b.id in (t.successor_of, t.compensates) and b.reversal_request_id = any (v_ids)))
    order by t.id;
end
$$;

comment on function marketplace.withdraw_reversal_request(text, text) is
  'Takes a request back, for good: its refund failed, its dispute was won. What it reversed is paid again, what it has not yet is not taken, what it kept from being paid is paid. Returns the rows of the request and what was made for them, as they stand. Under the id of a refund or dispute, what events asked for it beside that is withdrawn with it. A request that is not known yet is remembered as withdrawn; the same call again changes nothing, but settles what a person ended meanwhile.';

create or replace function marketplace._withdraw_request(p_reversal_request_id text, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_request marketplace.reversal_requests;
  v_now timestamptz;
  v_id bigint;
begin
  select r.* into strict v_request from marketplace.reversal_requests as r
  where r.reversal_request_id = p_reversal_request_id;
  if v_request.order_id is null then
    return;
  end if;

  perform marketplace._lock_order(v_request.order_id);
  perform marketplace._lock_rows(array[v_request.order_id]);
  v_now := clock_timestamp();
  update marketplace.reversal_requests
  set withdrawn_at = v_now, withdrawn_by = session_user, withdrawn_reason = p_reason
  where reversal_request_id = p_reversal_request_id and withdrawn_at is null;
  if found then
    -- What nobody knows about yet is looked up now, and settled then.
    update marketplace.seller_transfers
    set next_retry_at = least(next_retry_at, v_now)
    where order_id = v_request.order_id and reversal_request_id = p_reversal_request_id
      and status = 'reversal_pending' and lease_token is null;
    perform pg_notify('seller_transfers_due', '');
  end if;
  for v_id in
    select t.id from marketplace.seller_transfers as t
    where t.order_id = v_request.order_id and t.reversal_request_id = p_reversal_request_id
    order by t.id
  loop
    perform marketplace._settle_withdrawn(v_id, v_now);
  end loop;
end
$$;

comment on function marketplace._withdraw_request(text, text) is
  'Withdraws one request that is known, and settles its rows.';

create or replace function marketplace._fill_in_withdrawn(
  p_order_id text, p_reversal_request_id text, p_reason text, p_amount bigint, p_allocation jsonb
)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stranger text;
begin
  update marketplace.reversal_requests
  set order_id = p_order_id, reason = p_reason, is_whole = num_nulls(p_amount, p_allocation) = 2, asked_amount = p_amount
  where reversal_request_id = p_reversal_request_id and order_id is null;
  if not found then
    return false;
  end if;
  select a.transfer_key into v_stranger
  from marketplace._allocated(p_allocation) as a
  where not exists (
    select from marketplace.seller_transfers as t where t.transfer_key = a.transfer_key and t.order_id = p_order_id)
  order by a.transfer_key limit 1;
  if found then
    raise exception 'order % has no transfer %', p_order_id, v_stranger
      using errcode = 'invalid_parameter_value',
            hint = 'Pass transfer_keys of this order, as they were recorded.', column = 'p_allocation';
  end if;
  -- What was asked of each, for the same request may come again and is compared with it.
  insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, transfer_key, asked, met, unmet)
  select p_reversal_request_id, r.id, r.transfer_key, a.asked, 0, a.asked
  from marketplace._allocated(p_allocation) as a
  inner join marketplace.seller_transfers as r on r.transfer_key = a.transfer_key;
  return true;
end
$$;

comment on function marketplace._fill_in_withdrawn(text, text, text, bigint, jsonb) is
  'Adds to a withdrawal that came before its request what the request was; false if there is none. Nothing is taken.';
