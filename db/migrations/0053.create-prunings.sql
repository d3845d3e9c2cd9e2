-- Old history may be shed, once exported and only by what leaves a record of it: db/functions/prune_history.sql.
--
-- The log then begins, for each transfer, with an entry that says what the transfer had come to and which pruning took
-- the rest: replaying it still gives every row's status.
-- depends: 0052.add-reconcile-findings

set local search_path = pg_catalog, pg_temp;

create table if not exists marketplace.prunings (
  id bigint generated always as identity,
  transaction_id xid8 not null default pg_current_xact_id(),
  began_at timestamptz not null default now(),
  pruned_by text not null default session_user,
  reason text not null,
  ended_before_at timestamptz not null,
  orders bigint not null,
  transfers bigint not null,
  log_entries bigint not null,
  log_sha256 text not null,
  first_logged_at timestamptz,
  last_logged_at timestamptz,
  attempts bigint not null,
  attempts_sha256 text not null,
  constraint pk_prunings primary key (id),
  constraint chk_pruning_counts_fit check (
    orders > 0 and transfers >= orders and log_entries >= transfers and attempts >= 0
  ),
  constraint chk_pruning_texts_are_bounded check (
    length(reason) between 1 and 1000
    and log_sha256 ~ '^[0-9a-f]{64}$'
    and attempts_sha256 ~ '^[0-9a-f]{64}$'
  )
);

comment on table marketplace.prunings is
  'Append-only: what was taken off transfer_status_log and transfer_attempts, by whom and why, and the SHA-256 of the export that has it.';
comment on column marketplace.prunings.id is 'Serial number; entries of the log that begin after a pruning name it.';
comment on column marketplace.prunings.transaction_id is 'The transaction it was done in: in no other one do the guards let go of anything for it.';
comment on column marketplace.prunings.began_at is 'When that transaction began.';
comment on column marketplace.prunings.pruned_by is 'The session_user.';
comment on column marketplace.prunings.reason is 'Why, and where the export is.';
comment on column marketplace.prunings.ended_before_at is 'All of it belonged to orders of which nothing had been heard since.';
comment on column marketplace.prunings.orders is 'Orders whose history went.';
comment on column marketplace.prunings.transfers is 'Transfers of these orders; their rows stay.';
comment on column marketplace.prunings.log_entries is 'Entries taken off transfer_status_log.';
comment on column marketplace.prunings.log_sha256 is 'SHA-256 of their lines in prunable_history(), each with its newline: of the exported file.';
comment on column marketplace.prunings.first_logged_at is 'When the first of them was logged.';
comment on column marketplace.prunings.last_logged_at is 'When the last of them was logged.';
comment on column marketplace.prunings.attempts is 'Rows taken off transfer_attempts.';
comment on column marketplace.prunings.attempts_sha256 is 'SHA-256 of their lines, as log_sha256.';
comment on constraint pk_prunings on marketplace.prunings is 'One row per pruning.';
comment on constraint chk_pruning_counts_fit on marketplace.prunings is 'Every order has a transfer, and every transfer was born.';
comment on constraint chk_pruning_texts_are_bounded on marketplace.prunings is 'A reason, and two digests in hex.';

alter table marketplace.transfer_status_log add column if not exists pruning_id bigint;
comment on column marketplace.transfer_status_log.pruning_id is
  'On the entry that a transfer''s log begins with since a pruning: the pruning that took those before.';

-- Validated by a migration of its own, which stops nobody while it reads the log.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.transfer_status_log'::regclass and conname = 'fk_transfer_status_log_pruning'
  ) then
    alter table marketplace.transfer_status_log add constraint fk_transfer_status_log_pruning
      foreign key (pruning_id) references marketplace.prunings (id) not valid;
  end if;
end
$$;

comment on constraint fk_transfer_status_log_pruning on marketplace.transfer_status_log is 'Of a pruning that is on record.';

create or replace trigger _100_refuse_change
before update or delete on marketplace.prunings
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.prunings
for each statement execute function marketplace.tg_records__refuse_change();

-- As the guards before it, bound to a stub that refuses everything until db/functions is loaded.
do $$
begin
  if to_regprocedure('marketplace.tg_records__match_pruning()') is null then
    create function marketplace.tg_records__match_pruning() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $body$
    begin
      raise exception 'the guard of %.% is not loaded', tg_table_schema, tg_table_name
        using errcode = 'ST007',
              hint = 'Load db/functions: run seller-transfers migrate.';
    end
    $body$;
    comment on function marketplace.tg_records__match_pruning() is 'Stub: refuses everything until db/functions is loaded.';
  end if;
end
$$;

create or replace trigger _900_match_pruning
after delete on marketplace.transfer_status_log
referencing old table as gone
for each statement execute function marketplace.tg_records__match_pruning();

create or replace trigger _900_match_pruning
after delete on marketplace.transfer_attempts
referencing old table as gone
for each statement execute function marketplace.tg_records__match_pruning();

alter table marketplace.prunings
enable always trigger _100_refuse_change,
enable always trigger _100_refuse_truncate;

alter table marketplace.transfer_status_log enable always trigger _900_match_pruning;
alter table marketplace.transfer_attempts enable always trigger _900_match_pruning;
