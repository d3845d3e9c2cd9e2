-- What Stripe was asked and what it said: one row per call, per lost lease, per call that was not made.
-- depends: 0004.create-transfer-status-log

create table if not exists marketplace.transfer_attempts (
  id bigint generated always as identity,
  transfer_id bigint not null,
  kind text not null,
  action text not null,
  idempotency_key text,
  lease_token uuid not null,
  worker text,
  started_at timestamptz,
  finished_at timestamptz not null default clock_timestamp(),
  duration_ms integer,
  http_status integer,
  error_type text,
  error_code text,
  error_message text,
  stripe_request_id text,
  stripe_object_id text,
  replayed boolean not null default false,
  verdict text not null,
  disposition text not null,
  facts_sha256 text,
  constraint pk_transfer_attempts primary key (id),
  constraint fk_transfer_attempts_transfer
    foreign key (transfer_id) references marketplace.seller_transfers (id),
  -- The transfer is in it, so that a report with another row's token takes nothing from that row.
  constraint uq_transfer_attempts_lease_token_kind unique (lease_token, kind, transfer_id),
  constraint chk_attempt_kind_is_known check (kind in ('call', 'not_sent', 'lost_lease', 'second_report')),
  constraint chk_attempt_disposition_is_known check (disposition in ('applied', 'stale', 'late')),
  constraint chk_attempt_texts_are_bounded check (
    length(action) <= 100
    and length(verdict) <= 100
    and length(facts_sha256) <= 64
    and length(idempotency_key) <= 255
    and length(worker) <= 255
    and length(error_type) <= 100
    and length(error_code) <= 100
    and length(error_message) <= 1000
    and length(stripe_request_id) <= 255
    and length(stripe_object_id) <= 255
  )
);

create index if not exists idx_transfer_attempts_transfer on marketplace.transfer_attempts (transfer_id, id);
comment on index marketplace.idx_transfer_attempts_transfer is 'The entries of a transfer, in order.';

-- Rows arrive in order of time, so a few numbers per block range find the last minutes.
create index if not exists idx_transfer_attempts_finished on marketplace.transfer_attempts
using brin (finished_at) with (pages_per_range = 32, autosummarize = on);
comment on index marketplace.idx_transfer_attempts_finished is 'What happened lately.';

comment on table marketplace.transfer_attempts is
  'Append-only: what Stripe was asked and what it said. One row per call, per lease that lapsed without a report, per call that was not made.';
comment on column marketplace.transfer_attempts.id is 'Order in which outcomes became known here.';
comment on column marketplace.transfer_attempts.transfer_id is 'The transfer.';
comment on column marketplace.transfer_attempts.kind is
  'call: a request was, or may have been, sent. not_sent: no byte left us. lost_lease: the worker never reported in time. second_report: the same lease reported again with other facts.';
comment on column marketplace.transfer_attempts.action is 'What the worker was told to do.';
comment on column marketplace.transfer_attempts.idempotency_key is 'The Idempotency-Key of the request; null where an overdue report could not be matched to one.';
comment on column marketplace.transfer_attempts.lease_token is 'The lease under which it happened.';
comment on column marketplace.transfer_attempts.worker is 'The worker that held the lease.';
comment on column marketplace.transfer_attempts.started_at is 'When the lease was taken: the request is not older.';
comment on column marketplace.transfer_attempts.finished_at is 'When the outcome became known here.';
comment on column marketplace.transfer_attempts.duration_ms is 'Milliseconds the call took, by the worker''s clock.';
comment on column marketplace.transfer_attempts.http_status is 'Null when there was no answer.';
comment on column marketplace.transfer_attempts.error_type is 'error.type of Stripe''s error body; null when there was none.';
comment on column marketplace.transfer_attempts.error_code is 'error.code of Stripe''s error body.';
comment on column marketplace.transfer_attempts.error_message is 'Stripe''s message, or the worker''s words for what went wrong; cleaned and cut.';
comment on column marketplace.transfer_attempts.stripe_request_id is 'Stripe''s req_… id: what its support asks for.';
comment on column marketplace.transfer_attempts.stripe_object_id is 'Id of the object in the answer.';
comment on column marketplace.transfer_attempts.replayed is 'Stripe marked the answer as a replay.';
comment on column marketplace.transfer_attempts.verdict is 'What was concluded: see the README; not_sent and the unknown of a lost lease as well.';
comment on column marketplace.transfer_attempts.disposition is
  'applied: the row was changed by it. stale: the lease was no longer the row''s. late: the row had reached its end before.';
comment on column marketplace.transfer_attempts.facts_sha256 is 'SHA-256 of the reported facts: the same report twice is one report.';
comment on constraint pk_transfer_attempts on marketplace.transfer_attempts is 'One entry.';
comment on constraint fk_transfer_attempts_transfer on marketplace.transfer_attempts is 'Of a transfer that exists.';
comment on constraint uq_transfer_attempts_lease_token_kind on marketplace.transfer_attempts is 'One report per lease; one loss; at most one contradiction.';
comment on constraint chk_attempt_kind_is_known on marketplace.transfer_attempts is 'See kind.';
comment on constraint chk_attempt_disposition_is_known on marketplace.transfer_attempts is 'See disposition.';
comment on constraint chk_attempt_texts_are_bounded on marketplace.transfer_attempts is 'Every text has an end.';
