-- Who changed which rule, and why, is kept with what else was changed about the calls.
-- depends: 0047.create-roles

set local search_path = pg_catalog, pg_temp;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.stripe_control_log'::regclass
      and conname = 'chk_control_change_is_known'
      and pg_get_constraintdef(oid) like '%retry policy set%'
  ) then
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
  end if;
end
$$;

comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
