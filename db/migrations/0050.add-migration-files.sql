-- From which file each migration was applied: a file that was edited after that is noticed.
-- depends: 0049.add-database-identity

set local search_path = pg_catalog, pg_temp;

do $$
begin
  if to_regclass('marketplace.migration_files') is null then
    create table marketplace.migration_files (
      migration_id text not null,
      sha256 text not null,
      applied_at timestamptz not null,
      noted_at timestamptz not null default clock_timestamp(),
      constraint pk_migration_files primary key (migration_id),
      constraint chk_sha256_is_one check (sha256 ~ '^[0-9a-f]{64}$')
    );
  end if;
end
$$;

comment on table marketplace.migration_files is
  'From which file each migration was applied. Noted by whoever loads db/functions; for those applied before this table was there, from the file of that moment. A row may be deleted: it is noted anew at the next migrate.';
comment on column marketplace.migration_files.migration_id is 'Name of the file, without .sql.';
comment on column marketplace.migration_files.sha256 is 'SHA-256 of the file, in hex.';
comment on column marketplace.migration_files.applied_at is 'When it was applied, as yoyo marked it: rolled back and applied again it is noted anew.';
comment on column marketplace.migration_files.noted_at is 'When this row was written.';
comment on constraint pk_migration_files on marketplace.migration_files is 'One row per migration.';
comment on constraint chk_sha256_is_one on marketplace.migration_files is '64 digits, lower case.';
