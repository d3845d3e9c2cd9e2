-- Calls may go on after a restore: what must be true, and why.
--
-- This database was restored from an older state, or cloned. What was done since that state is at Stripe, and its rows
-- are gone or are what they were then. Nothing may move a second time, also when the app asks again for what was lost:
--
-- 1. Nobody else makes calls as this database. Two copies that look before they send can both see nothing. The
--    comparison shows what was made with our mark after this database had stopped (another copy), and what another
--    database has made for the same transfer_keys; either forbids calls. And calls stay stopped for two leases longer,
--    for what was under way when the other copy ended.
-- 2. The list is of the right account, and whole: everything was listed, to its end, since before anything of ours was
--    made. A run over a shorter time, or that broke off, resumes nothing.
-- 3. From now on every row is looked up before anything is sent for it: those that are open again, and those born
--    later. So a row that has forgotten its request finds what the request made: by its identity, which is made of what
--    the app gives and not of serial numbers or generations. Parts are counted per request, so a request that is asked
--    again as it was has the part it had; asked again otherwise it finds another amount under its identity, and is
--    parked.
-- 4. A look-up for a send reads the list of transfers from a day before its row's birth, and a row that is born again
--    may be younger than what was sent for it by any time. So it reads from before the oldest transfer that the
--    comparison found without a row, however late the app asks. For reversals, and for what a compensation gives back,
--    the same holds: the one list has no beginning, and the other is the list of transfers.
-- 5. What is at Stripe and has no row, and is not asked for again, stays as it is: it is on this list, with what to
--    type. What Stripe has taken back beyond what rows say bounds what a look-up lets be taken back yet.
--
-- Look-ups first end with another comparison, begun when nothing of the lost history can be under way any more, that
-- finds nothing of ours without a row: then all that could be sent a second time is known to a row.

create or replace function marketplace.resume_after_reconcile(p_run_id bigint, p_reason text)
returns setof marketplace.reconcile_runs
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run marketplace.reconcile_runs;
  v_control marketplace.stripe_control;
  v_now timestamptz;
  v_oldest timestamptz;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  -- Who begins another run clears what this one has read; not before this one has been judged by it.
  perform pg_advisory_xact_lock(hashtextextended('seller-transfers reconcile', 0));
  v_run := marketplace._lock_run(p_run_id);
  select * into strict v_control from marketplace.stripe_control;
  v_now := clock_timestamp();
  perform marketplace._require_resumable(v_run, v_control, v_now);
  if v_control.reconcile_needed_since is null then
    -- Locks rows, and stripe_control after them.
    if not marketplace._end_look_up_first(v_run.started_at) then
      perform marketplace._refuse_to_resume(p_run_id, 'what was sent before the failover may still be under way',
        'Wait until an hour after it, and run seller-transfers reconcile again.');
    end if;
    return next v_run;
    return;
  end if;

  -- It may have become another one again.
  select * into strict v_control from marketplace.stripe_control for no key update;
  perform marketplace._require_resumable(v_run, v_control, v_now);
  select min(o.created_at) into v_oldest
  from marketplace.reconcile_objects as o
  where o.run_id = p_run_id and o.object = 'transfer'
    and o.identity ~ format('^transfer:((again:)?%s:|[0-9a-f]{64}$)', v_control.database_id)
    and not marketplace._is_recorded(o.stripe_id);
  perform marketplace._reconciled(v_now, p_reason);
  update marketplace.stripe_control
  set lost_since = least(v_control.lost_since, v_oldest)
  where v_oldest is not null;
  perform pg_notify('seller_transfers_due', '');
  return next v_run;
end
$$;

comment on function marketplace.resume_after_reconcile(bigint, text) is
  'Lets calls go on in a database that had become another one, each after a look, when a complete run over everything has compared it with Stripe; where calls go on already, ends the looks before them. Returns the run. Raises ST012 where that could move money twice.';

create or replace function marketplace._require_resumable(
  p_run marketplace.reconcile_runs, p_control marketplace.stripe_control, p_now timestamptz
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_again constant text := 'Run seller-transfers reconcile without --since, to its end, with a key that may say whose it is.';
  v_why text;
begin
  if p_control.reconcile_needed_since is null and p_control.look_up_first_since is null then
    perform marketplace._refuse_to_resume(p_run.id, 'calls go on as usual', 'There is nothing to resume.');
  end if;
  v_why := case
    when not p_run.is_complete then coalesce('it ended early: ' || p_run.trouble, 'it has not ended')
    when p_run.created_since is not null then format('it compared only what was made since %s', p_run.created_since)
    when p_run.started_at < p_control.reconcile_needed_since then 'it was begun before the database became another one'
    when p_run.finished_at < p_now - interval '1 hour' then 'it is more than an hour old'
    when exists (select from marketplace.reconcile_runs as r where r.id > p_run.id) then 'another one was begun since'
    when p_run.stripe_account is null and not exists (
      select from marketplace.reconcile_objects as o where o.run_id = p_run.id and marketplace._is_recorded(o.stripe_id)
    ) then 'the key may not say whose it is, and the list has nothing that rows stand for'
  end;
  if v_why is not null then
    perform marketplace._refuse_to_resume(p_run.id, v_why, v_again);
  end if;
  select format('%s (%s of these)', f.kind, count(*)) into v_why
  from marketplace.reconcile_findings as f
  where f.run_id = p_run.id and (f.forbids_calls or (
    -- Without a look before it, what was lost would be sent again when it is asked for again.
    p_control.reconcile_needed_since is null
    and f.kind in ('lost transfer', 'lost reversal', 'paid unheard', 'reversed unheard', 'unclear')))
  group by f.kind
  order by f.kind
  limit 1;
  if found then
    perform marketplace._refuse_to_resume(p_run.id, 'it found ' || v_why,
      format('Look at select * from marketplace.reconcile_differences(p_run_id => %s); each says what to do next. Then run seller-transfers reconcile again.', p_run.id));
  end if;
end
$$;

comment on function marketplace._require_resumable(
  marketplace.reconcile_runs, marketplace.stripe_control, timestamptz
) is 'Raises ST012 unless calls, or calls without a look before them, may go on by what the run found.';

create or replace function marketplace._refuse_to_resume(p_run_id bigint, p_why text, p_hint text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'run % resumes nothing: %', p_run_id, p_why
    using errcode = 'ST012', hint = p_hint, column = 'p_run_id';
end
$$;

comment on function marketplace._refuse_to_resume(bigint, text, text) is 'Raises ST012: calls do not go on.';
