-- Recording what Stripe said.
--
-- Lock order: the rows by id, then stripe_control, then runners. An outcome is applied only if its lease token is the
-- row's; otherwise it changes nothing and is kept. A report may be sent again as often as its sender likes: a
-- connection that was cut at COMMIT may have been committed, and the second time everything is already_recorded.

create or replace function marketplace._record_reversal_outcome(
  p_outcome marketplace.stripe_outcome, p_burst boolean, p_now timestamptz
)
returns marketplace.recorded_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_settled marketplace.seller_transfers;
  v_known marketplace.transfer_attempts;
  v_read record;
  v_effect text;
begin
  select * into v_row from marketplace.seller_transfers as t where t.id = p_outcome.id;
  if not found then
    -- A row that a failover lost: there is nothing to keep the report with.
    return (p_outcome.id, 'stale', null, null, null)::marketplace.recorded_outcome;
  end if;

  select * into v_known
  from marketplace.transfer_attempts as a
  where a.transfer_id = p_outcome.id and a.lease_token = p_outcome.lease_token and a.kind <> 'lost_lease'
  order by a.facts_sha256 = p_outcome.facts_sha256 desc
  limit 1;
  if v_known.facts_sha256 = p_outcome.facts_sha256 then
    return (v_row.id, 'already_recorded', v_known.verdict, v_row.status, v_row.next_retry_at)::marketplace.recorded_outcome;
  end if;

  if v_row.lease_token is distinct from p_outcome.lease_token then
    return marketplace._keep_stale_report(p_outcome, v_row, v_known.id is not null, p_now);
  end if;

  p_outcome := marketplace._report_on(p_outcome, v_row.lease_action);
  select * into v_read from marketplace._read_report(p_outcome, v_row, p_now);
  perform marketplace._give_reason(format('reported by %s', v_row.leased_by));
  v_effect := case
    when v_read.verdict = 'not_found' and p_burst and not marketplace._was_not_found_lately(v_row.id, p_now)
      then 'configuration'
    else v_read.verdict
  end;
  perform marketplace._keep_attempt(
    p_outcome, v_row, case when p_outcome.sent then 'call' else 'not_sent' end, v_read.verdict, v_read.reversal_id,
    v_read.words, 'applied', p_now);

  if p_outcome.action = 'reverse' then
    v_settled := marketplace._settle_reversal(v_row, p_outcome, v_effect, p_now);
  elsif v_read.elsewhere < v_row.amount and v_effect = 'already_reversed' then
    v_settled := marketplace._split_by_evidence(v_row, v_read.elsewhere, v_read.words, p_now);
  else
    v_settled := marketplace._settle_look_up(v_row, p_outcome, v_effect, v_read.reversal_id, v_read.words, p_now);
  end if;
  if v_read.verdict = 'configuration' and marketplace._is_at_fault(v_row, p_outcome.http_status) then
    v_settled.parked_reason := left(
      'configuration: other transfers succeed, this one is refused. ' || v_settled.failure_message, 1000);
  end if;
  perform marketplace._write_settled(v_settled);
  return (v_row.id, 'applied', v_read.verdict, v_settled.status, v_settled.next_retry_at)::marketplace.recorded_outcome;
end
$$;

comment on function marketplace._record_reversal_outcome(marketplace.stripe_outcome, boolean, timestamptz) is
  'Applies or keeps one report; the row is locked already. p_burst: a 404 says more of the key than of the row.';

create or replace function marketplace.record_reversal_outcomes(p_outcomes jsonb)
returns setof marketplace.recorded_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
-- One row that somebody holds open must not keep a whole batch, and with it a runner: 55P03, and the runner reports
-- singly.
set lock_timeout = '1s'
as $$
declare
  v_now timestamptz;
  v_before text;
  v_outcomes marketplace.stripe_outcome[];
  v_outcome marketplace.stripe_outcome;
  v_result marketplace.recorded_outcome;
  v_tokens uuid[] := '{}'::uuid[];
  v_refusal text;
  v_burst boolean;
  v_spared boolean := false;
begin
  perform marketplace._require_outcomes(p_outcomes, array['reverse', 'look_up_reversals']);
  perform marketplace._require_read_committed();
  v_before := marketplace._give_reason(null);

  v_outcomes := array(select o from marketplace._read_outcomes(p_outcomes) as o);
  perform from marketplace.seller_transfers as t
  where t.id = any (marketplace._rows_of_reports(v_outcomes))
  order by t.id
  for no key update;
  v_now := clock_timestamp();
  v_burst := marketplace._is_burst_of_not_found(v_outcomes, v_now);

  foreach v_outcome in array v_outcomes loop
    v_result := marketplace._record_reversal_outcome(v_outcome, v_burst, v_now);
    if v_result.result = 'applied' then
      v_tokens := v_tokens || v_outcome.lease_token;
      if v_result.verdict = 'configuration' and not exists (
        select from marketplace.seller_transfers as t where t.id = v_result.id and t.parked_reason is not null
      ) then
        v_refusal := coalesce(v_outcome.error_message, 'Stripe refused the key or the account.');
      end if;
      v_spared := v_spared or (v_burst and v_result.verdict = 'not_found' and v_result.status = 'reversal_pending');
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

comment on function marketplace.record_reversal_outcomes(jsonb) is
  'Applies an array of outcomes, fenced by lease token; returns for each what became of it, in the order of the array. Reporting again is harmless.';
