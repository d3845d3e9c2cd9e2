-- A person has looked: the row goes on now.

create or replace function marketplace.retry_now(p_id bigint, p_reason text)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_now timestamptz;
  v_is_parked boolean;
  v_id bigint;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  v_row := marketplace._lock_order_of(p_id);
  v_now := clock_timestamp();
  if v_row.status not in ('pending', 'failed', 'reversal_pending') then
    raise exception 'transfer % is %: there is nothing to try', p_id, v_row.status
      using errcode = 'ST002',
            hint = 'Only open rows are tried again; reopen(p_id, p_reason) lets a permanently_failed one go on.',
            schema = 'marketplace', table = 'seller_transfers', column = 'status';
  end if;
  if v_row.lease_expires_at > v_now then
    raise exception 'transfer % is being called for by %', p_id, v_row.leased_by
      using errcode = 'ST002', hint = format('Wait for its outcome, until %s at most.', v_row.lease_expires_at),
            schema = 'marketplace', table = 'seller_transfers', column = 'lease_token';
  end if;

  if marketplace._is_held(v_row) then
    v_id := marketplace._send_rest(v_row, p_reason, v_now);
    return query select t.* from marketplace.seller_transfers as t where t.id = v_id;
    return;
  end if;
  v_is_parked := v_row.parked_reason is not null;
  update marketplace.seller_transfers
  set
    next_retry_at = v_now,
    parked_reason = null,
    -- What parked it may have moved money, so it is looked up first; and a key that Stripe knows otherwise brings
    -- nothing any more.
    call_unknown = call_unknown or v_is_parked,
    call_absent_at = case when not v_is_parked then call_absent_at end,
    call_replayed = call_replayed or coalesce(v_row.parked_reason like 'conflict:%', false)
  where id = p_id;
  insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason)
  values (p_id, v_row.status, v_row.status, marketplace._clean_text(
    format('tried again by %s: %s', session_user, p_reason) || coalesce('. It was parked: ' || v_row.parked_reason, ''), 1000));
  perform pg_notify('seller_transfers_due', '');
  return query select t.* from marketplace.seller_transfers as t where t.id = p_id;
end
$$;

comment on function marketplace.retry_now(bigint, text) is
  'Makes an open transfer due now, and unparks it; one that was parked is looked up before anything else. Of a held part, which is not sent under its transfer''s name, a successor goes on and is returned. The reason is logged. Raises ST002 for a row at its end, paid, or under a live lease.';
