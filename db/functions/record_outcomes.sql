-- A batch of reports, and what all of them together say of the key, the account and the rate.

create or replace function marketplace._record_outcomes(p_outcomes jsonb, p_actions text[])
returns setof marketplace.recorded_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_now timestamptz;
  v_before text;
  v_outcomes marketplace.stripe_outcome[];
  v_outcome marketplace.stripe_outcome;
  v_ids bigint[];
  v_result marketplace.recorded_outcome;
  v_tokens uuid[] := '{}'::uuid[];
  v_refusal text;
  v_burst boolean;
  v_spared boolean := false;
begin
  perform marketplace._require_outcomes(p_outcomes, p_actions);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  v_before := marketplace._give_reason(null);

  v_outcomes := array(select o from marketplace._read_outcomes(p_outcomes) as o);
  perform marketplace._lock_orders_of(v_outcomes);
  v_ids := marketplace._rows_of_reports(v_outcomes);
  perform from marketplace.seller_transfers as t where t.id = any (v_ids) order by t.id for no key update;
  v_now := clock_timestamp();
  v_burst := marketplace._is_burst_of_not_found(v_outcomes, v_now);

  foreach v_outcome in array v_outcomes loop
    v_result := marketplace._record_outcome(v_outcome, v_burst, v_now);
    if v_result.result = 'applied' then
      v_tokens := v_tokens || v_outcome.lease_token;
      if v_result.verdict = 'configuration' and not exists (
        select from marketplace.seller_transfers as t where t.id = v_result.id and t.parked_reason is not null
      ) then
        v_refusal := coalesce(v_outcome.error_message, 'Stripe refused the key or the account.');
      end if;
      v_spared := v_spared or (v_burst and v_result.verdict = 'not_found' and v_result.status <> 'permanently_failed');
    end if;
    return next v_result;
  end loop;
  perform marketplace._give_reason(v_before);

  if exists (select from marketplace.stripe_control as c where c.paused_by = 'verdict') then
    perform marketplace._lift_pause_by_verdict(v_tokens, v_now);
  end if;
  if v_refusal is not null then
    perform marketplace._pause_by_verdict(v_refusal, v_now + marketplace._retry_delay('configuration', 1), v_now);
  end if;
  if v_spared then
    perform marketplace._pause_by_verdict(
      'Stripe does not know five or more transfers in a row: is this the key of the right account? '
      'If it is, resume, and rows that Stripe still does not know end.', null, v_now);
  end if;
  if exists (select from unnest(v_outcomes) as o where not o.sent or o.http_status in (401, 429)) then
    perform marketplace._settle_budget(v_tokens);
    perform marketplace._end_registrations(v_tokens, v_now);
  end if;
end
$$;

comment on function marketplace._record_outcomes(jsonb, text[]) is
  'Applies a report on either kind of work, reversals or transfers; p_actions: those that belong to it.';

create or replace function marketplace.record_reversal_outcomes(p_outcomes jsonb)
returns setof marketplace.recorded_outcome
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- One row that somebody holds open must not keep a whole batch, and with it a runner: 55P03, and the runner reports
-- singly.
set lock_timeout = '1s'
as $$
begin
  return query
    select r.* from marketplace._record_outcomes(p_outcomes, array['reverse', 'look_up_reversals']) as r;
end
$$;

comment on function marketplace.record_reversal_outcomes(jsonb) is
  'Applies an array of outcomes, fenced by lease token; returns for each what became of it, in the order of the array. Reporting again is harmless.';

create or replace function marketplace.record_transfer_outcomes(p_outcomes jsonb)
returns setof marketplace.recorded_outcome
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
  return query
    select r.* from marketplace._record_outcomes(p_outcomes, array['send', 'look_up_transfer']) as r;
end
$$;

comment on function marketplace.record_transfer_outcomes(jsonb) is
  'Applies an array of outcomes of sends, fenced by lease token; returns for each what became of it, in the order of the array. Reporting again is harmless.';
