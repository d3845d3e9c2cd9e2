-- What a verdict does to a row. A pure decision: it is handed the row and returns what the row becomes; nothing is
-- written here.

create or replace function marketplace._settle_reversal(
  p_row marketplace.seller_transfers, p_outcome marketplace.stripe_outcome, p_verdict text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers := p_row;
  v_message text := coalesce(
    p_outcome.error_message, 'Stripe answered with HTTP ' || p_outcome.http_status || '.', 'No answer came from Stripe.');
  v_policy marketplace.retry_policy;
begin
  v_row.lease_token := null;
  v_row.leased_at := null;
  v_row.lease_expires_at := null;
  v_row.leased_by := null;
  v_row.lease_action := null;
  if p_verdict = 'not_sent' then
    return v_row;
  end if;

  v_row.call_last_sent_at := p_row.leased_at;
  v_row.call_replayed := p_outcome.replayed;
  if p_verdict = 'configuration' then
    -- The account's trouble, not the row's: nothing is spent and its waiting time goes on.
    v_row.failure_code := 'configuration';
    v_row.failure_message := v_message;
    return v_row;
  end if;

  if p_row.streak_verdict is not distinct from p_verdict then
    v_row.streak := p_row.streak + 1;
  else
    v_row.streak := 1;
    v_row.streak_verdict := p_verdict;
    -- A reversal that Stripe holds, and then drops, waits for the same balance: the waiting time goes on.
    if p_row.streak_verdict in ('accepted', 'insufficient_balance') and p_verdict in ('accepted', 'insufficient_balance') then
      v_row.streak_since := p_row.streak_since;
    else
      v_row.streak_since := p_now;
    end if;
  end if;
  v_row.failure_code := coalesce(p_outcome.error_code, p_verdict);
  v_row.failure_message := v_message;
  v_row.next_retry_at := coalesce(p_now + marketplace._retry_delay(p_verdict, v_row.streak), p_row.next_retry_at);
  select * into v_policy from marketplace.retry_policy as p where p.verdict = p_verdict;

  if p_row.stripe_reversal_id is not null and p_outcome.object is null
    and p_verdict in ('transient', 'insufficient_balance', 'not_found') then
    -- Stripe holds a reversal of ours: with another key there could be a second one.
    v_row.parked_reason := left(format(
      'accepted: Stripe holds %s and yet refuses the request now: %s', p_row.stripe_reversal_id, v_message), 1000);
    return v_row;
  end if;

  case p_verdict
    when 'succeeded' then
      v_row := marketplace._reversed_row(v_row, p_outcome.object ->> 'id', null);
    when 'already_reversed' then
      v_row := marketplace._reversed_row(v_row, p_row.stripe_reversal_id, format(
        'Stripe says it was reversed already%s: %s',
        case
          when p_row.stripe_reversal_id is not null then ' by ' || p_row.stripe_reversal_id || ', which it had accepted'
          when p_row.call_unknown then ', perhaps by an earlier call of ours whose answer was lost'
          else ', elsewhere'
        end,
        v_message));
    when 'accepted' then
      v_row.stripe_reversal_id := p_outcome.object ->> 'id';
      v_row.call_unknown := false;
      v_row.failure_message := 'Stripe accepted the reversal and holds it until the seller''s balance covers it.';
    when 'insufficient_balance' then
      v_row.stripe_reversal_id := null;
      if p_now - v_row.streak_since >= v_policy.max_age then
        v_row := marketplace._give_up_row(v_row, 'insufficient_balance', format(
          'The seller''s balance has not covered it for %s. %s', v_policy.max_age, v_message));
      else
        v_row := marketplace._next_generation(v_row, p_now);
      end if;
    when 'transient' then
      v_row.retry_count := p_row.retry_count + 1;
      if v_row.retry_count > v_policy.max_retries then
        v_row := marketplace._give_up_row(v_row, v_row.failure_code, format(
          'Stripe refused it %s times. %s', v_row.retry_count, v_message));
      else
        v_row := marketplace._next_generation(v_row, p_now);
      end if;
    when 'not_found' then
      -- A transfer that Stripe does not know has no reversal either, whatever became of an earlier call.
      v_row := marketplace._give_up_row(v_row, v_row.failure_code, v_message);
    when 'throttled' then
      -- A 409 means that a request with this key is under way: it may be moving the money now.
      v_row.call_unknown := p_row.call_unknown or p_outcome.http_status = 409;
    when 'conflict' then
      v_row.parked_reason := left('conflict: Stripe knows this key with other parameters. ' || v_message, 1000);
    when 'mismatch' then
      v_row.call_unknown := true;
      v_row.parked_reason := left(format('mismatch: Stripe answered with a reversal that is not the one asked for: %s',
        marketplace._clean_text(p_outcome.object::text, 600)), 1000);
    when 'unknown' then
      v_row.call_unknown := true;
  end case;
  return v_row;
end
$$;

comment on function marketplace._settle_reversal(
  marketplace.seller_transfers, marketplace.stripe_outcome, text, timestamptz
) is 'What a reversal becomes by the outcome of its call: the whole effect of each verdict on its row.';
