-- Refuses once a part of a dispute came back: without what remains, sellers would get back all that it took.

set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_is_used boolean;
begin
  if to_regclass('marketplace.stripe_disputes') is null then
    return;
  end if;
  if exists (
    select from pg_catalog.pg_attribute
    where attrelid = 'marketplace.stripe_disputes'::regclass and attname = 'remaining' and not attisdropped
  ) then
    execute 'select exists (select from marketplace.stripe_disputes where remaining is not null)' into v_is_used;
    if v_is_used then
      raise exception 'marketplace.stripe_disputes holds what remains of disputes: it is not dropped'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Stay on this release, or dump the table and take these rows out by hand if you mean it.';
    end if;
  end if;
  create or replace trigger _100_refuse_change
  before update on marketplace.stripe_disputes
  for each row when (
    new.dispute_id is distinct from old.dispute_id
    or (old.charge_id is not null and new.charge_id is distinct from old.charge_id)
    or (old.funds_withdrawn and not new.funds_withdrawn)
    or (old.funds_reinstated and not new.funds_reinstated)
    or (old.status = 'won' and new.status <> 'won')
  )
  execute function marketplace.tg_records__refuse_change();
  alter table marketplace.stripe_disputes
    enable always trigger _100_refuse_change,
    drop constraint if exists chk_dispute_remaining_is_bounded,
    drop column if exists remaining;
  alter table marketplace.reversal_requests
    drop constraint if exists chk_asked_of_is_bounded,
    drop column if exists asked_of;
end
$$;
