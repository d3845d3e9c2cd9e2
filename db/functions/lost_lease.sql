-- Rows whose worker has been silent for longer than its lease, and rows for which no call can be built.

create or replace function marketplace._note_lost_leases(p_ids bigint[], p_now timestamptz)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The worker never reported: its request may have been executed; a look-up has changed nothing. The delay counts from
  -- the claim, so that a first loss is made good at once, and a row that costs every worker its life does not come first
  -- for ever.
  insert into marketplace.transfer_attempts
    (transfer_id, kind, action, idempotency_key, lease_token, worker, started_at, finished_at, verdict, disposition)
  select
    t.id, 'lost_lease', t.lease_action, marketplace._current_key(t), t.lease_token, t.leased_by, t.leased_at, p_now,
    case when marketplace._moves_money(t.lease_action) then 'unknown' else 'unclear' end, 'applied'
  from marketplace.seller_transfers as t
  where t.id = any (p_ids) and t.lease_token is not null
  order by t.id;
  if not found then
    return p_ids;
  end if;

  update marketplace.seller_transfers as t
  set
    call_unknown = t.call_unknown or marketplace._moves_money(t.lease_action),
    call_absent_at = case when not marketplace._moves_money(t.lease_action) then t.call_absent_at end,
    -- The worker asks its clock for the end of the lease in the last line before it sends.
    call_last_sent_at = case when marketplace._moves_money(t.lease_action)
      then t.lease_expires_at else t.call_last_sent_at end,
    streak = n.streak,
    streak_since = case t.streak_verdict when 'unknown' then t.streak_since else p_now end,
    streak_verdict = 'unknown',
    next_retry_at = greatest(t.next_retry_at, t.leased_at + marketplace._retry_delay('unknown', n.streak)),
    lease_token = null, leased_at = null, lease_expires_at = null, leased_by = null, lease_action = null
  from (
    select s.id, case s.streak_verdict when 'unknown' then s.streak + 1 else 1 end as streak
    from marketplace.seller_transfers as s
    where s.id = any (p_ids) and s.lease_token is not null
  ) as n
  where t.id = n.id and t.id = any (p_ids);
  return array(
    select t.id from marketplace.seller_transfers as t
    -- Not an index condition: these few rows are found by their ids.
    where t.id = any (p_ids) and coalesce(t.next_retry_at, p_now) <= p_now);
end
$$;

comment on function marketplace._note_lost_leases(bigint[], timestamptz) is
  'Ends the lapsed leases among these rows and writes them to transfer_attempts: the outcome of each is unknown. Returns the rows that are still due.';

create or replace function marketplace._refuse_without_transfer_id(p_ids bigint[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.seller_transfers
  set
    status = 'permanently_failed',
    next_retry_at = null,
    failure_code = 'missing_transfer_id',
    failure_message = 'The transfer was recorded without its Stripe id: no reversal can be asked for.'
  -- Not "is null", which would be looked up among all rows without an id instead of among these.
  where id = any (p_ids) and coalesce(stripe_transfer_id, '') = '';
end
$$;

comment on function marketplace._refuse_without_transfer_id(bigint[]) is
  'Ends the rows for which no call can be built; none of them is leased.';
