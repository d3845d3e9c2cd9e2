-- What the answer to a send means, and what a look-up saw of one.
--
-- A 2xx is a success only if it is the transfer that was asked for. Nothing at Stripe vouches for a list of transfers,
-- and Stripe refuses no second one: so only what bears the row's identity is ours, an absence counts as of the moment
-- the look-up was claimed, and what looks like ours and does not bear it is a person's to judge.

create or replace function marketplace._fits_send(p_transfer jsonb, p_row marketplace.seller_transfers)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_transfer -> 'amount' is not distinct from to_jsonb(p_row.amount)
    and marketplace._fits_but_for_amount(p_transfer, p_row);
end
$$;

comment on function marketplace._fits_send(jsonb, marketplace.seller_transfers) is
  'True if a transfer at Stripe is as the row asks for it: amount, currency, destination, charge.';

create or replace function marketplace._fits_but_for_amount(p_transfer jsonb, p_row marketplace.seller_transfers)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not the group: where there is a charge it is the charge's, whatever that is by now.
  return p_transfer ->> 'currency' is not distinct from p_row.currency
    and p_transfer ->> 'destination' is not distinct from p_row.destination_account
    and p_transfer ->> 'source_transaction' is not distinct from p_row.source_charge;
end
$$;

comment on function marketplace._fits_but_for_amount(jsonb, marketplace.seller_transfers) is
  'True if a transfer at Stripe is to the row''s seller, in its currency, and of its charge.';

create or replace function marketplace._is_transfer(p_object jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The length apart: a {1,250} in the pattern takes twenty times as long.
  return p_object ->> 'object' is not distinct from 'transfer'
    and coalesce(p_object ->> 'id', '') ~ '^tr_[A-Za-z0-9]+$' and length(p_object ->> 'id') <= 253;
end
$$;

comment on function marketplace._is_transfer(jsonb) is 'True if it is an object of Stripe''s of this kind, with an id.';

create or replace function marketplace._send_verdict(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_verdict text := marketplace._verdict_without_success(p_outcome);
begin
  if v_verdict is not null then
    return v_verdict;
  end if;
  if not marketplace._is_transfer(p_outcome.object) then
    return 'unknown';
  end if;
  if p_row.stripe_transfer_id = p_outcome.object ->> 'id' then
    -- Known already: slices may have been split off since.
    return 'succeeded';
  end if;
  return case
    when marketplace._fits_send(p_outcome.object, p_row)
      and not marketplace._is_recorded(p_outcome.object ->> 'id') then 'succeeded'
    else 'mismatch'
  end;
end
$$;

comment on function marketplace._send_verdict(marketplace.stripe_outcome, marketplace.seller_transfers) is
  'Verdict on the outcome of a send, compared with what the row asked for.';

create or replace function marketplace._is_recorded(p_stripe_transfer_id text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- In two halves, for each has an index of its own.
  return exists (
    select from marketplace.seller_transfers as t
    where t.stripe_transfer_id = p_stripe_transfer_id and t.root_id is null
  ) or exists (
    select from marketplace.seller_transfers as t
    where t.stripe_transfer_id = p_stripe_transfer_id and t.successor_of is not null
  );
end
$$;

comment on function marketplace._is_recorded(text) is 'True if a row stands for this transfer at Stripe.';
