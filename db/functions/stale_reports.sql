-- A report whose lease is not the row's any more. It changes nothing, and what it proves is not lost.

create or replace function marketplace._keep_stale_report(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers, p_is_second boolean, p_now timestamptz
)
returns marketplace.recorded_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_send boolean := p_outcome.action in ('send', 'look_up_transfer');
  v_is_open boolean;
  v_is_done boolean;
  v_is_another boolean;
  v_is_proof boolean;
  v_read record;
  v_verdict text;
begin
  select * into v_read from marketplace._judge_report(p_outcome, p_row, p_now);
  v_verdict := v_read.verdict;
  v_is_open := case when v_is_send then p_row.status in ('pending', 'failed') else p_row.status = 'reversal_pending' end;
  v_is_done := case when v_is_send then p_row.completed_at is not null else p_row.status = 'reversed' end;
  v_is_another := marketplace._is_another_reversal(p_outcome, p_row) or marketplace._is_another_transfer(p_outcome, p_row);
  -- Also where the row asks for another amount by now: money moved.
  v_is_proof := v_verdict in ('succeeded', 'accepted') or v_is_another;
  if v_is_done and v_is_another then
    v_verdict := 'moved_twice';
  elsif p_row.status = 'permanently_failed' and not v_is_done and v_is_proof then
    v_verdict := case when marketplace._continue_on_evidence(p_row, p_now) is null then 'late_success' else v_verdict end;
  elsif v_is_open and v_is_proof and (v_is_send or p_row.lease_token is null) then
    perform marketplace._doubt_row(p_row.id, p_now);
  end if;
  perform marketplace._write_attempt(
    p_outcome, p_row,
    case when p_is_second then 'second_report' when p_outcome.sent then 'call' else 'not_sent' end,
    v_verdict, v_read.object_id, v_read.words,
    case when v_is_done or p_row.status = 'permanently_failed' then 'late' else 'stale' end,
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
    and marketplace._is_reversal(p_outcome.object)
    and p_outcome.object ->> 'transfer' is not distinct from p_row.stripe_transfer_id
    and coalesce(p_outcome.object ->> 'status', 'succeeded') in ('pending', 'succeeded')
    and p_outcome.object ->> 'id' is distinct from p_row.stripe_reversal_id
    and not exists (
      select from marketplace.seller_transfers as t where t.stripe_reversal_id = p_outcome.object ->> 'id');
end
$$;

comment on function marketplace._is_another_reversal(marketplace.stripe_outcome, marketplace.seller_transfers) is
  'True if a report proves a live reversal of the row''s transfer that is no row''s evidence yet.';

create or replace function marketplace._is_another_transfer(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_outcome.action = 'send'
    and coalesce(p_outcome.http_status between 200 and 299, false)
    and marketplace._is_transfer(p_outcome.object)
    and p_outcome.object ->> 'destination' is not distinct from p_row.destination_account
    and p_outcome.object ->> 'id' is distinct from p_row.stripe_transfer_id
    and not marketplace._is_recorded(p_outcome.object ->> 'id');
end
$$;

comment on function marketplace._is_another_transfer(marketplace.stripe_outcome, marketplace.seller_transfers) is
  'True if a report proves a transfer to the row''s seller that no row stands for yet.';

create or replace function marketplace._was_proven_meanwhile(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from marketplace.transfer_attempts as a
    where a.transfer_id = p_row.id and a.disposition = 'stale' and a.finished_at >= p_row.leased_at
      and a.kind in ('call', 'second_report') and a.stripe_object_id is not null
      and a.http_status between 200 and 299 and a.action = 'send');
end
$$;

comment on function marketplace._was_proven_meanwhile(marketplace.seller_transfers) is
  'True if, since the row''s lease began, a report came whose lease was not the row''s any more and which said that Stripe had done it.';
