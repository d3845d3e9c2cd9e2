-- Which runners there are, and which Stripe account this database belongs to.
-- depends: 0017.index-parked

create table if not exists marketplace.runners (
  worker text not null,
  version text not null,
  stripe_account text,
  livemode boolean not null,
  registered_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  ended_reason text,
  constraint pk_runners primary key (worker),
  constraint chk_end_is_whole check (num_nulls(ended_at, ended_reason) in (0, 2)),
  constraint chk_runner_texts_are_bounded check (
    length(worker) <= 255
    and length(version) <= 255
    and length(stripe_account) <= 255
    and length(ended_reason) <= 1000
  )
);

comment on table marketplace.runners is
  'The workers that registered: only they may claim. A row is no record of money and may be deleted; its runner registers again by itself.';
comment on column marketplace.runners.worker is 'The name that leases and attempts have.';
comment on column marketplace.runners.version is 'Release of the program.';
comment on column marketplace.runners.stripe_account is 'The account its Stripe key belongs to; null if the key may not read that.';
comment on column marketplace.runners.livemode is 'Whether its key moves real money.';
comment on column marketplace.runners.registered_at is 'When it last registered. What is refused to a call claimed before that was refused to an earlier key.';
comment on column marketplace.runners.last_seen_at is 'When it last claimed, give or take ten seconds.';
comment on column marketplace.runners.ended_at is 'Since when it may not claim; null while it may. Registering again is the way back.';
comment on column marketplace.runners.ended_reason is 'Why, in words.';
comment on constraint pk_runners on marketplace.runners is 'One row per name.';
comment on constraint chk_end_is_whole on marketplace.runners is 'An end says when and why.';
comment on constraint chk_runner_texts_are_bounded on marketplace.runners is 'Every text has an end.';

alter table marketplace.stripe_control
add column if not exists stripe_account text,
add column if not exists livemode boolean,
add column if not exists pinned_at timestamptz;

comment on column marketplace.stripe_control.stripe_account is
  'The Stripe account this database belongs to: that of the first runner whose key may name it. Never changes.';
comment on column marketplace.stripe_control.livemode is
  'Whether that account''s live or test mode is meant: that of the first runner''s key. Never changes.';
comment on column marketplace.stripe_control.pinned_at is 'When the first runner registered.';

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.stripe_control'::regclass and conname = 'chk_pin_is_whole'
  ) then
    alter table marketplace.stripe_control add constraint chk_pin_is_whole check (
      num_nulls(livemode, pinned_at) in (0, 2)
      and (stripe_account is null or (livemode is not null and stripe_account ~ '^acct_[A-Za-z0-9]{1,250}$'))
    );
  end if;
  if not exists (
    select from pg_catalog.pg_constraint
    where
      conrelid = 'marketplace.stripe_control_log'::regclass
      and conname = 'chk_control_change_is_known'
      and pg_get_constraintdef(oid) like '%account pinned%'
  ) then
    alter table marketplace.stripe_control_log
      drop constraint if exists chk_control_change_is_known,
      add constraint chk_control_change_is_known check (
        change in (
          'paused by person', 'paused by verdict', 'resumed by person', 'resumed by answer',
          'account pinned', 'rate set by person', 'rate turned down',
          'look-ups first by person', 'look-ups as usual by person'
        )
      );
  end if;
end
$$;

comment on constraint chk_pin_is_whole on marketplace.stripe_control is
  'A mode has a moment from which it counts, an account has a mode and is an account''s id.';
comment on constraint chk_control_change_is_known on marketplace.stripe_control_log is 'See change.';
comment on table marketplace.stripe_control_log is
  'Append-only: when calls were paused and resumed, slowed down and set free, whose account was pinned; by whom and why.';
comment on column marketplace.stripe_control_log.change is
  'What happened, and whether it was a person''s word, a verdict or an answer of Stripe''s.';
comment on column marketplace.stripe_control_log.reason is 'Why, in words; of a rate and an account, also which.';

-- With another account every transfer would be one that Stripe does not know.
create or replace trigger _100_refuse_repinning
before update on marketplace.stripe_control
for each row when (
  (old.stripe_account is not null and new.stripe_account is distinct from old.stripe_account)
  or (old.livemode is not null and new.livemode is distinct from old.livemode)
  or (old.pinned_at is not null and new.pinned_at is distinct from old.pinned_at)
)
execute function marketplace.tg_records__refuse_change();

alter table marketplace.stripe_control enable always trigger _100_refuse_repinning;
