-- How a transfer's row is checked, found again and born: shared by create_transfer and record_completed_transfer.

create or replace function marketplace._require_transfer(
  p_transfer_key text, p_order_id text, p_seller_id text, p_destination_account text,
  p_amount bigint, p_currency text, p_source_charge text, p_charge_amount bigint
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_transfer_key', p_transfer_key);
  perform marketplace._require_text('p_order_id', p_order_id);
  perform marketplace._require_text('p_seller_id', p_seller_id);
  perform marketplace._require_stripe_id('p_destination_account', p_destination_account, array['acct']);
  perform marketplace._require_amount('p_amount', p_amount);
  perform marketplace._require_currency('p_currency', p_currency);
  if p_source_charge is not null then
    perform marketplace._require_stripe_id('p_source_charge', p_source_charge, array['ch', 'py']);
  end if;
  if p_charge_amount is not null then
    perform marketplace._require_amount('p_charge_amount', p_charge_amount);
    if p_source_charge is null then
      raise exception 'p_charge_amount without p_source_charge'
        using errcode = 'invalid_parameter_value',
              hint = 'Pass the charge that the amount belongs to as p_source_charge.',
              column = 'p_source_charge';
    end if;
  end if;
end
$$;

comment on function marketplace._require_transfer(text, text, text, text, bigint, text, text, bigint) is
  'Raises 22004 or 22023 for the first argument of a transfer that cannot be meant.';

create or replace function marketplace._known_transfer(
  p_transfer_key text, p_order_id text, p_seller_id text, p_destination_account text,
  p_amount bigint, p_currency text, p_source_charge text
)
returns setof marketplace.seller_transfers
language plpgsql
rows 1
set search_path = pg_catalog, pg_temp
as $$
declare
  v_known marketplace.seller_transfers;
begin
  select * into v_known from marketplace.seller_transfers as t where t.transfer_key = p_transfer_key
  for no key update;
  if not found then
    return;
  end if;
  if (v_known.order_id, v_known.seller_id, v_known.destination_account, v_known.original_amount,
      v_known.currency, v_known.source_charge)
     is distinct from
     (p_order_id, p_seller_id, p_destination_account, p_amount, p_currency, p_source_charge) then
    raise exception 'transfer_key % is known with other values', p_transfer_key
      using errcode = 'ST003',
            hint = 'The same key is the same transfer. For another transfer pass another key.',
            schema = 'marketplace', table = 'seller_transfers', constraint = 'uq_seller_transfers_transfer_key';
  end if;
  return next v_known;
end
$$;

comment on function marketplace._known_transfer(text, text, text, text, bigint, text, text) is
  'The transfer of this key, locked; no row if there is none. Raises ST003 if it has other values.';

create or replace function marketplace._insert_transfer(
  p_status text, p_transfer_key text, p_order_id text, p_seller_id text, p_destination_account text,
  p_amount bigint, p_currency text, p_source_charge text, p_stripe_transfer_id text
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_paid boolean := p_status = 'completed';
  v_id bigint;
  v_constraint text;
begin
  insert into marketplace.seller_transfers (
    transfer_key, order_id, seller_id, destination_account, source_charge, original_amount, amount, currency,
    status, completed_at, stripe_transfer_id, next_retry_at, call_generation, call_minted_at, created_at, updated_at
  ) values (
    p_transfer_key, p_order_id, p_seller_id, p_destination_account, p_source_charge, p_amount, p_amount, p_currency,
    p_status, case when v_paid then v_now end, p_stripe_transfer_id,
    case when not v_paid then v_now end, case when not v_paid then 1 end, case when not v_paid then v_now end, v_now, v_now
  )
  returning id into v_id;
  perform marketplace._take_back_newborn(v_id, p_order_id);
  return v_id;
exception
  when unique_violation then
    -- Two sessions, two orders, one key; or a transfer at Stripe that another row stands for.
    get stacked diagnostics v_constraint = constraint_name;
    raise exception 'transfer_key % or transfer % belongs to another row',
      p_transfer_key, coalesce(p_stripe_transfer_id, 'without an id')
      using errcode = 'ST003',
            hint = 'The same key is the same transfer, and one transfer at Stripe is one row. Look both up in marketplace.seller_transfers.',
            schema = 'marketplace', table = 'seller_transfers', constraint = v_constraint;
end
$$;

comment on function marketplace._insert_transfer(text, text, text, text, text, bigint, text, text, text) is
  'A new row, pending or completed, at once taken back if the order''s refund has been requested. Raises ST003 for a taken key or id.';
