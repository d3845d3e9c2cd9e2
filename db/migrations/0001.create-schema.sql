-- The schema, and the one row that says which release of it is installed.

create schema if not exists marketplace;

comment on schema marketplace is
  'Seller transfers and their reversals at Stripe Connect: state machine, leases, retry policy and audit trail. Written through its functions only.';

create table if not exists marketplace.schema_release (
  singleton boolean not null default true,
  migration_head text not null,
  functions_sha256 text not null,
  loaded_at timestamptz not null default clock_timestamp(),
  loaded_by text not null default session_user,
  constraint pk_schema_release primary key (singleton),
  constraint chk_schema_release_is_one_row check (singleton)
);

comment on table marketplace.schema_release is
  'One row: what is installed. Written by whoever loads db/functions; a runner starts only on the release it was built with.';
comment on column marketplace.schema_release.singleton is 'Always true: there is one row.';
comment on column marketplace.schema_release.migration_head is 'Id of the newest migration in the release that was loaded.';
comment on column marketplace.schema_release.functions_sha256 is 'SHA-256 over the files of db/functions, in name order.';
comment on column marketplace.schema_release.loaded_at is 'When db/functions was last loaded.';
comment on column marketplace.schema_release.loaded_by is 'The session_user that loaded it.';
comment on constraint pk_schema_release on marketplace.schema_release is 'One row.';
comment on constraint chk_schema_release_is_one_row on marketplace.schema_release is 'One row.';
