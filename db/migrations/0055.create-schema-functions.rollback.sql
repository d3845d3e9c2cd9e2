set local search_path = pg_catalog, pg_temp;

-- What is in it is written anew whenever functions are loaded.
drop function if exists marketplace.self_check(boolean);
drop table if exists marketplace.schema_functions;
