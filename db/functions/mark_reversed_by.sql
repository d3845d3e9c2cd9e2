-- Whose reversal it is that a person names, as far as can be told here.

create or replace function marketplace._is_named_as_ours(p_stripe_reversal_id text, p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_row.parked_reason ~ ('\m' || p_stripe_reversal_id || '\M'), false) or exists (
    select from marketplace.transfer_attempts as a
    where a.transfer_id = p_row.id and a.stripe_object_id = p_stripe_reversal_id);
end
$$;

comment on function marketplace._is_named_as_ours(text, marketplace.seller_transfers) is
  'True if a call for the row made or found this reversal.';

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
  'Raises 22023 for a reversal that no call for the row made or found, ST003 for another one than Stripe accepted for it.';

create or replace function marketplace._require_reversal_of_others(
  p_stripe_reversal_id text, p_row marketplace.seller_transfers
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if marketplace._is_named_as_ours(p_stripe_reversal_id, p_row) then
    raise exception '% is of transfer % itself, and came to nothing', p_stripe_reversal_id, p_row.id
      using errcode = 'invalid_parameter_value',
            hint = format('If it stands at Stripe now: retry_now(p_id => %s, p_reason => ''…''), and a look-up tells.', p_row.id),
            schema = 'marketplace', table = 'seller_transfers', column = 'p_stripe_reversal_id';
  end if;
end
$$;

comment on function marketplace._require_reversal_of_others(text, marketplace.seller_transfers) is
  'Raises 22023 for a reversal that a call for the row made: Stripe said that it failed.';
