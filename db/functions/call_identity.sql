-- What Stripe knows an obligation of ours by.
--
-- A reversal by database_id, Stripe's own transfer id, the request and the part; a send by database_id and the app's
-- key: each of them survives a crash, a restore and a failover. A serial number does not: after an asynchronous
-- failover the same number is given out again, to another row.

create or replace function marketplace._reversal_identity(
  p_database_id uuid, p_stripe_transfer_id text, p_reversal_request_id text, p_part integer
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_identity text := format('reversal:%s:%s:%s:%s', p_database_id, p_stripe_transfer_id, p_reversal_request_id, p_part);
begin
  return marketplace._fitting_identity('reversal:', v_identity);
end
$$;

comment on function marketplace._reversal_identity(uuid, text, text, integer) is
  'Identity of a reversal: database, transfer, request, part; at most 200 printable ASCII characters. Also in the reversal''s metadata at Stripe.';

create or replace function marketplace._send_identity(p_database_id uuid, p_transfer_key text, p_made_for text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The key's length, so that no key can be read as another key with something it was made for. That it is not the one
  -- the app asked for, a key alone cannot say: a uuid comes after the first colon there.
  return marketplace._fitting_identity('transfer:', case
    when p_made_for is null then format('transfer:%s:%s', p_database_id, p_transfer_key)
    else format('transfer:again:%s:%s:%s:%s', p_database_id, length(p_transfer_key), p_transfer_key, p_made_for)
  end);
end
$$;

comment on function marketplace._send_identity(uuid, text, text) is
  'Identity of a send: database and the app''s key; of one made to give back, also what it was made for. At most 200 printable ASCII characters. Also in the transfer''s metadata at Stripe.';

create or replace function marketplace._fitting_identity(p_prefix text, p_identity text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A header takes neither every character nor every length, and metadata no more than 500: what does not fit goes in
  -- as its SHA-256.
  if length(p_identity) > 200 or p_identity !~ '^[!-~]+$' then
    return p_prefix || encode(sha256(convert_to(p_identity, 'UTF8')), 'hex');
  end if;
  return p_identity;
end
$$;

comment on function marketplace._fitting_identity(text, text) is
  'The identity as it fits into a header and into metadata.';

create or replace function marketplace._identity(p_row marketplace.seller_transfers, p_database_id uuid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.completed_at is null then
    return marketplace._send_identity(p_database_id, marketplace._family_key(p_row), p_row.made_for);
  end if;
  return marketplace._reversal_identity(
    p_database_id, p_row.stripe_transfer_id, p_row.reversal_request_id, p_row.call_part);
end
$$;

comment on function marketplace._identity(marketplace.seller_transfers, uuid) is
  'Identity of the row''s current obligation: to be sent while it is unpaid, to be taken back after that.';

create or replace function marketplace._idempotency_key(p_identity text, p_generation integer)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_identity || ':' || p_generation;
end
$$;

comment on function marketplace._idempotency_key(text, integer) is
  'The Idempotency-Key of one generation of an obligation; at most 255 printable ASCII characters.';

create or replace function marketplace._call_params(p_row marketplace.seller_transfers, p_database_id uuid)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Not the row's id: recorded again after a failover the row may have another one, and Stripe refuses a key that comes
  -- with other parameters.
  v_metadata jsonb := jsonb_build_object(
    'seller_transfers_identity', marketplace._identity(p_row, p_database_id),
    -- A reversal that failed at Stripe is a reason for a new key once: for the generation that made it.
    'seller_transfers_generation', p_row.call_generation::text,
    'transfer_key', marketplace._family_key(p_row),
    'order_id', p_row.order_id);
begin
  if p_row.completed_at is not null then
    return jsonb_build_object(
      'amount', p_row.amount,
      'metadata', v_metadata || jsonb_build_object('reversal_request_id', p_row.reversal_request_id));
  end if;
  -- A charge brings its group along, and Stripe refuses another beside it.
  return jsonb_build_object(
      'amount', p_row.amount, 'currency', p_row.currency, 'destination', p_row.destination_account,
      'metadata', v_metadata)
    || case
      when p_row.source_charge is null then jsonb_build_object('transfer_group', p_row.order_id)
      else jsonb_build_object('source_transaction', p_row.source_charge)
    end;
end
$$;

comment on function marketplace._call_params(marketplace.seller_transfers, uuid) is
  'What is sent to Stripe for the row''s obligation: the amount, always explicit, and metadata by which what was made can be found again. Nothing that varies per try.';

create or replace function marketplace._current_key(p_transfer marketplace.seller_transfers)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return marketplace._idempotency_key(
    marketplace._identity(p_transfer, (select c.database_id from marketplace.stripe_control as c)),
    p_transfer.call_generation);
end
$$;

comment on function marketplace._current_key(marketplace.seller_transfers) is
  'The Idempotency-Key of the row''s current obligation and generation.';
