-- What a verdict on a look-up does to a row. Like settle.sql a pure decision; what is split off is written by the
-- caller.
--
-- A look-up moves nothing and spends nothing. It ends a row, takes the doubt off it, or leaves it as it was.

create or replace function marketplace._settle_look_up(
  p_row marketplace.seller_transfers, p_outcome marketplace.stripe_outcome, p_verdict text, p_object_id text,
  p_transfer_group text, p_words text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers := marketplace._without_lease(p_row);
  v_words text := coalesce(
    marketplace._clean_text(p_words, 1000), p_outcome.error_message,
    'Stripe answered with HTTP ' || p_outcome.http_status || '.', 'No answer came from Stripe.');
begin
  case p_verdict
    when 'not_sent' then
      null;
    when 'succeeded' then
      v_row := marketplace._done_row(v_row, p_object_id, p_transfer_group, p_now);
    when 'accepted' then
      v_row := marketplace._accepted_row(marketplace._next_streak(v_row, 'accepted', p_now), p_object_id, p_now);
    when 'insufficient_balance' then
      v_row.failure_code := 'insufficient_balance';
      v_row := marketplace._row_short_of_balance(
        marketplace._next_streak(v_row, 'insufficient_balance', p_now), v_words, p_now);
    when 'already_reversed' then
      v_row := marketplace._reversed_row(v_row, null, v_words);
    when 'absent' then
      v_row := marketplace._absent_row(v_row, p_row.leased_at, p_now);
    when 'not_found' then
      v_row := marketplace._give_up_row(v_row, coalesce(p_outcome.error_code, 'not_found'), v_words);
    when 'moved_twice', 'mismatch' then
      if p_row.completed_at is null then
        -- The seller may have the money, by one of these: a refund must not take the row for unpaid.
        v_row := marketplace._unknown_row(v_row);
      end if;
      v_row.named_reversal_id := null;
      v_row.parked_reason := left(v_words, 1000);
    when 'configuration' then
      v_row.failure_code := 'configuration';
      v_row.failure_message := v_words;
    when 'throttled' then
      v_row := marketplace._next_streak(v_row, 'throttled', p_now);
    when 'unclear' then
      v_row := marketplace._next_streak(v_row, 'unknown', p_now);
      v_row.failure_code := coalesce(p_outcome.error_code, 'unclear');
      v_row.failure_message := v_words;
  end case;
  return v_row;
end
$$;

comment on function marketplace._settle_look_up(
  marketplace.seller_transfers, marketplace.stripe_outcome, text, text, text, text, timestamptz
) is 'What a row becomes by the outcome of a look-up: the whole effect of each verdict on its row.';

create or replace function marketplace._absent_row(
  p_row marketplace.seller_transfers, p_looked_at timestamptz, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_quiet_from timestamptz := marketplace._quiet_from(p_row);
  v_is_quiet boolean := coalesce(p_looked_at >= v_quiet_from, true);
  v_is_old boolean := marketplace._is_key_old(p_row, p_now);
begin
  if v_is_quiet then
    p_row.call_unknown := false;
  end if;
  -- Its next_retry_at stays, and with it its place in the queue: at the end of a long one its key would be too old to be
  -- sent by the time of its turn, and it would be looked up for ever.
  if not v_is_old and not p_row.call_replayed and not marketplace._is_unwanted(p_row) then
    -- Whatever is still under way has this key: sent again it is the same request.
    null;
  elsif not v_is_quiet then
    -- What is under way may arrive yet, and another key would be another request.
    p_row.next_retry_at := v_quiet_from;
  elsif p_row.call_params is null then
    -- Never sent: Stripe has nothing to forget.
    p_row.call_minted_at := p_now;
  else
    p_row := marketplace._next_generation(p_row, p_now);
  end if;
  p_row.call_absent_at := p_looked_at;
  return p_row;
end
$$;

comment on function marketplace._absent_row(marketplace.seller_transfers, timestamptz, timestamptz) is
  'The row after a look-up that was claimed at p_looked_at and found nothing of it: sent again under the same key, under a new one, or looked up again when it is quiet.';
