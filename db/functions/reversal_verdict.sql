-- What the answer to a reverse call means for the row that asked.
--
-- A 2xx is a success only if it is the reversal that was asked for: its kind, transfer, amount and currency are
-- compared with the row.

create or replace function marketplace._reversal_verdict(
  p_outcome marketplace.stripe_outcome, p_transfer marketplace.seller_transfers, p_taken boolean
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_outcome.object;
  v_verdict text := marketplace._verdict_without_success(p_outcome);
begin
  if v_verdict is not null then
    return v_verdict;
  end if;

  -- An answer that is about something else says nothing; one that is about a reversal, but not the one asked for, says
  -- that something is wrong which no retry mends.
  if not marketplace._is_reversal(v_object) then
    return 'unknown';
  end if;
  if p_taken
    or p_transfer.stripe_reversal_id <> v_object ->> 'id'
    or v_object -> 'amount' is distinct from to_jsonb(p_transfer.amount)
    or v_object ->> 'currency' is distinct from p_transfer.currency
    or v_object ->> 'transfer' is distinct from p_transfer.stripe_transfer_id then
    return 'mismatch';
  end if;
  return case coalesce(v_object ->> 'status', 'succeeded')
    when 'succeeded' then 'succeeded'
    when 'pending' then 'accepted'
    when 'failed' then 'insufficient_balance'
    when 'canceled' then 'insufficient_balance'
    else 'unknown'
  end;
end
$$;

comment on function marketplace._reversal_verdict(
  marketplace.stripe_outcome, marketplace.seller_transfers, boolean
) is 'Verdict on the outcome of a reverse call, compared with what the row asked for. p_taken: the answered reversal is another row''s evidence.';

create or replace function marketplace._is_reversal(p_object jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The length apart: a {1,250} in the pattern takes twenty times as long.
  return p_object ->> 'object' is not distinct from 'transfer_reversal'
    and coalesce(p_object ->> 'id', '') ~ '^trr_[A-Za-z0-9]+$' and length(p_object ->> 'id') <= 254;
end
$$;

comment on function marketplace._is_reversal(jsonb) is 'True if it is an object of Stripe''s of this kind, with an id.';
