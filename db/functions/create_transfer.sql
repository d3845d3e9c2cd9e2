-- How transfers come to be known: to be made (create_transfer), or made already by the app (record_completed_transfer).
--
-- Both take the order's lock first, like everything that creates or moves an order's money: a refund that is requested
-- at the same moment sees the new row, or the new row sees the request. Then those of its payments, before anything is
-- written of a charge: an event of a charge whose order it does not know has no other lock.

create or replace function marketplace.create_transfer(
  p_transfer_key text, p_order_id text, p_seller_id text, p_destination_account text,
  p_amount bigint, p_currency text, p_source_charge text default null, p_charge_amount bigint default null
)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_id bigint;
begin
  perform marketplace._require_transfer(
    p_transfer_key, p_order_id, p_seller_id, p_destination_account,
    p_amount, p_currency, p_source_charge, p_charge_amount);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  perform marketplace._lock_order_and_charges(p_order_id, p_source_charge);
  perform marketplace._note_charge(p_source_charge, p_charge_amount);

  select k.id into v_id from marketplace._known_transfer(
    p_transfer_key, p_order_id, p_seller_id, p_destination_account, p_amount, p_currency, p_source_charge) as k;
  if v_id is null then
    perform marketplace._require_quantum('p_amount', p_amount, p_currency);
    v_id := marketplace._insert_transfer(
      'pending', p_transfer_key, p_order_id, p_seller_id, p_destination_account,
      p_amount, p_currency, p_source_charge, null);
    perform pg_notify('seller_transfers_due', '');
  end if;
  perform marketplace._retry_events_of_order(p_order_id);
  return query select t.* from marketplace.seller_transfers as t where t.id = v_id;
end
$$;

comment on function marketplace.create_transfer(text, text, text, text, bigint, text, text, bigint) is
  'A transfer that is to be made. Returns its row; the same key again returns the same row, with other values ST003. Amounts in minor units; 22023 for one that Stripe does not take of the currency (currencies.quantum).';

create or replace function marketplace.record_completed_transfer(
  p_transfer_key text, p_order_id text, p_seller_id text, p_destination_account text,
  p_amount bigint, p_currency text, p_source_charge text default null, p_charge_amount bigint default null,
  p_stripe_transfer_id text default null
)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
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
  perform marketplace._notice_change();
  perform marketplace._lock_order_and_charges(p_order_id, p_source_charge);
  perform marketplace._note_charge(p_source_charge, p_charge_amount);

  select k.* into v_known from marketplace._known_transfer(
    p_transfer_key, p_order_id, p_seller_id, p_destination_account,
    marketplace._announced_amount(p_transfer_key, p_amount), p_currency, p_source_charge) as k;
  if p_stripe_transfer_id is not null then
    perform marketplace._require_free_transfer_id(p_stripe_transfer_id, v_known);
  end if;
  if v_known.id is null then
    v_id := marketplace._insert_transfer(
      'completed', p_transfer_key, p_order_id, p_seller_id, p_destination_account,
      p_amount, p_currency, p_source_charge, p_stripe_transfer_id);
  else
    v_id := v_known.id;
    perform marketplace._complete_known(v_known, p_stripe_transfer_id);
  end if;
  perform marketplace._hear_again(p_stripe_transfer_id, p_order_id);
  perform marketplace._retry_events_of_order(p_order_id);
  return query select t.* from marketplace.seller_transfers as t where t.id = v_id;
end
$$;

comment on function marketplace.record_completed_transfer(text, text, text, text, bigint, text, text, bigint, text) is
  'A transfer the app made itself. Returns its row; the same call again returns the same row and may add the Stripe id where there was none. Without a Stripe id it can never be reversed by machine. Amounts in minor units.';
