-- A refund asks for an order's money back.
--
-- The order's lock first, then all its rows in id order whatever their status, then the decision: an UPDATE with the status
-- in its WHERE would wait for a row that becomes completed meanwhile, and then touch nothing.
-- A request stands: a transfer that is recorded for the order afterwards is taken back at its birth.

create or replace function marketplace._give_reason(p_reason text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text := coalesce(current_setting('marketplace.reason', true), '');
begin
  perform set_config('marketplace.reason', coalesce(p_reason, ''), true);
  return v_before;
end
$$;

comment on function marketplace._give_reason(text) is
  'Sets marketplace.reason, which the status log quotes, for the rest of the transaction; returns what it was before.';

create or replace function marketplace._take_back(p_id bigint, p_reversal_request_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_row marketplace.seller_transfers;
  v_met boolean;
begin
  select * into strict v_row from marketplace.seller_transfers as t where t.id = p_id for update;

  if v_row.status = 'completed' then
    update marketplace.seller_transfers
    set
      status = 'reversal_pending',
      reversal_request_id = p_reversal_request_id,
      next_retry_at = v_now,
      retry_count = 0,
      streak = 0, streak_verdict = null, streak_since = null,
      failure_code = null, failure_message = null,
      call_part = 1, call_generation = 1, call_params = null, call_minted_at = v_now,
      call_last_sent_at = null, call_replayed = false, call_unknown = false
    where id = p_id;
    v_met := true;
  elsif v_row.status in ('pending', 'failed')
    and v_row.lease_token is null and v_row.call_last_sent_at is null and not v_row.call_unknown then
    -- Never sent: the seller is not paid in the first place. Two steps, for that is the way the machine goes.
    update marketplace.seller_transfers set status = 'failed' where id = p_id and status = 'pending';
    update marketplace.seller_transfers
    set
      status = 'permanently_failed',
      reversal_request_id = p_reversal_request_id,
      next_retry_at = null,
      parked_reason = null,
      failure_code = 'refunded_before_transfer',
      failure_message = 'The order was refunded before the seller was paid; nothing was sent.'
    where id = p_id;
    v_met := true;
  elsif v_row.status in ('pending', 'failed') or (v_row.status = 'permanently_failed' and v_row.completed_at is not null) then
    -- In flight, or given up with the money still at the seller: what was asked and not met stays in the line.
    v_met := false;
  else
    return;
  end if;

  insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, transfer_key, asked, met, unmet)
  values (
    p_reversal_request_id, p_id, v_row.transfer_key, v_row.amount,
    case when v_met then v_row.amount else 0 end, case when v_met then 0 else v_row.amount end
  )
  on conflict on constraint pk_reversal_request_lines do nothing;
end
$$;

comment on function marketplace._take_back(bigint, text) is
  'Moves one transfer towards being taken back for a request and writes the request''s line; a transfer already on its way back, or never paid, is left alone.';

create or replace function marketplace._take_back_newborn(p_id bigint, p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_request marketplace.reversal_requests;
  v_before text;
begin
  select * into v_request from marketplace.reversal_requests as r
  where r.order_id = p_order_id order by r.requested_at, r.reversal_request_id limit 1;
  if not found then
    return;
  end if;
  v_before := marketplace._give_reason(
    format('%s %s was requested before the transfer was recorded', v_request.reason, v_request.reversal_request_id));
  perform marketplace._take_back(p_id, v_request.reversal_request_id);
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._take_back_newborn(bigint, text) is
  'Takes a new transfer back if its order was refunded before.';

create or replace function marketplace.request_reversal(
  p_order_id text, p_reversal_request_id text, p_reason text default 'refund'
)
returns setof marketplace.seller_transfers
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_known marketplace.reversal_requests;
  v_ids bigint[];
  v_id bigint;
  v_before text;
begin
  perform marketplace._require_text('p_order_id', p_order_id);
  perform marketplace._require_text('p_reversal_request_id', p_reversal_request_id);
  perform marketplace._require_text('p_reason', p_reason);
  if p_reversal_request_id ~ '^(acct|ch|cus|evt|in|pi|po|py|tr|trr|txn)_' then
    raise exception 'p_reversal_request_id is an id of something else: %', left(p_reversal_request_id, 60)
      using errcode = 'invalid_parameter_value',
            hint = 'Pass what caused the reversal: the refund (re_…), the dispute (dp_…), or an id of your own.',
            column = 'p_reversal_request_id';
  end if;
  if p_reason not in ('refund', 'dispute', 'manual') then
    raise exception 'p_reason is %', left(p_reason, 60)
      using errcode = 'invalid_parameter_value', hint = 'Pass refund, dispute or manual.', column = 'p_reason';
  end if;
  perform marketplace._require_read_committed();
  perform marketplace._lock_order(p_order_id);

  v_ids := array(
    select t.id from marketplace.seller_transfers as t where t.order_id = p_order_id order by t.id for update);
  insert into marketplace.reversal_requests (reversal_request_id, order_id, reason)
  values (p_reversal_request_id, p_order_id, p_reason)
  on conflict on constraint pk_reversal_requests do nothing;
  if found then
    if v_ids = '{}' then
      raise exception 'no transfer is known for order %', p_order_id
        using errcode = 'ST004',
              hint = 'Check the order id; if its transfers are still to be recorded, record them first.',
              column = 'p_order_id';
    end if;
    v_before := marketplace._give_reason(format('%s %s requested', p_reason, p_reversal_request_id));
    foreach v_id in array v_ids loop
      perform marketplace._take_back(v_id, p_reversal_request_id);
    end loop;
    perform marketplace._give_reason(v_before);
    perform pg_notify('seller_transfers_due', '');
  else
    select * into strict v_known from marketplace.reversal_requests as r
    where r.reversal_request_id = p_reversal_request_id;
    if (v_known.order_id, v_known.reason) <> (p_order_id, p_reason) then
      raise exception 'reversal request % is known for order % with reason %',
        p_reversal_request_id, v_known.order_id, v_known.reason
        using errcode = 'ST003',
              hint = 'The same id is the same request. For another request pass another id.',
              schema = 'marketplace', table = 'reversal_requests', constraint = 'pk_reversal_requests';
    end if;
  end if;
  return query
    select t.* from marketplace.seller_transfers as t
    where t.order_id = p_order_id and t.reversal_request_id = p_reversal_request_id
    order by t.id;
end
$$;

comment on function marketplace.request_reversal(text, text, text) is
  'Asks for all of an order''s money back. Returns the transfers this request took, as they stand; the same request again changes nothing. Raises ST004 for an order without transfers, ST003 for an id known with another order or reason.';
