-- Which release these functions are of, and which runners they still serve.
--
-- A runner goes on while the database is migrated under it. What it claims and reports is then done by functions of a
-- later release: as long as those take its calls and their rows have the columns it knows, that is as good as before.
-- When they do not any more, _oldest_runner is raised to the first release that knows the new ones: older runners get
-- no more work, may still report what is in flight, and end.

create or replace function marketplace._release()
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return '0.1.0';
end
$$;

comment on function marketplace._release() is 'The release of the program that these functions came with.';

create or replace function marketplace._oldest_runner()
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return '0.1.0';
end
$$;

comment on function marketplace._oldest_runner() is 'The oldest release whose runners may claim.';

create or replace function marketplace._release_number(p_release text)
returns integer[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (string_to_array(substring(p_release from '^[0-9]{1,6}(?:[.][0-9]{1,6}){1,2}'), '.'))::integer[];
end
$$;

comment on function marketplace._release_number(text) is
  'A release as numbers, to be compared; null if it is none. What follows a third number, as in 1.2.0rc1, does not count.';

create or replace function marketplace._require_served(p_version text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if marketplace._release_number(p_version) < marketplace._release_number(marketplace._oldest_runner()) then
    raise exception 'the runner is of release %, this database serves runners from % on',
      p_version, marketplace._oldest_runner()
      using errcode = 'ST015',
            hint = format('Install release %s of the program. What the runner has in flight it may still report.',
              marketplace._release()),
            column = 'p_version';
  end if;
end
$$;

comment on function marketplace._require_served(text) is
  'Raises ST015 for a runner older than these functions know. A version that is no release is of no age.';
