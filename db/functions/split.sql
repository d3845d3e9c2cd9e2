-- A row gives a part of its money to a slice: a row of its own, with a fate and a call of its own.

create or replace function marketplace._split_transfer(p_id bigint, p_amount bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_row marketplace.seller_transfers;
  v_paid boolean;
  v_stale boolean;
  v_slice_id bigint;
  v_before text;
begin
  select * into strict v_row from marketplace.seller_transfers as t where t.id = p_id for no key update;
  if coalesce(p_amount not between 1 and v_row.amount - 1, true) then
    raise exception '% cannot be split off transfer %, which has %', coalesce(p_amount::text, 'nothing'), p_id, v_row.amount
      using errcode = 'invalid_parameter_value',
            hint = 'Split off less than all of it, and more than nothing; a whole row is taken as it is.',
            column = 'p_amount';
  end if;
  v_paid := v_row.completed_at is not null;

  -- First, for the guard refuses rows at their end and in flight. A send that was claimed once and not made has its
  -- parameters written, for more than is left: the next one is another request to Stripe.
  v_stale := not v_paid and v_row.call_params is not null;
  update marketplace.seller_transfers
  set
    amount = amount - p_amount,
    call_params = case when not v_stale then call_params end,
    call_generation = call_generation + v_stale::integer,
    call_minted_at = case when v_stale then v_now else call_minted_at end
  where id = p_id;

  v_before := marketplace._add_reason(
    format('split off %s of transfer %s', p_amount, p_id) || coalesce(' for ' || v_row.reversal_request_id, ''));
  insert into marketplace.seller_transfers (
    root_id, split_from, order_id, seller_id, destination_account, source_charge, original_amount, amount, currency,
    status, completed_at, stripe_transfer_id, next_retry_at, parked_reason, call_generation, call_minted_at,
    created_at, updated_at
  ) values (
    coalesce(v_row.root_id, p_id), p_id, v_row.order_id, v_row.seller_id, v_row.destination_account,
    v_row.source_charge, p_amount, p_amount, v_row.currency,
    case when v_paid then 'completed' else 'pending' end, v_row.completed_at, v_row.stripe_transfer_id,
    case when not v_paid then v_row.next_retry_at end, case when not v_paid then v_row.parked_reason end,
    case when not v_paid then 1 end, case when not v_paid then v_now end,
    v_now, v_now
  )
  returning id into v_slice_id;
  if v_row.status = 'failed' then
    update marketplace.seller_transfers
    set status = 'failed', failure_code = v_row.failure_code, failure_message = v_row.failure_message
    where id = v_slice_id;
  elsif v_row.status = 'reversal_pending' then
    perform marketplace._begin_reversal(v_slice_id, v_row.reversal_request_id);
  end if;
  perform marketplace._give_reason(v_before);

  insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason)
  values (
    p_id, v_row.status, v_row.status, left(concat_ws(': ',
      format('split off %s as transfer %s, %s stay here', p_amount, v_slice_id, v_row.amount - p_amount),
      nullif(v_before, '')), 1000)
  );
  return v_slice_id;
end
$$;

comment on function marketplace._split_transfer(bigint, bigint) is
  'Splits p_amount minor units off a row and returns the id of the slice that has them now, in the row''s status; the row keeps the rest. Raises ST002 for a row at its end or in flight. A row that is being reversed needs a new generation in the same transaction: its next call is for less.';
