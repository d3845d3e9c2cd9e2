-- Comparing with Stripe: a run is begun, what Stripe lists is handed over (reconcile_objects.sql), and the end compares
-- (reconcile_transfers.sql, reconcile_reversals.sql, reconcile_account.sql).
--
-- Runners go on meanwhile, so Stripe's list and the rows are never of one moment. What decides is time. All that was at
-- Stripe when the run began is on the list, and the rows are read at the end. So Stripe may show more than the rows
-- only while a worker has a row, or its outcome is not known: that is work in progress, and no difference. And the rows
-- may show more than Stripe only if they came to it after the list was begun: that is left to the next run. What
-- differs all the same is read a second time, by itself, before it is believed.

create or replace function marketplace.start_reconcile(
  p_stripe_account text, p_livemode boolean, p_created_since timestamptz default null
)
returns setof marketplace.reconcile_runs
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run_id bigint;
  v_control marketplace.stripe_control;
begin
  if p_stripe_account is not null then
    perform marketplace._require_stripe_id('p_stripe_account', p_stripe_account, array['acct']);
  end if;
  if p_livemode is null then
    raise exception 'p_livemode is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass livemode of GET /v1/balance, asked with the key.',
            column = 'p_livemode';
  end if;
  if not coalesce(isfinite(p_created_since) and p_created_since <= clock_timestamp(), true) then
    raise exception 'p_created_since is %', p_created_since
      using errcode = 'invalid_parameter_value', hint = 'Pass a time that has been, or nothing to compare everything.',
            column = 'p_created_since';
  end if;
  perform marketplace._notice_change();
  -- One run at a time: the one that began last. Not under the lock that every claim takes: there may be much to clear.
  perform pg_advisory_xact_lock(hashtextextended('seller-transfers reconcile', 0));
  select * into strict v_control from marketplace.stripe_control;
  perform marketplace._require_own_account(v_control, p_stripe_account, p_livemode);
  update marketplace.reconcile_runs
  set finished_at = clock_timestamp(), trouble = 'Another run was begun.'
  where finished_at is null;
  insert into marketplace.reconcile_runs (stripe_account, livemode, created_since)
  values (p_stripe_account, p_livemode, p_created_since)
  returning id into v_run_id;
  delete from marketplace.reconcile_objects where run_id <> v_run_id;
  delete from marketplace.reconcile_findings as f
  using marketplace.reconcile_runs as r
  where r.id = f.run_id and r.started_at < clock_timestamp() - interval '30 days'
    and r.id <> (select max(c.id) from marketplace.reconcile_runs as c where c.is_complete);
  return query select r.* from marketplace.reconcile_runs as r where r.id = v_run_id;
end
$$;

comment on function marketplace.start_reconcile(text, boolean, timestamptz) is
  'Begins a comparison with Stripe, of transfers made since p_created_since (null: of all), and ends one that is under way. p_stripe_account and p_livemode are what the Stripe key says. Raises ST006 for a key of another account or mode.';

create or replace function marketplace._lock_run(p_run_id bigint)
returns marketplace.reconcile_runs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run marketplace.reconcile_runs;
begin
  if p_run_id is null then
    raise exception 'p_run_id is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass the id that start_reconcile returned.', column = 'p_run_id';
  end if;
  select r.* into v_run from marketplace.reconcile_runs as r where r.id = p_run_id for no key update;
  if not found then
    raise exception 'there is no run %', p_run_id
      using errcode = 'invalid_parameter_value', hint = 'Pass the id that start_reconcile returned.', column = 'p_run_id';
  end if;
  return v_run;
end
$$;

comment on function marketplace._lock_run(bigint) is 'Locks a run and returns it. Raises 22004 or 22023 for an id that no run has.';

create or replace function marketplace._lock_open_run(p_run_id bigint)
returns marketplace.reconcile_runs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run marketplace.reconcile_runs := marketplace._lock_run(p_run_id);
begin
  if v_run.finished_at is not null then
    raise exception 'run % has ended: %', p_run_id, coalesce(v_run.trouble, 'it is complete')
      using errcode = 'ST012',
            hint = 'Let one run end before the next is begun.', column = 'p_run_id';
  end if;
  return v_run;
end
$$;

comment on function marketplace._lock_open_run(bigint) is 'As _lock_run; raises ST012 for a run that has ended.';

create or replace function marketplace.pay_for_read(p_run_id bigint)
returns interval
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
  v_now timestamptz;
begin
  perform marketplace._require_read_committed();
  perform marketplace._lock_open_run(p_run_id);
  select * into strict v_control from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  if marketplace._affordable_calls(v_control, 1, v_now) > 0 then
    perform marketplace._pay_for_calls(1, v_now);
    return interval '0';
  end if;
  return greatest(marketplace._next_token_at(v_control, v_now) - v_now, interval '1 millisecond');
end
$$;

comment on function marketplace.pay_for_read(bigint) is
  'Takes the token for one request that only reads from the budget of all runners, and returns 0; or how long until there may be one.';
