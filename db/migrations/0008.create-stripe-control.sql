-- One row that every claim reads first: who this database is at Stripe, and whether calls are made at all.
-- depends: 0007.create-charges

create table if not exists marketplace.stripe_control (
  singleton boolean not null default true,
  database_id uuid not null default gen_random_uuid(),
  paused_at timestamptz,
  paused_by text,
  paused_by_user text,
  pause_reason text,
  probe_at timestamptz,
  probe_count integer not null default 0,
  proven_at timestamptz,
  proven_by bigint,
  constraint pk_stripe_control primary key (singleton),
  constraint chk_stripe_control_is_one_row check (singleton),
  constraint chk_pause_is_whole check (
    num_nulls(paused_at, paused_by, paused_by_user, pause_reason) in (0, 4)
    and paused_by in ('person', 'verdict')
    and length(pause_reason) <= 1000
  ),
  constraint chk_probe_belongs_to_a_pause_by_verdict check (
    (probe_at is null or coalesce(paused_by = 'verdict', false)) and probe_count >= 0
  ),
  constraint chk_proof_is_whole check (num_nulls(proven_at, proven_by) in (0, 2))
);

comment on table marketplace.stripe_control is 'One row: who this database is at Stripe, and whether calls are made at all. Every claim locks it first.';
comment on column marketplace.stripe_control.singleton is 'Always true: there is one row.';
comment on column marketplace.stripe_control.database_id is 'Made once; travels with dump and replica. Part of every idempotency key, so that no other database can have the same.';
comment on column marketplace.stripe_control.paused_at is 'Since when no calls are made; null while they are.';
comment on column marketplace.stripe_control.paused_by is 'person: until resume_stripe_calls. verdict: Stripe refused the key or the account, and one call at a time tries whether that is over; or it knew none of many transfers.';
comment on column marketplace.stripe_control.paused_by_user is 'The session_user that paused, or under whose report the verdict fell.';
comment on column marketplace.stripe_control.pause_reason is 'Why, in words.';
comment on column marketplace.stripe_control.probe_at is 'When the next trial call may be claimed; only in a pause by verdict. Null there: only a person ends it.';
comment on column marketplace.stripe_control.probe_count is 'Trial calls since the pause began: the time between them grows with it.';
comment on column marketplace.stripe_control.proven_at is 'When a trial call last succeeded and ended a pause by verdict: the key was good then.';
comment on column marketplace.stripe_control.proven_by is 'The transfer of that call. Another one that is refused for the key before and after is itself at fault.';
comment on constraint pk_stripe_control on marketplace.stripe_control is 'One row.';
comment on constraint chk_stripe_control_is_one_row on marketplace.stripe_control is 'One row.';
comment on constraint chk_pause_is_whole on marketplace.stripe_control is 'A pause says since when, by whom and why.';
comment on constraint chk_proof_is_whole on marketplace.stripe_control is 'A proof has a time and a transfer.';
comment on constraint chk_probe_belongs_to_a_pause_by_verdict on marketplace.stripe_control is 'A person''s pause is not probed.';

create table if not exists marketplace.stripe_control_log (
  id bigint generated always as identity,
  logged_at timestamptz not null default clock_timestamp(),
  logged_by text not null default session_user,
  change text not null,
  reason text not null,
  constraint pk_stripe_control_log primary key (id),
  constraint chk_control_change_is_known check (
    change in ('paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer')
  ),
  constraint chk_control_reason_is_bounded check (length(reason) <= 1000)
);

comment on table marketplace.stripe_control_log is 'Append-only: when calls were paused and resumed, by whom and why.';
comment on column marketplace.stripe_control_log.id is 'Order of the entries.';
comment on column marketplace.stripe_control_log.logged_at is 'When, by the database''s clock.';
comment on column marketplace.stripe_control_log.logged_by is 'The session_user.';
comment on column marketplace.stripe_control_log.change is 'What happened to the calls.';
comment on column marketplace.stripe_control_log.reason is 'Why, in words.';
comment on constraint pk_stripe_control_log on marketplace.stripe_control_log is 'One entry.';
comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
comment on constraint chk_control_reason_is_bounded on marketplace.stripe_control_log is 'Every text has an end.';

insert into marketplace.stripe_control default values
on conflict on constraint pk_stripe_control do nothing;
