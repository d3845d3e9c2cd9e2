-- One report of a worker's, read against its row.

create or replace function marketplace._rows_of_reports(p_outcomes marketplace.stripe_outcome[])
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A look-up may split its row, and a family's sum is checked under its root's lock.
  return array(
    select o.id from unnest(p_outcomes) as o
    union
    select t.root_id
    from unnest(p_outcomes) as o
    inner join marketplace.seller_transfers as t on t.id = o.id
    where o.action = 'look_up_reversals' and t.root_id is not null);
end
$$;

comment on function marketplace._rows_of_reports(marketplace.stripe_outcome[]) is 'The rows to lock, in id order, before these reports are applied.';

create or replace function marketplace._report_on(p_outcome marketplace.stripe_outcome, p_action text)
returns marketplace.stripe_outcome
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_outcome.action <> p_action then
    -- A worker that did something else than it was told: what it says is no answer to what was asked.
    p_outcome.error_message := format('The report is about %s, not %s.', p_outcome.action, p_action);
    p_outcome.action := p_action;
    p_outcome.sent := true;
    p_outcome.http_status := null;
    p_outcome.error_type := null;
    p_outcome.object := null;
    p_outcome.found := null;
  end if;
  return p_outcome;
end
$$;

comment on function marketplace._report_on(marketplace.stripe_outcome, text) is
  'The report, if it is about the action of the lease; otherwise one without facts.';

create or replace function marketplace._read_report(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers, p_now timestamptz,
  out verdict text, out reversal_id text, out elsewhere bigint, out words text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_outcome.action = 'reverse' then
    -- One reversal is evidence for one row; asked before the write, for one unique violation would refuse the whole
    -- batch.
    verdict := marketplace._reversal_verdict(p_outcome, p_row, exists (
      select from marketplace.seller_transfers as t
      where t.stripe_reversal_id = p_outcome.object ->> 'id' and t.id <> p_row.id));
  else
    select r.* into verdict, reversal_id, elsewhere, words
    from marketplace._read_look_up(p_outcome, p_row, p_now) as r;
  end if;
  if verdict = 'not_found' and p_row.stripe_reversal_id is null and exists (
    select from marketplace.transfer_attempts as a
    where a.transfer_id = p_row.id and a.http_status between 200 and 299
  ) then
    -- Transfers do not vanish: where Stripe has known it, the key is another one now.
    verdict := 'configuration';
  end if;
end
$$;

comment on function marketplace._read_report(marketplace.stripe_outcome, marketplace.seller_transfers, timestamptz) is
  'Verdict on a report, as if it were applied to the row.';

create or replace function marketplace._keep_stale_report(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers, p_is_second boolean, p_now timestamptz
)
returns marketplace.recorded_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_read record;
  v_verdict text;
  v_is_proof boolean;
begin
  select * into v_read from marketplace._read_report(p_outcome, p_row, p_now);
  v_verdict := v_read.verdict;
  -- Also where the row asks for another amount by now: money moved.
  v_is_proof := v_verdict in ('succeeded', 'accepted') or marketplace._is_another_reversal(p_outcome, p_row);
  if p_row.status = 'reversed' and marketplace._is_another_reversal(p_outcome, p_row) then
    v_verdict := 'moved_twice';
  elsif p_row.status = 'permanently_failed' and v_is_proof then
    v_verdict := 'late_success';
  elsif p_row.status = 'reversal_pending' and p_row.lease_token is null and v_is_proof then
    -- Proof that the money moved. What it proves is looked up before it is believed.
    update marketplace.seller_transfers
    set call_unknown = true, call_absent_at = null, next_retry_at = least(next_retry_at, p_now)
    where id = p_row.id;
  end if;
  perform marketplace._keep_attempt(
    p_outcome, p_row,
    case when p_is_second then 'second_report' when p_outcome.sent then 'call' else 'not_sent' end,
    v_verdict, v_read.reversal_id, v_read.words,
    case when p_row.status in ('reversed', 'permanently_failed') then 'late' else 'stale' end,
    p_now);
  return (p_row.id, 'stale', v_verdict, p_row.status, p_row.next_retry_at)::marketplace.recorded_outcome;
end
$$;

comment on function marketplace._keep_stale_report(
  marketplace.stripe_outcome, marketplace.seller_transfers, boolean, timestamptz
) is 'Keeps a report whose lease is not the row''s any more. It changes nothing but that proof of success is looked up.';

create or replace function marketplace._is_another_reversal(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_outcome.action = 'reverse'
    and coalesce(p_outcome.http_status between 200 and 299, false)
    and p_outcome.object ->> 'object' is not distinct from 'transfer_reversal'
    and p_outcome.object ->> 'transfer' is not distinct from p_row.stripe_transfer_id
    and coalesce(p_outcome.object ->> 'status', 'succeeded') in ('pending', 'succeeded')
    and coalesce(p_outcome.object ->> 'id', '') ~ '^trr_[A-Za-z0-9]{1,250}$'
    and p_outcome.object ->> 'id' is distinct from p_row.stripe_reversal_id
    and not exists (
      select from marketplace.seller_transfers as t where t.stripe_reversal_id = p_outcome.object ->> 'id');
end
$$;

comment on function marketplace._is_another_reversal(marketplace.stripe_outcome, marketplace.seller_transfers) is
  'True if a report proves a live reversal of the row''s transfer that is no row''s evidence yet.';
