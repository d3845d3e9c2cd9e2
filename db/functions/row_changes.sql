-- The few things that can become of a row, each in one place; decided by settle.sql and settle_look_up.sql.

create or replace function marketplace._next_generation(p_row marketplace.seller_transfers, p_now timestamptz)
returns marketplace.seller_transfers
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Stripe stores a 400 under its key and replays it: only another key is another try. Its callers know that the key
  -- before cannot move money any more. What happened meanwhile is not known, so the new one begins with a look.
  p_row.call_generation := p_row.call_generation + 1;
  p_row.call_params := null;
  p_row.call_minted_at := p_now;
  p_row.call_replayed := false;
  p_row.call_unknown := false;
  p_row.call_absent_at := null;
  return p_row;
end
$$;

comment on function marketplace._next_generation(marketplace.seller_transfers, timestamptz) is
  'The row with a new key to be made.';

create or replace function marketplace._without_lease(p_row marketplace.seller_transfers)
returns marketplace.seller_transfers
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  p_row.lease_token := null;
  p_row.leased_at := null;
  p_row.lease_expires_at := null;
  p_row.leased_by := null;
  p_row.lease_action := null;
  return p_row;
end
$$;

comment on function marketplace._without_lease(marketplace.seller_transfers) is 'The row given back by its worker.';

create or replace function marketplace._give_up_row(p_row marketplace.seller_transfers, p_code text, p_message text)
returns marketplace.seller_transfers
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  p_row.status := 'permanently_failed';
  p_row.named_reversal_id := null;
  p_row.next_retry_at := null;
  p_row.parked_reason := null;
  p_row.call_unknown := false;
  p_row.failure_code := p_code;
  p_row.failure_message := left(p_message, 1000);
  return p_row;
end
$$;

comment on function marketplace._give_up_row(marketplace.seller_transfers, text, text) is
  'The row permanently failed, saying why.';

create or replace function marketplace._reversed_row(
  p_row marketplace.seller_transfers, p_stripe_reversal_id text, p_message text
)
returns marketplace.seller_transfers
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  p_row.status := 'reversed';
  p_row.stripe_reversal_id := p_stripe_reversal_id;
  p_row.named_reversal_id := null;
  p_row.next_retry_at := null;
  p_row.parked_reason := null;
  p_row.failure_code := case when p_message is not null then 'already_reversed' end;
  p_row.failure_message := left(p_message, 1000);
  p_row.call_unknown := false;
  return p_row;
end
$$;

comment on function marketplace._reversed_row(marketplace.seller_transfers, text, text) is
  'The row reversed: by a reversal of ours, or elsewhere as the message says.';

create or replace function marketplace._done_row(
  p_row marketplace.seller_transfers, p_object_id text, p_transfer_group text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.completed_at is not null then
    return marketplace._reversed_row(p_row, p_object_id, null);
  end if;
  p_row.status := 'completed';
  p_row.completed_at := p_now;
  p_row.stripe_transfer_id := p_object_id;
  p_row.stripe_transfer_group := p_transfer_group;
  p_row.next_retry_at := null;
  p_row.parked_reason := null;
  p_row.failure_code := null;
  p_row.failure_message := null;
  p_row.call_unknown := false;
  return p_row;
end
$$;

comment on function marketplace._done_row(marketplace.seller_transfers, text, text, timestamptz) is
  'The row with its obligation met: paid by this transfer, or taken back by this reversal.';
