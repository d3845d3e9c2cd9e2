-- What it holds is noted anew.

set local search_path = pg_catalog, pg_temp;

drop table if exists marketplace.migration_files;
