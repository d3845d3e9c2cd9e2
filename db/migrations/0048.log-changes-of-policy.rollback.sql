-- Refuses once a rule or a policy was changed by its function: what the log tells of that is not dropped.

set local search_path = pg_catalog, pg_temp;

do $$
begin
  if to_regclass('marketplace.stripe_control_log') is null then
    return;
  end if;
  if exists (
    select from marketplace.stripe_control_log
    where change in ('error rule set by person', 'error rule removed by person', 'retry policy set by person')
  ) then
    raise exception 'marketplace.stripe_control_log holds rows of this release: what they tell is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Stay on this release, or dump the table and take these rows out by hand if you mean it.';
  end if;
  alter table marketplace.stripe_control_log
    drop constraint if exists chk_control_change_is_known,
    add constraint chk_control_change_is_known check (
      change in (
        'paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer',
        'account pinned', 'rate set by person', 'rate turned down',
        'look-ups first by person', 'look-ups as usual by person',
        'refunds by app', 'refunds by events'
      )
    );
  comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
end
$$;
