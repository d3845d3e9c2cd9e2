-- The end of a run: what differs is read again, compared once more, and kept as it is then.

create or replace function marketplace._differences(p_run marketplace.reconcile_runs)
returns setof marketplace.reconcile_difference
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select * from marketplace._compare_account(p_run)
  union all
  select * from marketplace._compare_paid(p_run)
  union all
  select * from marketplace._compare_sent(p_run)
  union all
  select * from marketplace._compare_reversals(p_run)
  union all
  select * from marketplace._compare_sums(p_run)
$$;

comment on function marketplace._differences(marketplace.reconcile_runs) is
  'What differs between what a run has read and the rows as they are now.';

create or replace function marketplace.transfers_to_reread(p_run_id bigint, p_limit integer default 1000)
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run marketplace.reconcile_runs;
begin
  perform marketplace._require_limit(p_limit);
  perform marketplace._require_read_committed();
  v_run := marketplace._lock_open_run(p_run_id);
  return query
    with found as materialized (
      select * from marketplace._differences(v_run)
    )
    select distinct f.stripe_transfer_id from found as f
    where f.stripe_transfer_id is not null
      -- The list of another account gets no better by that.
      and not exists (select from found as a where a.kind = 'another account')
    order by 1
    limit p_limit;
  if found then
    update marketplace.reconcile_runs as r
    set reread_at = coalesce(r.reread_at, clock_timestamp())
    where r.id = p_run_id;
  end if;
end
$$;

comment on function marketplace.transfers_to_reread(bigint, integer) is
  'When all is handed over: the transfers (tr_…) for which something differs, at most p_limit. Each is to be read again with its reversals, and handed over again.';

create or replace function marketplace.finish_reconcile(p_run_id bigint, p_trouble text default null)
returns setof marketplace.reconcile_runs
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run marketplace.reconcile_runs;
  v_now timestamptz;
begin
  perform marketplace._require_read_committed();
  v_run := marketplace._lock_open_run(p_run_id);
  if p_trouble is null then
    insert into marketplace.reconcile_findings (
      run_id, n, kind, is_urgent, forbids_calls, transfer_id, order_id, stripe_transfer_id, stripe_reversal_id,
      amount, amount_at_stripe, currency, money, why, next_step)
    select
      p_run_id, row_number() over (order by d.is_urgent desc, d.kind, d.transfer_id, d.stripe_transfer_id, d.stripe_reversal_id),
      d.kind, d.is_urgent, d.forbids_calls, d.transfer_id, d.order_id, d.stripe_transfer_id, d.stripe_reversal_id,
      d.amount, d.amount_at_stripe, d.currency,
      nullif(concat_ws(', ',
        marketplace._amount_in_words(d.amount, d.currency) || ' here',
        marketplace._amount_in_words(d.amount_at_stripe, d.currency) || ' at Stripe'), ''),
      left(d.why, 1000), left(d.next_step, 2000)
    from marketplace._differences(v_run) as d;
  end if;
  v_now := clock_timestamp();
  return query
    update marketplace.reconcile_runs as r
    set
      finished_at = v_now,
      is_complete = p_trouble is null,
      trouble = case when p_trouble is not null then coalesce(marketplace._clean_text(p_trouble, 1000), 'no reason given') end,
      differences = case when p_trouble is null then n.differences end,
      urgent = case when p_trouble is null then n.urgent end
    from (
      select count(*) as differences, count(*) filter (where f.is_urgent) as urgent
      from marketplace.reconcile_findings as f where f.run_id = p_run_id
    ) as n
    where r.id = p_run_id
    returning r.*;
end
$$;

comment on function marketplace.finish_reconcile(bigint, text) is
  'Ends a run: compares all that was handed over with the rows as they are now and keeps what differs; or, with p_trouble, says why not everything could be read. Returns the run.';

create or replace function marketplace.reconcile_differences(p_run_id bigint default null)
returns setof marketplace.reconcile_findings
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select f.* from marketplace.reconcile_findings as f
  where f.run_id = coalesce(p_run_id, (select max(r.id) from marketplace.reconcile_runs as r where r.is_complete))
  order by f.n
$$;

comment on function marketplace.reconcile_differences(bigint) is
  'What a run found, urgent ones first; without p_run_id the last complete one.';

create or replace function marketplace.read_reconcile_run()
returns setof marketplace.reconcile_runs
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select r.* from marketplace.reconcile_runs as r order by r.id desc limit 1
$$;

comment on function marketplace.read_reconcile_run() is 'The last comparison with Stripe, as far as it has come; no row if there was none.';
