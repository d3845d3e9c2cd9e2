-- What a comparison with Stripe has read and found. None of it is evidence: a later run reads it all again.
-- depends: 0050.add-migration-files

set local search_path = pg_catalog, pg_temp;

create table if not exists marketplace.reconcile_runs (
  id bigint generated always as identity,
  started_at timestamptz not null default clock_timestamp(),
  started_by text not null default session_user,
  stripe_account text,
  livemode boolean not null,
  created_since timestamptz,
  transfers bigint not null default 0,
  reversals bigint not null default 0,
  reread_at timestamptz,
  finished_at timestamptz,
  is_complete boolean not null default false,
  trouble text,
  differences integer,
  urgent integer,
  constraint pk_reconcile_runs primary key (id),
  constraint chk_reconcile_end_is_whole check (
    case
      when finished_at is null then not is_complete and num_nonnulls(trouble, differences, urgent) = 0
      when is_complete then trouble is null and num_nulls(differences, urgent) = 0
      else trouble is not null and num_nonnulls(differences, urgent) = 0
    end
  ),
  constraint chk_reconcile_counts_are_not_negative check (
    transfers >= 0 and reversals >= 0 and urgent between 0 and differences
  ),
  constraint chk_reconcile_texts_are_bounded check (length(trouble) <= 1000 and length(stripe_account) <= 255)
);

comment on table marketplace.reconcile_runs is
  'One row per comparison with Stripe: who began it and when, how much was read, and what it came to.';
comment on column marketplace.reconcile_runs.id is 'Serial number.';
comment on column marketplace.reconcile_runs.started_at is 'When it began: all that was at Stripe by then is on its list.';
comment on column marketplace.reconcile_runs.started_by is 'The session_user that began it.';
comment on column marketplace.reconcile_runs.stripe_account is 'Whose Stripe key it was read with; null if the key may not tell.';
comment on column marketplace.reconcile_runs.livemode is 'The mode of that key.';
comment on column marketplace.reconcile_runs.created_since is 'Transfers made earlier were not listed; null: all were.';
comment on column marketplace.reconcile_runs.transfers is 'Transfers that Stripe listed, anybody''s.';
comment on column marketplace.reconcile_runs.reversals is 'Reversals of them that Stripe listed.';
comment on column marketplace.reconcile_runs.reread_at is 'When what differed began to be read a second time; null: nothing differed, or it has not come to that.';
comment on column marketplace.reconcile_runs.finished_at is 'When it ended, whatever came of it; null while it is under way.';
comment on column marketplace.reconcile_runs.is_complete is 'True if everything was read and compared.';
comment on column marketplace.reconcile_runs.trouble is 'Why it ended before that, in words.';
comment on column marketplace.reconcile_runs.differences is 'How many differences it found.';
comment on column marketplace.reconcile_runs.urgent is 'How many of them are urgent.';
comment on constraint pk_reconcile_runs on marketplace.reconcile_runs is 'One row per run.';
comment on constraint chk_reconcile_end_is_whole on marketplace.reconcile_runs is
  'Under way it says nothing yet; complete, how many differences there are; else why it ended.';
comment on constraint chk_reconcile_counts_are_not_negative on marketplace.reconcile_runs is 'Counts.';
comment on constraint chk_reconcile_texts_are_bounded on marketplace.reconcile_runs is 'Every text has an end.';

create table if not exists marketplace.reconcile_objects (
  run_id bigint not null,
  stripe_id text not null,
  object text not null,
  stripe_transfer_id text not null,
  amount bigint not null,
  amount_reversed bigint,
  currency text not null,
  destination_account text,
  source_charge text,
  status text,
  created_at timestamptz not null,
  read_since timestamptz not null,
  identity text,
  transfer_key text,
  order_id text,
  reversal_request_id text,
  constraint pk_reconcile_objects primary key (run_id, stripe_id),
  constraint fk_reconcile_objects_run foreign key (run_id) references marketplace.reconcile_runs (id) on delete cascade,
  constraint chk_listed_object_is_known check (
    case object
      when 'transfer' then stripe_id = stripe_transfer_id and amount_reversed is not null
      when 'transfer_reversal' then stripe_id <> stripe_transfer_id and num_nonnulls(amount_reversed, source_charge) = 0
      else false
    end
  ),
  constraint chk_listed_texts_are_bounded check (
    length(stripe_id) <= 255
    and length(stripe_transfer_id) <= 255
    and length(currency) <= 20
    and length(destination_account) <= 255
    and length(source_charge) <= 255
    and length(status) <= 100
    and length(identity) <= 255
    and length(transfer_key) <= 255
    and length(order_id) <= 255
    and length(reversal_request_id) <= 255
  )
);

comment on table marketplace.reconcile_objects is
  'What Stripe listed to a run and may be of this database. A later run clears it. Amounts in minor units.';
comment on column marketplace.reconcile_objects.run_id is 'The run.';
comment on column marketplace.reconcile_objects.stripe_id is 'Stripe''s id, tr_… or trr_….';
comment on column marketplace.reconcile_objects.object is 'transfer or transfer_reversal.';
comment on column marketplace.reconcile_objects.stripe_transfer_id is 'The transfer itself, or the one that is reversed (tr_…).';
comment on column marketplace.reconcile_objects.amount is 'Its amount.';
comment on column marketplace.reconcile_objects.amount_reversed is 'Of a transfer: how much of it Stripe says is reversed.';
comment on column marketplace.reconcile_objects.currency is 'Its currency.';
comment on column marketplace.reconcile_objects.destination_account is 'Of a transfer: whom it was paid to.';
comment on column marketplace.reconcile_objects.source_charge is 'Of a transfer: the charge it was made from.';
comment on column marketplace.reconcile_objects.status is 'Of a reversal, where Stripe says one: pending, succeeded, failed or canceled.';
comment on column marketplace.reconcile_objects.created_at is 'When it was made, by Stripe''s clock.';
comment on column marketplace.reconcile_objects.read_since is 'It was read later than this moment: what a row came to later than that, it need not show.';
comment on column marketplace.reconcile_objects.identity is 'What is in its metadata to tell whose obligation it is.';
comment on column marketplace.reconcile_objects.transfer_key is 'The transfer_key in its metadata.';
comment on column marketplace.reconcile_objects.order_id is 'The order in its metadata.';
comment on column marketplace.reconcile_objects.reversal_request_id is 'The request in its metadata.';
comment on constraint pk_reconcile_objects on marketplace.reconcile_objects is 'Each is listed once.';
comment on constraint fk_reconcile_objects_run on marketplace.reconcile_objects is 'Of a run that exists.';
comment on constraint chk_listed_object_is_known on marketplace.reconcile_objects is 'Transfers, and reversals of one.';
comment on constraint chk_listed_texts_are_bounded on marketplace.reconcile_objects is 'Every text has an end.';

-- The table is new: no writer waits for its indexes.
create index if not exists idx_reconcile_objects_transfer on marketplace.reconcile_objects (run_id, stripe_transfer_id);
comment on index marketplace.idx_reconcile_objects_transfer is 'A transfer and its reversals.';
create index if not exists idx_reconcile_objects_request on marketplace.reconcile_objects (run_id, reversal_request_id)
where reversal_request_id is not null;
comment on index marketplace.idx_reconcile_objects_request is 'The reversals of a request.';
