-- Why money is taken back: what was asked, fixed when it was asked, and how much of it each transfer could meet.
-- depends: 0005.create-transfer-attempts

create table if not exists marketplace.reversal_requests (
  reversal_request_id text not null,
  order_id text not null,
  reason text not null,
  requested_at timestamptz not null default clock_timestamp(),
  requested_by text not null default session_user,
  constraint pk_reversal_requests primary key (reversal_request_id),
  constraint chk_reversal_reason_is_known check (reason in ('refund', 'dispute', 'manual')),
  constraint chk_reversal_request_texts_are_bounded check (
    length(reversal_request_id) between 1 and 255 and length(order_id) between 1 and 255
  )
);

create index if not exists idx_reversal_requests_order on marketplace.reversal_requests (order_id, requested_at);
comment on index marketplace.idx_reversal_requests_order is 'The requests of an order, the first one first.';

comment on table marketplace.reversal_requests is
  'One row per cause of a reversal: a refund (re_…), a dispute (dp_…) or an operator''s own id. It stands for transfers of the order that are recorded later, too.';
comment on column marketplace.reversal_requests.reversal_request_id is 'The refund, the dispute, or the operator''s own id.';
comment on column marketplace.reversal_requests.order_id is 'The order whose money is taken back.';
comment on column marketplace.reversal_requests.reason is 'refund, dispute or manual.';
comment on column marketplace.reversal_requests.requested_at is 'When it was first asked.';
comment on column marketplace.reversal_requests.requested_by is 'The session_user that asked.';
comment on constraint pk_reversal_requests on marketplace.reversal_requests is 'The same id is the same request.';
comment on constraint chk_reversal_reason_is_known on marketplace.reversal_requests is 'See reason.';
comment on constraint chk_reversal_request_texts_are_bounded on marketplace.reversal_requests is 'Every text has an end.';

create table if not exists marketplace.reversal_request_lines (
  reversal_request_id text not null,
  transfer_id bigint not null,
  transfer_key text,
  asked bigint not null,
  met bigint not null,
  unmet bigint not null,
  constraint pk_reversal_request_lines primary key (reversal_request_id, transfer_id),
  constraint fk_reversal_request_lines_request
    foreign key (reversal_request_id) references marketplace.reversal_requests (reversal_request_id),
  constraint fk_reversal_request_lines_transfer
    foreign key (transfer_id) references marketplace.seller_transfers (id),
  constraint chk_line_adds_up check (asked > 0 and met >= 0 and unmet >= 0 and asked = met + unmet)
);

create index if not exists idx_reversal_request_lines_transfer
on marketplace.reversal_request_lines (transfer_id);
comment on index marketplace.idx_reversal_request_lines_transfer is 'What was asked of a transfer.';

comment on table marketplace.reversal_request_lines is 'What a request asked of each transfer of its order, in minor units.';
comment on column marketplace.reversal_request_lines.reversal_request_id is 'The request.';
comment on column marketplace.reversal_request_lines.transfer_id is 'The transfer.';
comment on column marketplace.reversal_request_lines.transfer_key is 'The transfer''s key, for reading.';
comment on column marketplace.reversal_request_lines.asked is 'Asked of this transfer.';
comment on column marketplace.reversal_request_lines.met is 'Taken: on its way back from the seller, or never paid because of this request.';
comment on column marketplace.reversal_request_lines.unmet is 'Not taken: the transfer had been given up before, or was in flight.';
comment on constraint pk_reversal_request_lines on marketplace.reversal_request_lines is 'One line per request and transfer.';
comment on constraint fk_reversal_request_lines_request on marketplace.reversal_request_lines is 'Of a request that exists.';
comment on constraint fk_reversal_request_lines_transfer on marketplace.reversal_request_lines is 'Of a transfer that exists.';
comment on constraint chk_line_adds_up on marketplace.reversal_request_lines is 'Asked is met or unmet, to the minor unit.';

-- No row refers to a request before this migration, so both steps are done in an instant.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.seller_transfers'::regclass and conname = 'fk_seller_transfers_request'
  ) then
    alter table marketplace.seller_transfers add constraint fk_seller_transfers_request
      foreign key (reversal_request_id) references marketplace.reversal_requests (reversal_request_id) not valid;
  end if;
end
$$;

alter table marketplace.seller_transfers validate constraint fk_seller_transfers_request;

comment on constraint fk_seller_transfers_request on marketplace.seller_transfers is 'Of a request that exists.';
