-- A person knows better: a row that was given up goes on, by a successor that looks first.

create or replace function marketplace.reopen(
  p_id bigint, p_reason text, p_stripe_transfer_id text default null
)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_now timestamptz;
  v_id bigint;
  v_before text;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  if p_stripe_transfer_id is not null then
    perform marketplace._require_stripe_id('p_stripe_transfer_id', p_stripe_transfer_id, array['tr']);
  end if;
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  v_row := marketplace._lock_order_of(p_id);
  v_now := clock_timestamp();
  perform marketplace._require_reopenable(v_row, p_stripe_transfer_id);
  if p_stripe_transfer_id is not null then
    -- Two who give one id to two rows wait for each other.
    perform pg_advisory_xact_lock(hashtextextended('seller-transfers transfer ' || p_stripe_transfer_id, 0));
    perform marketplace._require_free_transfer_id(p_stripe_transfer_id, v_row);
  end if;

  v_before := marketplace._give_reason(format('reopened by %s: %s', session_user, p_reason));
  if v_row.status = 'completed' then
    v_id := v_row.id;
    perform marketplace._add_transfer_id(v_row, p_stripe_transfer_id);
  else
    v_id := marketplace._succeed(
      v_row, marketplace._goes_on_as(v_row), coalesce(v_row.stripe_transfer_id, p_stripe_transfer_id), 'it goes on', v_now);
    perform marketplace._continue(v_id, v_row, v_now);
    -- What was sent for the row was answered for good, and Stripe would answer the same again: another key.
    update marketplace.seller_transfers
    set call_generation = call_generation + 1, call_params = null, call_minted_at = v_now, call_replayed = false
    where id = v_id and call_params is not null;
    perform marketplace._offer_row(v_id);
  end if;
  perform marketplace._give_reason(v_before);
  perform marketplace._hear_again(p_stripe_transfer_id, v_row.order_id);
  perform pg_notify('seller_transfers_due', '');
  return query select t.* from marketplace.seller_transfers as t where t.id = v_id;
end
$$;

comment on function marketplace.reopen(bigint, text, text) is
  'Lets a permanently_failed transfer go on by a successor, which is returned and begins with a look-up. One that was given up for want of its Stripe id needs p_stripe_transfer_id; a completed one without an id is given it. Raises ST002 where there is nothing to reopen, ST003 for the id of another transfer.';

create or replace function marketplace._lock_order_of(p_id bigint)
returns marketplace.seller_transfers
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
begin
  if p_id is null then
    raise exception 'p_id is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass the id of a row of marketplace.seller_transfers.', column = 'p_id';
  end if;
  select t.* into v_row from marketplace.seller_transfers as t where t.id = p_id;
  if not found then
    raise exception 'there is no transfer %', p_id
      using errcode = 'invalid_parameter_value', hint = 'Pass the id of a row of marketplace.seller_transfers.', column = 'p_id';
  end if;
  perform marketplace._lock_order(v_row.order_id);
  perform marketplace._lock_rows(array[v_row.order_id]);
  select t.* into strict v_row from marketplace.seller_transfers as t where t.id = p_id;
  return v_row;
end
$$;

comment on function marketplace._lock_order_of(bigint) is
  'Locks the order of a row and all rows of it, and returns the row. Raises 22004 or 22023 for an id that no row has.';

create or replace function marketplace._require_reopenable(
  p_row marketplace.seller_transfers, p_stripe_transfer_id text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_needs_id boolean := p_row.completed_at is not null and p_row.stripe_transfer_id is null;
  v_hint text;
begin
  v_hint := case
    when marketplace._is_followed(p_row.id) then format('Transfer %s has taken over from it: look there.', (
      select t.id from marketplace.seller_transfers as t where p_row.id in (t.successor_of, t.compensates) limit 1))
    when p_row.status = 'completed' and v_needs_id then null
    when p_row.status <> 'permanently_failed' then
      'Only what was given up is reopened, and a completed transfer without a Stripe id to be given one.'
    when p_row.failure_code = 'refunded_before_transfer' then format(
      'It is not paid because of %s: if that failed, use withdraw_reversal_request().', p_row.reversal_request_id)
  end;
  if v_hint is not null then
    raise exception 'transfer % is % and cannot be reopened', p_row.id, p_row.status
      using errcode = 'ST002', hint = v_hint,
            schema = 'marketplace', table = 'seller_transfers', column = 'status';
  end if;
  if v_needs_id and p_stripe_transfer_id is null then
    raise exception 'transfer % has no Stripe id', p_row.id
      using errcode = 'null_value_not_allowed',
            hint = 'Pass the id of the transfer at Stripe (tr_…) as p_stripe_transfer_id.', column = 'p_stripe_transfer_id';
  end if;
  if v_needs_id then
    perform marketplace._require_id_of_family(p_row, p_stripe_transfer_id);
  end if;
  if not v_needs_id and p_stripe_transfer_id is distinct from coalesce(p_row.stripe_transfer_id, '')
    and p_stripe_transfer_id is not null then
    raise exception 'transfer % stands for %, not %',
      p_row.id, coalesce(p_row.stripe_transfer_id, 'none at Stripe yet'), p_stripe_transfer_id
      using errcode = 'ST003',
            hint = 'Leave p_stripe_transfer_id out: what the row was sent as is looked up.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;
end
$$;

comment on function marketplace._require_reopenable(marketplace.seller_transfers, text) is
  'Raises ST002 for a row that does not need to be reopened, 22004 for a missing Stripe id, ST003 for another one than its own.';
