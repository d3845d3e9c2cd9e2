-- What a verdict on a request that moves money does to a row. A pure decision: it is handed the row and returns what
-- the row becomes; nothing is written here.

create or replace function marketplace._settle_post(
  p_row marketplace.seller_transfers, p_outcome marketplace.stripe_outcome, p_verdict text, p_object_id text,
  p_transfer_group text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers := marketplace._without_lease(p_row);
  v_verdict text := p_verdict;
  v_message text := coalesce(
    p_outcome.error_message, 'Stripe answered with HTTP ' || p_outcome.http_status || '.', 'No answer came from Stripe.');
  v_max_retries integer;
begin
  if v_verdict = 'not_sent' then
    return v_row;
  end if;

  v_row.call_last_sent_at := p_now;
  if v_verdict = 'configuration' then
    -- The account's trouble, not the row's: nothing is spent and its waiting time goes on.
    v_row.failure_code := 'configuration';
    v_row.failure_message := v_message;
    return v_row;
  end if;
  if p_row.stripe_reversal_id is not null and p_outcome.object is null
    and v_verdict in ('transient', 'insufficient_balance', 'already_reversed', 'not_found') then
    -- Stripe holds a reversal of ours: with another key there could be a second one.
    v_verdict := 'unknown';
  end if;

  if v_verdict in ('transient', 'insufficient_balance', 'already_reversed', 'not_found')
    and marketplace._was_proven_meanwhile(p_row) then
    -- Another request of ours was executed after all. What this one was answered does not take that back.
    v_verdict := 'unknown';
  end if;

  v_row := marketplace._next_streak(v_row, v_verdict, p_now);
  v_row.failure_code := coalesce(p_outcome.error_code, v_verdict);
  v_row.failure_message := v_message;
  select p.max_retries into v_max_retries from marketplace.retry_policy as p where p.verdict = 'transient';

  case v_verdict
    when 'succeeded' then
      v_row := marketplace._done_row(v_row, p_object_id, p_transfer_group, p_now);
    when 'accepted' then
      v_row := marketplace._accepted_row(v_row, p_object_id, p_now);
    when 'insufficient_balance' then
      v_row := marketplace._row_short_of_balance(v_row, v_message, p_now);
    when 'transient', 'already_reversed' then
      -- Both are refusals. The second one says that the money is back: whose doing that was, a look-up tells.
      v_row.retry_count := p_row.retry_count + 1;
      if v_row.retry_count > v_max_retries and marketplace._may_give_up(p_now) then
        v_row := marketplace._give_up_row(v_row, v_row.failure_code, format(
          'Stripe refused it %s times. %s', v_row.retry_count, v_message));
      else
        v_row := marketplace._next_generation(v_row, p_now);
        v_row.next_retry_at := p_now + case
          when v_verdict = 'already_reversed' and v_row.streak = 1 then interval '0'
          else marketplace._retry_delay('transient', v_row.streak)
        end;
      end if;
    when 'not_found' then
      -- A transfer that Stripe does not know has no reversal either, whatever became of an earlier call.
      v_row := marketplace._give_up_row(v_row, v_row.failure_code, v_message);
    when 'throttled' then
      if p_outcome.http_status = 409 then
        -- A request with this key is under way: it may be moving the money now.
        v_row := marketplace._unknown_row(v_row);
      end if;
    when 'conflict' then
      if p_row.completed_at is null then
        -- What that other request with this key was, nobody knows: a refund must not take the seller for unpaid.
        v_row := marketplace._unknown_row(v_row);
      end if;
      v_row.parked_reason := left('conflict: Stripe knows this key with other parameters. ' || v_message, 1000);
    when 'mismatch' then
      v_row := marketplace._unknown_row(v_row);
      v_row.parked_reason := left(format('mismatch: Stripe answered with something that was not asked for: %s',
        marketplace._clean_text(p_outcome.object::text, 600)), 1000);
    when 'unknown' then
      v_row := marketplace._unknown_row(v_row);
      -- A replayed error is all that this key will bring from now on.
      v_row.call_replayed := p_row.call_replayed or (p_outcome.replayed and coalesce(p_outcome.http_status >= 500, false));
  end case;
  if v_row.status = 'pending' and v_verdict in ('transient', 'insufficient_balance', 'already_reversed') then
    v_row.status := 'failed';
  end if;
  return v_row;
end
$$;

comment on function marketplace._settle_post(
  marketplace.seller_transfers, marketplace.stripe_outcome, text, text, text, timestamptz
) is 'What a row becomes by the outcome of its request: the whole effect of each verdict on it.';

create or replace function marketplace._next_streak(
  p_row marketplace.seller_transfers, p_verdict text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.streak_verdict is not distinct from p_verdict then
    p_row.streak := p_row.streak + 1;
  else
    p_row.streak := 1;
    p_row.streak_verdict := p_verdict;
    p_row.streak_since := p_now;
  end if;
  p_row.next_retry_at := coalesce(p_now + marketplace._retry_delay(p_verdict, p_row.streak), p_row.next_retry_at);
  return p_row;
end
$$;

comment on function marketplace._next_streak(marketplace.seller_transfers, text, timestamptz) is
  'The row with one more verdict of this kind in a row, due again as retry_policy says.';
