-- Refuses where a refund is known to be none of the buyer's: without that, sellers would be asked for their share.

set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_is_used boolean;
begin
  if to_regclass('marketplace.charges') is null then
    return;
  end if;
  if exists (
    select from pg_catalog.pg_attribute
    where attrelid = 'marketplace.charges'::regclass and attname = 'uncaptured' and not attisdropped
  ) then
    execute 'select exists (select from marketplace.charges where uncaptured > 0)' into v_is_used;
    if v_is_used then
      raise exception 'marketplace.charges holds charges that were captured in part: what was not is not dropped'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Stay on this release, or dump the table and take these rows out by hand if you mean it.';
    end if;
  end if;
  alter table marketplace.charges
    drop constraint if exists chk_charge_captures_are_bounded,
    drop column if exists captured_at,
    drop column if exists is_released,
    drop column if exists uncaptured,
    drop column if exists captured;
end
$$;
