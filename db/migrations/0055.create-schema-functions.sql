-- What was loaded, function by function: one that somebody replaces by hand is noticed.
-- depends: 0054.validate-prunings

set local search_path = pg_catalog, pg_temp;

create table if not exists marketplace.schema_functions (
  signature text not null,
  sha256 text not null,
  callers text[] not null,
  loaded_at timestamptz not null default clock_timestamp(),
  loaded_by text not null default session_user,
  constraint pk_schema_functions primary key (signature),
  constraint chk_function_sha256_is_one check (sha256 ~ '^[0-9a-f]{64}$')
);

comment on table marketplace.schema_functions is
  'The functions of the schema as they were loaded from db/functions. Written anew by whoever loads them; self_check() compares.';
comment on column marketplace.schema_functions.signature is 'Name and types of arguments.';
comment on column marketplace.schema_functions.sha256 is 'What _function_sha256() said when it was loaded.';
comment on column marketplace.schema_functions.callers is 'The groups that may call it, as zz_access.sql says.';
comment on column marketplace.schema_functions.loaded_at is 'When.';
comment on column marketplace.schema_functions.loaded_by is 'By which session_user.';
comment on constraint pk_schema_functions on marketplace.schema_functions is 'One row per function.';
comment on constraint chk_function_sha256_is_one on marketplace.schema_functions is '64 digits, lower case.';

-- It gets an argument and a column: whether the log is read, and whether a problem is urgent.
-- squawk-ignore ban-drop-function
drop function if exists marketplace.self_check();
