-- Refuses once something was logged that an earlier release has no word for: which account the database belongs to is
-- not forgotten by a migration.

do $$
begin
  if to_regclass('marketplace.stripe_control_log') is null then
    return;
  end if;
  if exists (
    select from marketplace.stripe_control_log
    where
      change not in ('paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer')
  ) then
    raise exception 'marketplace.stripe_control_log holds rows of this release: what they tell is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and take these rows out by hand if you mean it.';
  end if;

  drop trigger if exists _100_refuse_repinning on marketplace.stripe_control;
  alter table marketplace.stripe_control
    drop constraint if exists chk_pin_is_whole,
    drop column if exists stripe_account,
    drop column if exists livemode,
    drop column if exists pinned_at;
  alter table marketplace.stripe_control_log
    drop constraint if exists chk_control_change_is_known,
    add constraint chk_control_change_is_known check (
      change in ('paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer')
    );
  comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
  comment on table marketplace.stripe_control_log is 'Append-only: when calls were paused and resumed, by whom and why.';
  comment on column marketplace.stripe_control_log.change is 'What happened to the calls.';
  comment on column marketplace.stripe_control_log.reason is 'Why, in words.';
end
$$;

drop table if exists marketplace.runners cascade;
