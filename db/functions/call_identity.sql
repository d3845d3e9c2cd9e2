-- What Stripe knows an obligation of ours by.
--
-- database_id, Stripe's own transfer id, the request and the part: each of them survives a crash, a restore and a
-- failover. A serial number does not: after an asynchronous failover the same number is given out again, to another
-- row.

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
  -- A header takes neither every character nor every length, and metadata no more than 500: what does not fit goes in
  -- as its SHA-256.
  if length(v_identity) > 200 or v_identity !~ '^[!-~]+$' then
    return 'reversal:' || encode(sha256(convert_to(v_identity, 'UTF8')), 'hex');
  end if;
  return v_identity;
end
$$;

comment on function marketplace._reversal_identity(uuid, text, text, integer) is
  'Identity of a reversal: database, transfer, request, part; at most 200 printable ASCII characters. Also in the reversal''s metadata at Stripe.';

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

create or replace function marketplace._reversal_params(p_transfer marketplace.seller_transfers, p_database_id uuid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  -- Not the row's id: recorded again after a failover the row may have another one, and Stripe refuses a key that comes
  -- with other parameters.
  select jsonb_build_object(
    'amount', p_transfer.amount,
    'metadata', jsonb_build_object(
      'seller_transfers_identity', marketplace._reversal_identity(
        p_database_id, p_transfer.stripe_transfer_id, p_transfer.reversal_request_id, p_transfer.call_part),
      -- A reversal that failed at Stripe is a reason for a new key once: for the generation that made it.
      'seller_transfers_generation', p_transfer.call_generation::text,
      'transfer_key', marketplace._family_key(p_transfer),
      'order_id', p_transfer.order_id,
      'reversal_request_id', p_transfer.reversal_request_id
    )
  )
$$;

comment on function marketplace._reversal_params(marketplace.seller_transfers, uuid) is
  'What is sent to Stripe for a reversal: the amount, always explicit, and metadata by which the reversal can be found again. Nothing that varies per try.';

create or replace function marketplace._current_key(p_transfer marketplace.seller_transfers)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return marketplace._idempotency_key(
    marketplace._reversal_identity(
      (select c.database_id from marketplace.stripe_control as c),
      p_transfer.stripe_transfer_id, p_transfer.reversal_request_id, p_transfer.call_part),
    p_transfer.call_generation);
end
$$;

comment on function marketplace._current_key(marketplace.seller_transfers) is
  'The Idempotency-Key of the row''s current obligation and generation.';
