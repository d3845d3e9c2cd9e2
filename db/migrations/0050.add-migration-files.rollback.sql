-- What it holds is noted anew.

drop table if exists marketplace.migration_files;
