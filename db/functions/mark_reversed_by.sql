-- Whose reversal it is that a person names, as far as can be told here.

create or replace function marketplace._is_named_as_ours(p_stripe_reversal_id text, p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Its calls have made others, too: those that failed.
  -- What was refuted is named as somebody else's.
  return coalesce(
      p_row.parked_reason ~ ('[[:<:]]' || p_stripe_reversal_id || '[[:>:]]')
        and not starts_with(p_row.parked_reason, 'refuted:'), false)
    or coalesce(p_row.stripe_reversal_id = p_stripe_reversal_id, false);
end
$$;

comment on function marketplace._is_named_as_ours(text, marketplace.seller_transfers) is
  'True if the row is parked for this reversal, or Stripe has accepted it for the row.';

create or replace function marketplace._require_reversal_of_ours(
  p_stripe_reversal_id text, p_row marketplace.seller_transfers
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.stripe_reversal_id <> p_stripe_reversal_id then
    raise exception 'transfer % has %', p_row.id, p_row.stripe_reversal_id
      using errcode = 'ST003',
            hint = format('Pass %s, which Stripe accepted for it.', p_row.stripe_reversal_id),
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_reversal_id';
  end if;
  if not marketplace._is_named_as_ours(p_stripe_reversal_id, p_row) then
    raise exception '% was not found for transfer %', p_stripe_reversal_id, p_row.id
      using errcode = 'invalid_parameter_value',
            hint = format('Pass one of those that it is parked for. %s', p_row.parked_reason),
            schema = 'marketplace', table = 'seller_transfers', column = 'p_stripe_reversal_id';
  end if;
end
$$;

comment on function marketplace._require_reversal_of_ours(text, marketplace.seller_transfers) is
  'Raises 22023 for a reversal that the row is not parked for, ST003 for another one than Stripe accepted for it.';

create or replace function marketplace._require_reversal_of_others(
  p_stripe_reversal_id text, p_row marketplace.seller_transfers
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  select t.id into v_id from marketplace._rows_of_stripe_transfer(p_row.stripe_transfer_id) as t
  where marketplace._is_named_as_ours(p_stripe_reversal_id, t) or exists (
    select from marketplace.transfer_attempts as a
    where a.transfer_id = t.id and a.stripe_object_id = p_stripe_reversal_id)
  order by t.id = p_row.id desc, t.id
  limit 1;
  if found then
    raise exception '% was made for transfer % here, and not elsewhere', p_stripe_reversal_id, v_id
      using errcode = 'invalid_parameter_value',
            hint = format('If it stands at Stripe now: retry_now(p_id => %s, p_reason => ''…''), and a look-up tells.', p_row.id),
            schema = 'marketplace', table = 'seller_transfers', column = 'p_stripe_reversal_id';
  end if;
  -- What others of the same transfer have asked for may be what the person has seen.
  select t.id into v_id from marketplace._rows_of_stripe_transfer(p_row.stripe_transfer_id) as t
  where t.id <> p_row.id and t.status = 'reversal_pending' and (t.lease_token is not null or t.call_unknown)
    and not marketplace._is_seen(t)
  order by t.id
  limit 1;
  if found then
    raise exception '% may have been made for transfer %, of which that is not certain', p_stripe_reversal_id, v_id
      using errcode = 'ST002',
            hint = format('retry_now(p_id => %s, p_reason => ''…''), then wait for the look-up.', v_id),
            schema = 'marketplace', table = 'seller_transfers', column = 'p_stripe_reversal_id';
  end if;
end
$$;

comment on function marketplace._require_reversal_of_others(text, marketplace.seller_transfers) is
  'Raises 22023 for a reversal that a call for a row of the same transfer at Stripe made or found; ST002 while it may be one of those.';
