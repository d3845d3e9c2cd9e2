-- What comes after a row that ended: a successor takes over from it in its family, a compensation gives a reversed
-- amount back by a transfer of its own. The row itself stays as it is; its log says by whom it was followed.

create or replace function marketplace._succeed(
  p_row marketplace.seller_transfers, p_made_for text, p_stripe_transfer_id text, p_reason text,
  p_now timestamptz
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_paid boolean := p_row.completed_at is not null;
  v_id bigint;
  v_before text;
begin
  v_before := marketplace._add_reason(format('takes over from transfer %s: %s', p_row.id, p_reason));
  insert into marketplace.seller_transfers (
    root_id, successor_of, made_for, order_id, seller_id, destination_account, source_charge,
    original_amount, amount, currency, status, completed_at, stripe_transfer_id, stripe_transfer_group,
    next_retry_at, call_generation, call_minted_at, created_at, updated_at
  ) values (
    -- What a paid one was sent for says the row that was sent, and no other.
    coalesce(p_row.root_id, p_row.id), p_row.id, case when not v_paid then p_made_for end,
    p_row.order_id, p_row.seller_id, p_row.destination_account, p_row.source_charge, p_row.amount, p_row.amount, p_row.currency,
    case when v_paid then 'completed' else 'pending' end, p_row.completed_at,
    p_stripe_transfer_id, p_row.stripe_transfer_group,
    case when not v_paid then p_now end, case when not v_paid then 1 end, case when not v_paid then p_now end,
    p_now, p_now
  )
  returning id into v_id;
  perform marketplace._give_reason(v_before);
  perform marketplace._note_follower(p_row, format('transfer %s takes over: %s', v_id, p_reason));
  return v_id;
end
$$;

comment on function marketplace._succeed(marketplace.seller_transfers, text, text, text, timestamptz) is
  'Makes the successor of a row that ended, paid if that one was, else to be sent, and returns its id. The order''s rows are locked.';

create or replace function marketplace._compensate(
  p_row marketplace.seller_transfers, p_reason text, p_now timestamptz
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_before text;
begin
  v_before := marketplace._add_reason(format('gives transfer %s back: %s', p_row.id, p_reason));
  -- From the platform's balance: what the charge had was paid out of it once.
  insert into marketplace.seller_transfers (
    compensates, made_for, order_id, seller_id, destination_account, original_amount, amount, currency,
    status, next_retry_at, call_generation, call_minted_at, created_at, updated_at
  ) values (
    p_row.id, marketplace._made_for(p_row), p_row.order_id, p_row.seller_id, p_row.destination_account,
    p_row.amount, p_row.amount, p_row.currency, 'pending', p_now, 1, p_now, p_now, p_now
  )
  returning id into v_id;
  perform marketplace._give_reason(v_before);
  perform marketplace._note_follower(p_row, format('transfer %s gives it back: %s', v_id, p_reason));
  return v_id;
end
$$;

comment on function marketplace._compensate(marketplace.seller_transfers, text, timestamptz) is
  'Makes the transfer that gives a reversed row back and returns its id. The order''s rows are locked.';

create or replace function marketplace._note_follower(p_row marketplace.seller_transfers, p_words text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason)
  select p_row.id, t.status, t.status, marketplace._clean_text(
    concat_ws(': ', p_words, nullif(current_setting('marketplace.reason', true), '')), 1000)
  from marketplace.seller_transfers as t where t.id = p_row.id;
end
$$;

comment on function marketplace._note_follower(marketplace.seller_transfers, text) is
  'Notes in a row''s log what has come after it.';

create or replace function marketplace._continue(p_id bigint, p_before marketplace.seller_transfers, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The same request under the same key: should it still be under way, sent again it is no second one.
  update marketplace.seller_transfers
  set
    status = case when completed_at is null then status else 'reversal_pending' end,
    reversal_request_id = case when completed_at is not null then p_before.reversal_request_id end,
    call_part = case when completed_at is not null then p_before.call_part end,
    next_retry_at = p_now,
    call_generation = p_before.call_generation,
    call_params = p_before.call_params,
    call_minted_at = p_before.call_minted_at,
    call_replayed = p_before.call_replayed,
    call_last_sent_at = p_before.call_last_sent_at,
    call_absent_at = null
  where id = p_id;
  -- A request for everything that came meanwhile could not have it; it is on its way again, and wanted once.
  update marketplace.reversal_request_lines as l
  set met = l.met + least(l.unmet, p_before.amount), unmet = l.unmet - least(l.unmet, p_before.amount)
  from marketplace.reversal_requests as r
  where p_before.completed_at is not null and r.reversal_request_id = l.reversal_request_id
    and l.transfer_id = coalesce(p_before.root_id, p_before.id) and l.unmet > 0
    and r.is_whole and r.withdrawn_at is null and not r.is_evidence;
end
$$;

comment on function marketplace._continue(bigint, marketplace.seller_transfers, timestamptz) is
  'Hands the obligation of a row that ended on to its successor as it was: request, part, key and what was sent. The successor looks first.';

create or replace function marketplace._resume(p_row marketplace.seller_transfers, p_reason text, p_now timestamptz)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  if p_row.split_from is not null then
    -- What it was split from is, or was, sent under the key: this one goes beside it, known by what it is made for.
    return marketplace._succeed(p_row, marketplace._made_for(p_row), null, p_reason, p_now);
  end if;
  -- Not another obligation: as if the row had slept. With an identity of its own, a standby that knows nothing of the
  -- refund would look for the first one in vain and send it.
  v_id := marketplace._succeed(p_row, p_row.made_for, null, p_reason, p_now);
  perform marketplace._continue(v_id, p_row, p_now);
  return v_id;
end
$$;

comment on function marketplace._resume(marketplace.seller_transfers, text, timestamptz) is
  'Makes the successor of a row that was not paid because of a request, to be sent after a look, and returns its id.';
