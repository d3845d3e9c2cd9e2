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
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_verdict text;
begin
  if p_action is null or p_action not in ('reverse', 'look_up_reversals', 'send', 'look_up_transfer') then
    raise exception 'p_action is %', coalesce(left(p_action, 60), 'missing')
      using errcode = case when p_action is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass the action of the call: reverse, send, look_up_reversals or look_up_transfer.', column = 'p_action';
  end if;
  if p_http_status is null or p_http_status not in (400, 401, 402, 403, 404, 409, 429)
    or coalesce(btrim(p_error_type), '') = '' then
    return case when marketplace._moves_money(p_action) then 'unknown' else 'unclear' end;
  end if;

  select r.verdict into v_verdict
  from marketplace.stripe_error_rules as r
  where r.http_status = p_http_status
    and (r.error_type is null or r.error_type = p_error_type)
    and (r.error_code is null or r.error_code = p_error_code)
    and (r.message_pattern is null or left(p_error_message, 1000) ~* r.message_pattern)
  order by r.priority
  limit 1;

  v_verdict := coalesce(
    v_verdict,
    case
      when p_http_status = 401 then 'configuration'
      when p_http_status in (409, 429) then 'throttled'
      else 'transient'
    end
  );
  if p_action = 'send' and v_verdict = 'already_reversed' then
    v_verdict := 'transient';
  end if;
  if marketplace._moves_money(p_action) then
    return v_verdict;
  end if;
  -- A look-up moves nothing, so its refusal says nothing of the row; only that the transfer is not there, or that it
  -- may not be seen.
  return case
    -- A list of transfers is there, however empty.
    when v_verdict = 'not_found' and p_action = 'look_up_transfer' then 'unclear'
    when v_verdict in ('configuration', 'not_found', 'throttled') then v_verdict
    when p_http_status = 403 then 'configuration'
    else 'unclear'
  end;
end
$$;

comment on function marketplace.classify_stripe_outcome(text, integer, text, text, text) is
  'Verdict on an error answer: unknown (to a look-up: unclear), unless it is a 400, 401, 402, 403, 404, 409 or 429 with Stripe''s error body; then the first fitting row of stripe_error_rules. Whether a 2xx is a success is decided against the row.';

create or replace function marketplace._verdict_without_success(p_outcome marketplace.stripe_outcome)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when not p_outcome.sent then 'not_sent'
    when p_outcome.http_status between 200 and 299 then null
    else marketplace.classify_stripe_outcome(
      p_outcome.action, p_outcome.http_status, p_outcome.error_type, p_outcome.error_code, p_outcome.error_message)
  end;
end
$$;

comment on function marketplace._verdict_without_success(marketplace.stripe_outcome) is
  'Verdict on an outcome that is no 2xx; null for a 2xx, which is compared with the row.';
