-- What makes calls dangerous that no single row shows: another account's list, and another copy of this database at
-- work.

create or replace function marketplace._compare_account(p_run marketplace.reconcile_runs)
returns setof marketplace.reconcile_difference
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  -- Transfers do not vanish. A wrong id or two may have been recorded; but where most are missing, the list is not ours.
  select
    'another account', true, true, null::bigint, null::text, null::text, null::text, null::bigint, null::bigint, null::text,
    format('Stripe has %s of the %s transfers that rows stand for. Is this key of the account that they were paid from?',
      n.found, n.expected),
    'Run seller-transfers reconcile with a key of that account.'
  from (
    select count(*) as expected, count(o.stripe_id) as found
    from marketplace._stands() as s
    left join marketplace.reconcile_objects as o on o.run_id = p_run.id and o.stripe_id = s.stripe_transfer_id
    where s.known_since < p_run.started_at and coalesce(s.known_since >= p_run.created_since + interval '1 day', true)
  ) as n
  where n.found * 2 < n.expected
  union all
  -- No call was made here since: what was made all the same, with this database's mark, was made by another one with it.
  select
    'another copy', true, true, null, null, min(o.stripe_transfer_id), null, null, null, null,
    format('Transfers and reversals of this database (%s, the last at %s) were made after it stopped making calls: another copy of it is at work.',
      count(*), max(o.created_at)),
    'Stop the other copy, wait an hour, and run seller-transfers reconcile again.'
  from marketplace.reconcile_objects as o
  cross join marketplace.stripe_control as c
  where o.run_id = p_run.id
    and o.created_at > greatest(
      -- What was under way when it stopped may have arrived after that.
      c.reconcile_needed_since + 2 * c.longest_lease,
      p_run.started_at - (select p.quiet from marketplace.retry_policy as p where p.verdict = 'unknown'))
    and c.reconcile_needed_since is not null
    and o.identity ~ format('^(transfer|transfer:again|reversal):%s:', c.database_id)
  having count(*) > 0
$$;

comment on function marketplace._compare_account(marketplace.reconcile_runs) is
  'Whether the list is of this database''s account, and whether this is the only copy of the database that makes calls.';
