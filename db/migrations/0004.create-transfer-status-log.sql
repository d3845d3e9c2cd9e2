-- The audit trail: one row per birth, status change and note, written by trigger. Replaying it gives every status.
-- depends: 0003.create-seller-transfers

create table if not exists marketplace.transfer_status_log (
  id bigint generated always as identity,
  transfer_id bigint not null,
  from_status text,
  to_status text not null,
  logged_at timestamptz not null default clock_timestamp(),
  logged_by text not null default session_user,
  application_name text not null default current_setting('application_name'),
  reason text,
  constraint pk_transfer_status_log primary key (id),
  constraint fk_transfer_status_log_transfer
    foreign key (transfer_id) references marketplace.seller_transfers (id),
  constraint chk_log_reason_is_bounded check (length(reason) <= 1000)
);

create index if not exists idx_transfer_status_log_transfer on marketplace.transfer_status_log (transfer_id, id);
comment on index marketplace.idx_transfer_status_log_transfer is 'The entries of a transfer, in order.';

comment on table marketplace.transfer_status_log is
  'Append-only: every birth (from null), status change and note (from = to) of a transfer, in order. Replaying it gives every row''s status.';
comment on column marketplace.transfer_status_log.id is 'Order of the entries of one transfer.';
comment on column marketplace.transfer_status_log.transfer_id is 'The transfer.';
comment on column marketplace.transfer_status_log.from_status is 'Null at birth.';
comment on column marketplace.transfer_status_log.to_status is 'The status from then on.';
comment on column marketplace.transfer_status_log.logged_at is 'When, by the database''s clock.';
comment on column marketplace.transfer_status_log.logged_by is 'The session_user: who was logged in, whatever role was in force.';
comment on column marketplace.transfer_status_log.application_name is 'The program that was connected.';
comment on column marketplace.transfer_status_log.reason is 'Why: the GUC marketplace.reason at that moment.';
comment on constraint pk_transfer_status_log on marketplace.transfer_status_log is 'One entry.';
comment on constraint fk_transfer_status_log_transfer on marketplace.transfer_status_log is 'Of a transfer that exists.';
comment on constraint chk_log_reason_is_bounded on marketplace.transfer_status_log is 'Every text has an end.';
