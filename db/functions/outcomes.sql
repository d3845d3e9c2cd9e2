-- Recording what Stripe said.
--
-- Lock order: the orders, the rows by id, then stripe_control, then runners. An outcome is applied only if its lease
-- token is the row's; otherwise it changes nothing and is kept. A report may be sent again as often as its sender
-- likes: a connection that was cut at COMMIT may have been committed, and the second time it is already_recorded.

create or replace function marketplace._record_outcome(
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
  v_rest bigint := 0;
  v_held_id bigint;
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
  select * into v_read from marketplace._judge_report(p_outcome, v_row, p_now);
  perform marketplace._give_reason(format('reported by %s', v_row.leased_by));
  v_effect := case
    when v_read.verdict = 'not_found' and p_burst and not marketplace._was_not_found_lately(v_row.id, p_now)
      then 'configuration'
    else v_read.verdict
  end;
  perform marketplace._write_attempt(
    p_outcome, v_row, case when p_outcome.sent then 'call' else 'not_sent' end, v_read.verdict, v_read.object_id,
    v_read.words, 'applied', p_now);

  if p_outcome.action = 'look_up_transfer' and v_read.verdict = 'succeeded' then
    v_rest := marketplace._rest_beside(v_row, marketplace._listed(p_outcome.found, v_read.object_id));
  end if;
  if v_rest > 0 then
    v_held_id := marketplace._hold_rest(v_row, v_rest, v_read.reversed, v_read.object_id, v_read.words);
    select * into strict v_row from marketplace.seller_transfers as t where t.id = p_outcome.id;
  end if;
  if marketplace._moves_money(p_outcome.action) then
    v_settled := marketplace._settle_post(v_row, p_outcome, v_effect, v_read.object_id, v_read.transfer_group, p_now);
  elsif v_read.elsewhere < v_row.amount and v_effect = 'already_reversed' then
    v_settled := marketplace._split_by_evidence(v_row, v_read.elsewhere, v_read.words, p_now);
  else
    v_settled := marketplace._settle_look_up(
      v_row, p_outcome, v_effect, v_read.object_id, v_read.transfer_group, v_read.words, p_now);
  end if;
  if v_read.verdict = 'configuration' and marketplace._is_at_fault(v_row, p_outcome.http_status) then
    v_settled.parked_reason := left(
      'configuration: other transfers succeed, this one is refused. ' || v_settled.failure_message, 1000);
  end if;
  perform marketplace._write_settled(v_settled);
  if v_rest < 0 then
    perform marketplace._pay_slices(v_settled, -v_rest, p_now);
  end if;
  if v_held_id is not null then
    -- Before others are offered it: what the lost history sent instead, beside this one, is found under their name alone.
    perform marketplace._take_held_for_withdrawn(v_held_id, p_now);
    perform marketplace._doubt_held(v_held_id, p_outcome.found);
  end if;
  perform marketplace._follow_up(v_row.id, p_now);
  if v_settled.status = 'completed' then
    perform marketplace._hear_again(v_settled.stripe_transfer_id, v_settled.order_id);
    if v_read.reversed > 0 then
      -- Reversed before it was found: by a lost history, or elsewhere. Whatever no request has asked of it is looked up;
      -- but what a lost history took is found by who asks for it again, in as many parts as it was. Until then a
      -- comparison tells of it.
      perform marketplace._take_for_withdrawn(v_settled, v_read.reversed);
      if exists (select from marketplace.stripe_control as c where c.look_up_first_since is null) then
        perform marketplace._adopt_elsewhere(v_read.object_id, v_read.reversed, v_read.reversed);
      end if;
    end if;
  end if;
  select * into v_row from marketplace.seller_transfers as t where t.id = p_outcome.id;
  return (v_row.id, 'applied', v_read.verdict, v_row.status, v_row.next_retry_at)::marketplace.recorded_outcome;
end
$$;

comment on function marketplace._record_outcome(marketplace.stripe_outcome, boolean, timestamptz) is
  'Applies or keeps one report; the row is locked already. p_burst: a 404 says more of the key than of the row.';

create or replace function marketplace._write_settled(p_row marketplace.seller_transfers)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What was never sent, or refused, fails before it ends: that is the way the machine goes.
  update marketplace.seller_transfers set status = 'failed'
  where id = p_row.id and status = 'pending' and p_row.status = 'permanently_failed';
  update marketplace.seller_transfers
  set
    status = p_row.status,
    completed_at = p_row.completed_at,
    stripe_transfer_id = p_row.stripe_transfer_id,
    stripe_transfer_group = p_row.stripe_transfer_group,
    stripe_reversal_id = p_row.stripe_reversal_id,
    named_reversal_id = p_row.named_reversal_id,
    parked_reason = p_row.parked_reason,
    failure_code = p_row.failure_code,
    failure_message = p_row.failure_message,
    next_retry_at = p_row.next_retry_at,
    retry_count = p_row.retry_count,
    streak = p_row.streak,
    streak_verdict = p_row.streak_verdict,
    streak_since = p_row.streak_since,
    lease_token = p_row.lease_token,
    leased_at = p_row.leased_at,
    lease_expires_at = p_row.lease_expires_at,
    leased_by = p_row.leased_by,
    lease_action = p_row.lease_action,
    call_generation = p_row.call_generation,
    call_params = p_row.call_params,
    call_minted_at = p_row.call_minted_at,
    call_last_sent_at = p_row.call_last_sent_at,
    call_replayed = p_row.call_replayed,
    call_unknown = p_row.call_unknown,
    call_absent_at = p_row.call_absent_at,
    waiting_since = p_row.waiting_since
  where id = p_row.id;
end
$$;

comment on function marketplace._write_settled(marketplace.seller_transfers) is
  'Writes the columns that an outcome may change.';
