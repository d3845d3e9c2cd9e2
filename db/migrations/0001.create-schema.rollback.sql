drop table if exists marketplace.schema_release;
drop schema if exists marketplace;
