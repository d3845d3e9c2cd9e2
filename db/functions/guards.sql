-- The triggers without which nothing is guarded.

create or replace function marketplace._missing_guards()
returns table (guard text, relation text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select w.guard, w.relation
    from (values
      ('_100_guard_transition', 'seller_transfers', 'tg_seller_transfers__guard_transition', 23, false),
      ('_200_guard_frozen', 'seller_transfers', 'tg_seller_transfers__guard_frozen', 19, false),
      ('_800_conserve_birth', 'seller_transfers', 'tg_seller_transfers__conserve_family', 5, true),
      ('_800_conserve_amount', 'seller_transfers', 'tg_seller_transfers__conserve_family', 17, true),
      ('_900_log_birth', 'seller_transfers', 'tg_seller_transfers__log_status', 5, false),
      ('_900_log_status', 'seller_transfers', 'tg_seller_transfers__log_status', 17, true),
      ('_100_refuse_delete', 'seller_transfers', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'seller_transfers', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'transfer_status_log', 'tg_records__refuse_change', 27, false),
      ('_100_refuse_truncate', 'transfer_status_log', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'transfer_attempts', 'tg_records__refuse_change', 27, false),
      ('_100_refuse_truncate', 'transfer_attempts', 'tg_records__refuse_change', 34, false),
      ('_900_match_pruning', 'transfer_status_log', 'tg_records__match_pruning', 8, false),
      ('_900_match_pruning', 'transfer_attempts', 'tg_records__match_pruning', 8, false),
      ('_100_refuse_change', 'prunings', 'tg_records__refuse_change', 27, false),
      ('_100_refuse_truncate', 'prunings', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'reversal_requests', 'tg_records__refuse_change', 19, true),
      ('_100_refuse_delete', 'reversal_requests', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'reversal_requests', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'reversal_request_lines', 'tg_records__refuse_change', 19, true),
      ('_100_refuse_delete', 'reversal_request_lines', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'reversal_request_lines', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'stripe_control', 'tg_records__refuse_change', 19, true),
      ('_100_refuse_repinning', 'stripe_control', 'tg_records__refuse_change', 19, true),
      ('_100_refuse_delete', 'stripe_control', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'stripe_control', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'stripe_control_log', 'tg_records__refuse_change', 27, false),
      ('_100_refuse_truncate', 'stripe_control_log', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_delete', 'retry_policy', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'retry_policy', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'stripe_events', 'tg_records__refuse_change', 19, true),
      ('_100_refuse_delete', 'stripe_events', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'stripe_events', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'stripe_refunds', 'tg_records__refuse_change', 19, true),
      ('_100_refuse_delete', 'stripe_refunds', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'stripe_refunds', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'stripe_disputes', 'tg_records__refuse_change', 19, true),
      ('_100_refuse_delete', 'stripe_disputes', 'tg_records__refuse_change', 11, false),
      ('_100_refuse_truncate', 'stripe_disputes', 'tg_records__refuse_change', 34, false),
      ('_100_refuse_change', 'dismissals', 'tg_records__refuse_change', 27, false),
      ('_100_refuse_truncate', 'dismissals', 'tg_records__refuse_change', 34, false)
    ) as w (guard, relation, function, fires_on, has_condition)
    where not exists (
      select from pg_catalog.pg_trigger as g
      where g.tgname = w.guard and g.tgrelid = to_regclass('marketplace.' || w.relation)
        and g.tgfoid = to_regproc('marketplace.' || w.function)
        -- pg_trigger.h: 1 for each row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate.
        and g.tgtype = w.fires_on and g.tgattr::text = '' and (g.tgqual is not null) = w.has_condition
        -- One that never holds looks at no row.
        and (not w.has_condition or pg_get_triggerdef(g.oid) ~ 'WHEN .*(old|new)[.]'));
end
$$;

comment on function marketplace._missing_guards() is 'The guards that are not bound as they should be, to fire when they should; none if all is well.';

create or replace function marketplace._check_between()
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'foreign trigger', format('%s on %s', g.tgname, g.tgrelid::regclass), format('it calls %s', g.tgfoid::regprocedure),
      format('drop trigger %I on %s;', g.tgname, g.tgrelid::regclass)
    from pg_catalog.pg_trigger as g
    inner join pg_catalog.pg_class as c on c.oid = g.tgrelid
    inner join pg_catalog.pg_proc as p on p.oid = g.tgfoid
    where c.relnamespace = 'marketplace'::regnamespace and not g.tgisinternal
      and p.pronamespace <> 'marketplace'::regnamespace
    union all
    select 'rule', format('%s on %s', w.rulename, w.ev_class::regclass), 'what is written may not be what was said',
      format('drop rule %I on %s;', w.rulename, w.ev_class::regclass)
    from pg_catalog.pg_rewrite as w
    inner join pg_catalog.pg_class as c on c.oid = w.ev_class
    where c.relnamespace = 'marketplace'::regnamespace and w.rulename <> '_RETURN'
    union all
    select 'row security', c.oid::regclass::text, 'functions may not see every row',
      format('alter table %s disable row level security, no force row level security;', c.oid::regclass)
    from pg_catalog.pg_class as c
    where c.relnamespace = 'marketplace'::regnamespace and (c.relrowsecurity or c.relforcerowsecurity);
end
$$;

comment on function marketplace._check_between() is
  'What gets between functions and tables: triggers of somebody else''s, rules, row security; rows as of self_check.';
