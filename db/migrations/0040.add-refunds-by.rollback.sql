-- Refuses once events have asked, or somebody said that they should.

do $$
begin
  if to_regclass('marketplace.stripe_control') is null then
    return;
  end if;
  if exists (select from marketplace.stripe_control_log where change in ('refunds by app', 'refunds by events')) then
    raise exception 'marketplace.stripe_control_log holds rows of this release: what they tell is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and take these rows out by hand if you mean it.';
  end if;
  if exists (select from marketplace.reversal_requests where asked_by = 'events') then
    raise exception 'marketplace.reversal_requests holds requests by events: what they are for is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Stay on this release, or dump the tables and drop them by hand if you mean it.';
  end if;
  alter table marketplace.stripe_control_log
    drop constraint if exists chk_control_change_is_known,
    add constraint chk_control_change_is_known check (
      change in (
        'paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer',
        'account pinned', 'rate set by person', 'rate turned down',
        'look-ups first by person', 'look-ups as usual by person'
      )
    );
  comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
  alter table marketplace.reversal_requests
    drop constraint if exists chk_asked_by_is_whole,
    drop column if exists replaces,
    drop column if exists asked_for,
    drop column if exists asked_by;
  alter table marketplace.stripe_control
    drop constraint if exists chk_refunds_by_is_known,
    drop column if exists refunds_by;
end
$$;

drop type if exists marketplace.counted_cause cascade;
