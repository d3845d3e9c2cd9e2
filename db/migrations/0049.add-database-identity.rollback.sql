-- Refuses while the database is to be reconciled, and once something was logged that an earlier release has no word
-- for.

set local search_path = pg_catalog, pg_temp;

do $$
begin
  if to_regclass('marketplace.stripe_control') is null then
    return;
  end if;
  if exists (
    select from pg_catalog.pg_attribute
    where
      attrelid = 'marketplace.stripe_control'::regclass and attname = 'reconcile_needed_since' and not attisdropped
  ) and exists (select from marketplace.stripe_control where reconcile_needed_since is not null) then
    raise exception 'marketplace.stripe_control says that the database has to be reconciled: that is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Run seller-transfers reconcile first.';
  end if;
  if exists (
    select from marketplace.stripe_control_log
    where change in (
      'database pinned', 'promotion noticed', 'identity on trust by person',
      'reconcile needed', 'reconcile needed by person', 'reconciled', 'look-ups as usual by reconcile')
  ) then
    raise exception 'marketplace.stripe_control_log holds rows of this release: what they tell is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and take these rows out by hand if you mean it.';
  end if;

  -- Views over it, which no migration made.
  drop function if exists marketplace.read_needs_attention();
  drop view if exists marketplace.needs_attention;
  drop function if exists marketplace.read_queue_health();
  drop view if exists marketplace.queue_health;
  alter table marketplace.stripe_control
    drop constraint if exists chk_identity_is_whole,
    drop constraint if exists chk_promoted_within_is_bounded,
    drop constraint if exists chk_longest_lease_is_bounded,
    drop constraint if exists chk_lost_since_has_look_ups,
    drop constraint if exists chk_reconcile_is_whole,
    drop column if exists system_identifier,
    drop column if exists wal_timeline,
    drop column if exists database_oid,
    drop column if exists table_oid,
    drop column if exists identity_on_trust,
    drop column if exists promoted_within,
    drop column if exists longest_lease,
    drop column if exists lost_since,
    drop column if exists reconcile_needed_since,
    drop column if exists reconcile_reason,
    drop column if exists reconciled_at;
  alter table marketplace.stripe_control_log
    drop constraint if exists chk_control_change_is_known,
    add constraint chk_control_change_is_known check (
      change in (
        'paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer',
        'account pinned', 'rate set by person', 'rate turned down',
        'look-ups first by person', 'look-ups as usual by person',
        'refunds by app', 'refunds by events',
        'error rule set by person', 'error rule removed by person', 'retry policy set by person'
      )
    );
  comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
  comment on table marketplace.stripe_control_log is
    'Append-only: when calls were paused and resumed, slowed down and set free, whose account was pinned; by whom and why.';
end
$$;
