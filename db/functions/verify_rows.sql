-- The rows, and what was tried for them, as far as it can be said for sure: a report that no machine had is no fault.

create or replace function marketplace._statuses()
returns text[]
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return array['pending', 'completed', 'failed', 'reversal_pending', 'reversed', 'permanently_failed'];
end
$$;

comment on function marketplace._statuses() is 'The six statuses.';

create or replace function marketplace._verify_rows(p_transfer_ids bigint[])
returns table (transfer_id bigint, problem text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return query
    select t.id, 'has no log'
    from marketplace.seller_transfers as t
    where (p_transfer_ids is null or t.id = any (p_transfer_ids))
      and not exists (select from marketplace.transfer_status_log as l where l.transfer_id = t.id);

  -- As at every commit, but of all families: for a trigger that was away for a while.
  return query
    select r.id, format('the transfer and its slices come to %s instead of %s', coalesce(f.amount, 0), r.original_amount)
    from marketplace.seller_transfers as r
    left join (
      select coalesce(t.root_id, t.id) as root_id, sum(t.amount) as amount
      from marketplace.seller_transfers as t
      left join marketplace.seller_transfers as s on s.successor_of = t.id
      where (p_transfer_ids is null or t.id = any (p_transfer_ids)) and s.id is null
      group by coalesce(t.root_id, t.id)
    ) as f on f.root_id = r.id
    where (p_transfer_ids is null or r.id = any (p_transfer_ids))
      and r.root_id is null and f.amount is distinct from r.original_amount::numeric;
end
$$;

comment on function marketplace._verify_rows(bigint[]) is
  'Transfers without a log, and transfers whose rows do not come to what was recorded.';

create or replace function marketplace._verify_attempts(p_transfer_ids bigint[])
returns table (transfer_id bigint, attempt_id bigint, problem text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_latest timestamptz := clock_timestamp() + marketplace._clock_step();
  v_step interval := marketplace._clock_step();
begin
  -- Each by itself, against its row.
  return query
    select a.transfer_id, a.id, f.problem
    from marketplace.transfer_attempts as a
    left join marketplace.seller_transfers as t on t.id = a.transfer_id
    cross join lateral (
      select case
        when t.id is null then 'there is no such transfer'
        when (a.kind = 'lost_lease') > (a.disposition = 'applied') then 'a lost lease that was not applied'
        when a.kind = 'second_report' and a.disposition = 'applied' then 'a second report that was applied'
        when a.finished_at > v_latest or a.started_at > a.finished_at + v_step
          then format('begun at %s and finished at %s', a.started_at, a.finished_at)
        when a.disposition <> 'applied' or a.verdict <> 'succeeded' then null
        when a.action in ('send', 'look_up_transfer') and t.completed_at is null
          then format('Stripe made %s, and the row is %s', a.stripe_object_id, t.status)
        when a.action in ('send', 'look_up_transfer') and t.stripe_transfer_id is distinct from a.stripe_object_id
          then format('Stripe made %s, and the row has %s', a.stripe_object_id, t.stripe_transfer_id)
        when a.action in ('reverse', 'look_up_reversals') and t.status <> 'reversed'
          then format('Stripe made %s, and the row is %s', a.stripe_object_id, t.status)
        when a.action in ('reverse', 'look_up_reversals') and t.stripe_reversal_id is distinct from a.stripe_object_id
          then format('Stripe made %s, and the row has %s', a.stripe_object_id, t.stripe_reversal_id)
      end as problem
    ) as f
    where (p_transfer_ids is null or a.transfer_id = any (p_transfer_ids)) and f.problem is not null;

  -- A lease is ended by one report, or by its loss.
  return query
    select max(a.transfer_id), max(a.id), format('the lease %s was applied %s times', a.lease_token, count(*))
    from marketplace.transfer_attempts as a
    where a.disposition = 'applied' and (p_transfer_ids is null or a.transfer_id = any (p_transfer_ids))
    group by a.lease_token
    having count(*) > 1;

  return query
    select t.id, a.id, 'the row is leased under a token that was applied already'
    from marketplace.seller_transfers as t
    inner join marketplace.transfer_attempts as a on a.lease_token = t.lease_token and a.disposition = 'applied'
    where t.lease_token is not null and (p_transfer_ids is null or t.id = any (p_transfer_ids));

  -- An obligation is met once.
  return query
    select a.transfer_id, max(a.id), format('%s success was applied %s times',
      case when a.action in ('send', 'look_up_transfer') then 'a payment''s' else 'a reversal''s' end, count(*))
    from marketplace.transfer_attempts as a
    where a.disposition = 'applied' and a.verdict = 'succeeded'
      and (p_transfer_ids is null or a.transfer_id = any (p_transfer_ids))
    group by a.transfer_id, a.action in ('send', 'look_up_transfer')
    having count(*) > 1;
end
$$;

comment on function marketplace._verify_attempts(bigint[]) is
  'Attempts that cannot have come about: a lease applied twice, an obligation met twice, a success that its row does not have.';
