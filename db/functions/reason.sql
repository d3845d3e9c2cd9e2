-- Why something is done, for the status log.

create or replace function marketplace._give_reason(p_reason text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text := coalesce(current_setting('marketplace.reason', true), '');
begin
  perform set_config('marketplace.reason', coalesce(p_reason, ''), true);
  return v_before;
end
$$;

comment on function marketplace._give_reason(text) is
  'Sets marketplace.reason, which the status log quotes, for the rest of the transaction; returns what it was before.';

create or replace function marketplace._add_reason(p_reason text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return marketplace._give_reason(
    concat_ws(': ', p_reason, nullif(current_setting('marketplace.reason', true), '')));
end
$$;

comment on function marketplace._add_reason(text) is 'As _give_reason; what the caller had said comes after it.';
