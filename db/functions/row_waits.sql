-- What keeps a row open: money that may have moved, a reversal that Stripe holds, a balance that does not cover it.

create or replace function marketplace._unknown_row(p_row marketplace.seller_transfers)
returns marketplace.seller_transfers
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  p_row.call_unknown := true;
  p_row.call_absent_at := null;
  return p_row;
end
$$;

comment on function marketplace._unknown_row(marketplace.seller_transfers) is
  'The row with money that may have moved: it is looked up before anything else.';

create or replace function marketplace._accepted_row(
  p_row marketplace.seller_transfers, p_stripe_reversal_id text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  p_row.stripe_reversal_id := p_stripe_reversal_id;
  p_row.named_reversal_id := null;
  p_row.call_unknown := false;
  p_row.waiting_since := coalesce(p_row.waiting_since, p_now);
  p_row.failure_code := 'accepted';
  p_row.failure_message := 'Stripe accepted the reversal and holds it until the seller''s balance covers it.';
  return p_row;
end
$$;

comment on function marketplace._accepted_row(marketplace.seller_transfers, text, timestamptz) is
  'The row with a reversal that Stripe holds; it is looked up until Stripe has made or dropped it.';

create or replace function marketplace._row_short_of_balance(
  p_row marketplace.seller_transfers, p_message text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_max_age interval := (
    select p.max_age from marketplace.retry_policy as p where p.verdict = 'insufficient_balance');
begin
  p_row.stripe_reversal_id := null;
  p_row.waiting_since := coalesce(p_row.waiting_since, p_now);
  if p_now - p_row.waiting_since >= v_max_age and marketplace._may_give_up(p_now) then
    return marketplace._give_up_row(p_row, 'insufficient_balance', format(
      'The %s balance has not covered it for %s. %s',
      case when p_row.completed_at is null then 'platform''s' else 'seller''s' end, v_max_age, p_message));
  end if;
  p_row.failure_message := p_message;
  return marketplace._next_generation(p_row, p_now);
end
$$;

comment on function marketplace._row_short_of_balance(marketplace.seller_transfers, text, timestamptz) is
  'The row that the seller''s balance, or for a send the platform''s, does not cover: a new key later, or given up after the 45 days of retry_policy.';
