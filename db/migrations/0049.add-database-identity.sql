-- Which database this is, so that a promoted standby, a restored dump and a clone are not taken for it.
-- depends: 0048.log-changes-of-policy

set local search_path = pg_catalog, pg_temp;

alter table marketplace.stripe_control
add column if not exists system_identifier text,
add column if not exists wal_timeline integer,
add column if not exists database_oid oid,
add column if not exists table_oid oid,
add column if not exists identity_on_trust text,
add column if not exists promoted_within interval not null default interval '1 hour',
add column if not exists longest_lease interval not null default interval '60 s',
add column if not exists lost_since timestamptz,
add column if not exists reconcile_needed_since timestamptz,
add column if not exists reconcile_reason text,
add column if not exists reconciled_at timestamptz;

comment on column marketplace.stripe_control.system_identifier is
  'The server''s, of pg_control_system(), when a runner first registered or after the last failover or reconcile. A standby has its primary''s.';
comment on column marketplace.stripe_control.wal_timeline is
  'The WAL''s timeline then. A standby that is promoted begins a new one.';
comment on column marketplace.stripe_control.database_oid is
  'Of this database, then. A clone within the server has another one.';
comment on column marketplace.stripe_control.table_oid is
  'Of marketplace.seller_transfers, then. A restored dump has another one.';
comment on column marketplace.stripe_control.identity_on_trust is
  'Why a person said that this server need not tell its identifier or its timeline; null: it must. What it does not tell is not compared.';
comment on column marketplace.stripe_control.promoted_within is
  'How long ago a runner must have been seen for another timeline to be a standby''s that took over just now, and not an old state''s that was restored.';
comment on column marketplace.stripe_control.longest_lease is
  'The longest lease that was ever asked for, or the usual one. Twice that long no call is made after a failover, so make it no shorter than a lease of the last hours.';
comment on column marketplace.stripe_control.lost_since is
  'With look_up_first_since: commits since this moment may be lost, and what was sent since is looked for, however late it is asked for again. Null: not known, and taken for less than a day.';
comment on column marketplace.stripe_control.reconcile_needed_since is
  'Since when no call is made at all, because this is not the database that it was: restored or cloned. Null: calls are made. seller-transfers reconcile ends it.';
comment on column marketplace.stripe_control.reconcile_reason is 'What is different, in words.';
comment on column marketplace.stripe_control.reconciled_at is
  'When the database was last compared with Stripe, and pinned anew, after it had become another one.';

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.stripe_control'::regclass and conname = 'chk_identity_is_whole'
  ) then
    alter table marketplace.stripe_control
      add constraint chk_identity_is_whole check (
        num_nulls(database_oid, table_oid) in (0, 2)
        and case
          when table_oid is null then num_nonnulls(system_identifier, wal_timeline) = 0
          else num_nulls(system_identifier, wal_timeline) = 0 or identity_on_trust is not null
        end
        and length(identity_on_trust) <= 1000
      ),
      -- Keys must not get old while a standby is behind.
      add constraint chk_promoted_within_is_bounded check (
        promoted_within between interval '1 second' and interval '19 hours'
      ),
      add constraint chk_longest_lease_is_bounded check (
        longest_lease between interval '1 second' and interval '1 hour'
      ),
      add constraint chk_lost_since_has_look_ups check (lost_since is null or look_up_first_since is not null),
      add constraint chk_reconcile_is_whole check (
        num_nulls(reconcile_needed_since, reconcile_reason) in (0, 2)
        and length(reconcile_reason) <= 1000
      );
  end if;
  if not exists (
    select from pg_catalog.pg_constraint
    where
      conrelid = 'marketplace.stripe_control_log'::regclass
      and conname = 'chk_control_change_is_known'
      and pg_get_constraintdef(oid) like '%promotion noticed%'
  ) then
    alter table marketplace.stripe_control_log
      drop constraint if exists chk_control_change_is_known,
      add constraint chk_control_change_is_known check (
        change in (
          'paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer',
          'account pinned', 'rate set by person', 'rate turned down',
          'look-ups first by person', 'look-ups as usual by person',
          'refunds by app', 'refunds by events',
          'error rule set by person', 'error rule removed by person', 'retry policy set by person',
          'database pinned', 'promotion noticed', 'identity on trust by person',
          'reconcile needed', 'reconcile needed by person', 'reconciled', 'look-ups as usual by reconcile'
        )
      );
  end if;
end
$$;

comment on constraint chk_identity_is_whole on marketplace.stripe_control is
  'All that says which database this is, or nothing; what the server does not tell is missing on a person''s word only.';
comment on constraint chk_promoted_within_is_bounded on marketplace.stripe_control is
  'Shorter than keys are young.';
comment on constraint chk_longest_lease_is_bounded on marketplace.stripe_control is
  'At most what a claim may ask for.';
comment on constraint chk_lost_since_has_look_ups on marketplace.stripe_control is
  'Lost commits are looked up.';
comment on constraint chk_reconcile_is_whole on marketplace.stripe_control is
  'What has to be reconciled says since when and why.';
comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
comment on table marketplace.stripe_control_log is
  'Append-only: when calls were paused and resumed, slowed down and set free, whose account and which database was pinned, what became of it; by whom and why.';
