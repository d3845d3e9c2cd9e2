-- How transfers come to be known: to be made (create_transfer), or made already by the app (record_completed_transfer).
--
-- Both take the order's lock first, like everything that creates or moves an order's money: a refund that is requested
-- at the same moment sees the new row, or the new row sees the request.

create or replace function marketplace.create_transfer(
  p_transfer_key text, p_order_id text, p_seller_id text, p_destination_account text,
  p_amount bigint, p_currency text, p_source_charge text default null, p_charge_amount bigint default null
)
returns setof marketplace.seller_transfers
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  perform marketplace._require_transfer(
    p_transfer_key, p_order_id, p_seller_id, p_destination_account,
    p_amount, p_currency, p_source_charge, p_charge_amount);
  perform marketplace._require_read_committed();
  perform marketplace._lock_order(p_order_id);
  perform marketplace._note_charge(p_source_charge, p_charge_amount);

  select k.id into v_id from marketplace._known_transfer(
    p_transfer_key, p_order_id, p_seller_id, p_destination_account, p_amount, p_currency, p_source_charge) as k;
  if v_id is null then
    v_id := marketplace._insert_transfer(
      'pending', p_transfer_key, p_order_id, p_seller_id, p_destination_account,
      p_amount, p_currency, p_source_charge, null);
  end if;
  return query select t.* from marketplace.seller_transfers as t where t.id = v_id;
end
$$;

comment on function marketplace.create_transfer(text, text, text, text, bigint, text, text, bigint) is
  'A transfer that is to be made. Returns its row; the same key again returns the same row, with other values ST003. Amounts in minor units.';

create or replace function marketplace.record_completed_transfer(
  p_transfer_key text, p_order_id text, p_seller_id text, p_destination_account text,
  p_amount bigint, p_currency text, p_source_charge text default null, p_charge_amount bigint default null,
  p_stripe_transfer_id text default null
)
returns setof marketplace.seller_transfers
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_known marketplace.seller_transfers;
  v_id bigint;
begin
  perform marketplace._require_transfer(
    p_transfer_key, p_order_id, p_seller_id, p_destination_account,
    p_amount, p_currency, p_source_charge, p_charge_amount);
  if p_stripe_transfer_id is not null then
    perform marketplace._require_stripe_id('p_stripe_transfer_id', p_stripe_transfer_id, array['tr']);
  end if;
  perform marketplace._require_read_committed();
  perform marketplace._lock_order(p_order_id);
  perform marketplace._note_charge(p_source_charge, p_charge_amount);

  select k.* into v_known from marketplace._known_transfer(
    p_transfer_key, p_order_id, p_seller_id, p_destination_account, p_amount, p_currency, p_source_charge) as k;
  if v_known.id is null then
    v_id := marketplace._insert_transfer(
      'completed', p_transfer_key, p_order_id, p_seller_id, p_destination_account,
      p_amount, p_currency, p_source_charge, p_stripe_transfer_id);
  else
    v_id := v_known.id;
    perform marketplace._complete_known(v_known, p_stripe_transfer_id);
  end if;
  return query select t.* from marketplace.seller_transfers as t where t.id = v_id;
end
$$;

comment on function marketplace.record_completed_transfer(text, text, text, text, bigint, text, text, bigint, text) is
  'A transfer the app made itself. Returns its row; the same call again returns the same row and may add the Stripe id where there was none. Without a Stripe id it can never be reversed by machine. Amounts in minor units.';

create or replace function marketplace._complete_known(p_known marketplace.seller_transfers, p_stripe_transfer_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_known.completed_at is not null
    and (p_stripe_transfer_id is null or p_stripe_transfer_id = p_known.stripe_transfer_id) then
    return;
  end if;
  -- What the row does not say yet may be added; the guards refuse the rest. A pending row is one the app announced and
  -- then made itself; a lease or a sent request means that a runner may have made it too.
  if p_known.status = 'permanently_failed' or p_known.lease_token is not null or p_known.call_last_sent_at is not null then
    raise exception 'transfer % is %, which leaves no room for %',
      p_known.id, p_known.status, coalesce(p_stripe_transfer_id, 'a payment')
      using errcode = 'ST002',
            hint = 'If the seller was paid after all, record the payment under a new transfer_key.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;
  if p_stripe_transfer_id is null then
    raise exception 'transfer % is % and is recorded as paid without a Stripe id', p_known.id, p_known.status
      using errcode = 'ST003',
            hint = 'Pass p_stripe_transfer_id: only a row born completed may be without one.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;
  if p_known.stripe_transfer_id is not null then
    raise exception 'transfer % stands for %, not %', p_known.id, p_known.stripe_transfer_id, p_stripe_transfer_id
      using errcode = 'ST003',
            hint = 'One transfer at Stripe is one row: record the other one under its own transfer_key.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;

  if p_known.completed_at is not null then
    update marketplace.seller_transfers set stripe_transfer_id = p_stripe_transfer_id where id = p_known.id;
  else
    update marketplace.seller_transfers
    set
      status = 'completed',
      completed_at = clock_timestamp(),
      stripe_transfer_id = p_stripe_transfer_id,
      next_retry_at = null,
      parked_reason = null,
      failure_code = null,
      failure_message = null
    where id = p_known.id;
  end if;
exception
  when unique_violation then
    raise exception 'transfer % belongs to another row', p_stripe_transfer_id
      using errcode = 'ST003',
            hint = 'One transfer at Stripe is one row. Look it up in marketplace.seller_transfers.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
end
$$;

comment on function marketplace._complete_known(marketplace.seller_transfers, text) is
  'Adds to a known row that it was paid, or by which transfer at Stripe. Raises ST002 or ST003 where that contradicts the row.';
