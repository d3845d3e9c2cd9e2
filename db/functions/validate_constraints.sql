-- Constraints that a migration added NOT VALID are tried again by every migrate: the table may be clean by now.

create or replace function marketplace.validate_constraints()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_constraint record;
begin
  for v_constraint in
    select k.conname, k.conrelid::regclass as relation
    from pg_catalog.pg_constraint as k
    where k.connamespace = 'marketplace'::regnamespace and not k.convalidated
  loop
    begin
      execute format('alter table %s validate constraint %I', v_constraint.relation, v_constraint.conname);
    exception
      when lock_not_available then
        raise warning '% on % is not valid yet: the table is locked', v_constraint.conname, v_constraint.relation
          using hint = 'Run seller-transfers migrate again.';
      when check_violation or foreign_key_violation then
        raise warning '% on % is not valid yet: %', v_constraint.conname, v_constraint.relation, (
          select coalesce(c.detail, sqlerrm) from marketplace._check_schema() as c
          where c.object = format('%s on %s', v_constraint.conname, v_constraint.relation))
          using hint = 'Mend the rows that break it, then run seller-transfers migrate again.';
    end;
  end loop;
end
$$;

comment on function marketplace.validate_constraints() is
  'Tries to validate what a migration added NOT VALID; warns, with the rows, where the table is not clean yet. Run by every seller-transfers migrate.';
