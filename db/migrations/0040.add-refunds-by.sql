-- Who asks for the sellers' share of a refund: the app, or the events themselves. And of a request, which of them did.
-- depends: 0039.extend-charges

alter table marketplace.stripe_control
add column if not exists refunds_by text not null default 'app';

alter table marketplace.reversal_requests
add column if not exists asked_by text not null default 'app',
add column if not exists asked_for text,
add column if not exists replaces text;

do $$
begin
  if to_regtype('marketplace.counted_cause') is null then
    create type marketplace.counted_cause as (cause_id text, reason text, amount bigint, is_to_ask boolean);
  end if;
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.stripe_control'::regclass and conname = 'chk_refunds_by_is_known'
  ) then
    alter table marketplace.stripe_control
      add constraint chk_refunds_by_is_known check (refunds_by in ('app', 'events'));
  end if;
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.reversal_requests'::regclass and conname = 'chk_asked_by_is_whole'
  ) then
    alter table marketplace.reversal_requests
      add constraint chk_asked_by_is_whole check (
        asked_by in ('app', 'events')
        and (asked_by = 'events') = (asked_for is not null)
        and (replaces is null or (asked_for is not null and replaces <> reversal_request_id))
        and length(asked_for) <= 255
        and length(replaces) <= 255
      );
  end if;
  if not exists (
    select from pg_catalog.pg_constraint
    where
      conrelid = 'marketplace.stripe_control_log'::regclass
      and conname = 'chk_control_change_is_known'
      and pg_get_constraintdef(oid) like '%refunds by events%'
  ) then
    alter table marketplace.stripe_control_log
      drop constraint if exists chk_control_change_is_known,
      add constraint chk_control_change_is_known check (
        change in (
          'paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer',
          'account pinned', 'rate set by person', 'rate turned down',
          'look-ups first by person', 'look-ups as usual by person',
          'refunds by app', 'refunds by events'
        )
      );
  end if;
end
$$;

comment on type marketplace.counted_cause is
  'A refund or dispute, what it took of the charge in minor units, and whether its sellers'' share is still to be asked.';
comment on column marketplace.stripe_control.refunds_by is
  'Who asks for the sellers'' share of a refund: app (request_reversal, called by it) or events (each refund that Stripe tells to have succeeded).';
comment on constraint chk_refunds_by_is_known on marketplace.stripe_control is 'app or events.';
comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
comment on column marketplace.reversal_requests.asked_by is
  'app: request_reversal was called. events: Stripe told of the refund or the dispute.';
comment on column marketplace.reversal_requests.asked_for is
  'Of a request by events: the refund or dispute it is for. Its first request has the same id; what has to be asked beside that has the id with +2, +3, ….';
comment on column marketplace.reversal_requests.replaces is
  'Of a request by events: the request, withdrawn since, whose place it takes, because the shares came out differently.';
comment on constraint chk_asked_by_is_whole on marketplace.reversal_requests is
  'A request by events says for what; only such a one takes the place of another.';
