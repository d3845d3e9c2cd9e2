-- What an answer of Stripe's means.
--
-- The first decision is code, not data: only an error of these statuses that carries Stripe's own error body says for
-- certain that no money moved. Everything else leaves that open, and no rule can say otherwise.

create or replace function marketplace.classify_stripe_outcome(
  p_action text, p_http_status integer, p_error_type text, p_error_code text, p_error_message text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_verdict text;
begin
  if p_action is null or p_action <> 'reverse' then
    raise exception 'p_action is %', coalesce(left(p_action, 60), 'missing')
      using errcode = case when p_action is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass the action of the call: reverse.', column = 'p_action';
  end if;
  if p_http_status is null or p_http_status not in (400, 401, 402, 403, 404, 409, 429)
    or coalesce(btrim(p_error_type), '') = '' then
    return 'unknown';
  end if;

  select r.verdict into v_verdict
  from marketplace.stripe_error_rules as r
  where r.http_status = p_http_status
    and (r.error_type is null or r.error_type = p_error_type)
    and (r.error_code is null or r.error_code = p_error_code)
    and (r.message_pattern is null or left(p_error_message, 1000) ~* r.message_pattern)
  order by r.priority
  limit 1;

  return coalesce(
    v_verdict,
    case
      when p_http_status = 401 then 'configuration'
      when p_http_status in (409, 429) then 'throttled'
      else 'transient'
    end
  );
end
$$;

comment on function marketplace.classify_stripe_outcome(text, integer, text, text, text) is
  'Verdict on an error answer: unknown, unless it is a 400, 401, 402, 403, 404, 409 or 429 with Stripe''s error body; then the first fitting row of stripe_error_rules. Whether a 2xx is a success is decided against the row.';

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
begin
  if not p_outcome.sent then
    return 'not_sent';
  end if;
  if p_outcome.http_status not between 200 and 299 or p_outcome.http_status is null then
    return marketplace.classify_stripe_outcome(
      p_outcome.action, p_outcome.http_status, p_outcome.error_type, p_outcome.error_code, p_outcome.error_message);
  end if;

  -- An answer that is about something else says nothing; one that is about a reversal, but not the one asked for, says
  -- that something is wrong which no retry mends.
  if v_object ->> 'object' is distinct from 'transfer_reversal'
    or coalesce(v_object ->> 'id', '') !~ '^trr_[A-Za-z0-9]{1,250}$' then
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
