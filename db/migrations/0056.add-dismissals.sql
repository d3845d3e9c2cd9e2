-- What a person has seen, and decided that nothing more is to be done about, leaves needs_attention, not the records.
-- depends: 0055.create-schema-functions

set local search_path = pg_catalog, pg_temp;

create table if not exists marketplace.dismissals (
  problem_id text not null,
  problem text not null,
  transfer_id bigint,
  order_id text,
  why text not null,
  reason text not null,
  dismissed_at timestamptz not null default clock_timestamp(),
  dismissed_by text not null default session_user,
  application_name text not null default current_setting('application_name'),
  constraint pk_dismissals primary key (problem_id),
  constraint fk_dismissals_transfer foreign key (transfer_id) references marketplace.seller_transfers (id),
  constraint chk_dismissal_texts_are_bounded check (
    length(problem_id) between 1 and 600
    and length(problem) between 1 and 100
    and length(order_id) <= 255
    and length(why) <= 1000
    and length(reason) between 1 and 1000
  )
);

comment on table marketplace.dismissals is
  'Append-only: problems that a person has dismissed by dismiss(), who and why. needs_attention does not show them any more.';
comment on column marketplace.dismissals.problem_id is
  'Which problem: needs_attention_full.problem_id. What becomes of it later is another problem.';
comment on column marketplace.dismissals.problem is 'What kind of problem.';
comment on column marketplace.dismissals.transfer_id is 'The row; null where it was about none.';
comment on column marketplace.dismissals.order_id is 'Its order; null where none was known.';
comment on column marketplace.dismissals.why is 'What needs_attention said of it.';
comment on column marketplace.dismissals.reason is 'Why it was dismissed, in words.';
comment on column marketplace.dismissals.dismissed_at is 'When.';
comment on column marketplace.dismissals.dismissed_by is 'The session_user that did.';
comment on column marketplace.dismissals.application_name is 'The program that was connected.';
comment on constraint pk_dismissals on marketplace.dismissals is 'A problem is dismissed once.';
comment on constraint fk_dismissals_transfer on marketplace.dismissals is 'Of a transfer that exists.';
comment on constraint chk_dismissal_texts_are_bounded on marketplace.dismissals is 'Every text has an end.';

create or replace trigger _100_refuse_change
before update or delete on marketplace.dismissals
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.dismissals
for each statement execute function marketplace.tg_records__refuse_change();

alter table marketplace.dismissals
enable always trigger _100_refuse_change,
enable always trigger _100_refuse_truncate;

-- These views are for eyes from here on, and have other columns; the functions give programs what they always gave.
do $$
begin
  if to_regclass('marketplace.needs_attention_full') is null then
    drop function if exists marketplace.read_needs_attention();
    drop view if exists marketplace.needs_attention;
    drop function if exists marketplace.read_queue_health();
    drop view if exists marketplace.queue_health;
    drop function if exists marketplace.read_transfer_totals();
    drop view if exists marketplace.transfer_totals;
  end if;
end
$$;
