-- Takes the functions of db/functions along, which no migration made. Refuses while there is a table of another
-- migration.

do $$
begin
  if exists (
    select from pg_catalog.pg_class
    where relnamespace = to_regnamespace('marketplace') and relkind = 'r' and relname <> 'schema_release'
  ) then
    raise exception 'schema marketplace holds tables: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Roll the later migrations back first.';
  end if;
  drop schema if exists marketplace cascade;
end
$$;
