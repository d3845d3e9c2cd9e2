-- What a run found, as it was when it was compared: the rows go on meanwhile.
-- depends: 0051.add-reconcile-runs

set local search_path = pg_catalog, pg_temp;

create table if not exists marketplace.reconcile_findings (
  run_id bigint not null,
  n integer not null,
  kind text not null,
  is_urgent boolean not null,
  forbids_calls boolean not null,
  transfer_id bigint,
  order_id text,
  stripe_transfer_id text,
  stripe_reversal_id text,
  amount bigint,
  amount_at_stripe bigint,
  currency text,
  money text,
  why text not null,
  next_step text not null,
  constraint pk_reconcile_findings primary key (run_id, n),
  constraint fk_reconcile_findings_run
  foreign key (run_id) references marketplace.reconcile_runs (id) on delete cascade,
  constraint chk_what_forbids_calls_is_urgent check (is_urgent or not forbids_calls),
  constraint chk_finding_texts_are_bounded check (
    length(kind) <= 100
    and length(order_id) <= 255
    and length(stripe_transfer_id) <= 255
    and length(stripe_reversal_id) <= 255
    and length(currency) <= 20
    and length(money) <= 200
    and length(why) <= 1000
    and length(next_step) <= 2000
  )
);

comment on table marketplace.reconcile_findings is
  'The differences that a run found, one per row. Amounts in minor units. Those of old runs are cleared by later ones.';
comment on column marketplace.reconcile_findings.run_id is 'The run.';
comment on column marketplace.reconcile_findings.n is 'Its number in the run, urgent ones first.';
comment on column marketplace.reconcile_findings.kind is
  'lost transfer, lost reversal, paid twice, reversed twice, paid unheard, reversed unheard, reversed elsewhere, not at Stripe, not reversed, other values, unclear, another database, another copy or another account.';
comment on column marketplace.reconcile_findings.is_urgent is 'True: money is in doubt, or goes on being so, until somebody acts.';
comment on column marketplace.reconcile_findings.forbids_calls is
  'True: while this is so, calls of this database may move money a second time; a database that is to be reconciled stays still.';
comment on column marketplace.reconcile_findings.transfer_id is 'The row; null where there is none.';
comment on column marketplace.reconcile_findings.order_id is 'Its order, or the one that Stripe''s metadata names.';
comment on column marketplace.reconcile_findings.stripe_transfer_id is 'The transfer at Stripe (tr_…).';
comment on column marketplace.reconcile_findings.stripe_reversal_id is 'The reversal at Stripe (trr_…), if it is about one.';
comment on column marketplace.reconcile_findings.amount is 'The amount here; null where there is no row.';
comment on column marketplace.reconcile_findings.amount_at_stripe is 'The amount at Stripe; null where there is nothing.';
comment on column marketplace.reconcile_findings.currency is 'The currency of both; where they differ, why says so.';
comment on column marketplace.reconcile_findings.money is 'Both amounts as people write them.';
comment on column marketplace.reconcile_findings.why is 'What differs, in words.';
comment on column marketplace.reconcile_findings.next_step is 'What to type, or do, next.';
comment on constraint pk_reconcile_findings on marketplace.reconcile_findings is 'One row per difference.';
comment on constraint fk_reconcile_findings_run on marketplace.reconcile_findings is 'Of a run that exists.';
comment on constraint chk_what_forbids_calls_is_urgent on marketplace.reconcile_findings is 'What stops all work is for somebody to see.';
comment on constraint chk_finding_texts_are_bounded on marketplace.reconcile_findings is 'Every text has an end.';

do $$
begin
  -- Fewer columns than a finding has: which run and number it is, nobody who compares needs to know.
  if to_regtype('marketplace.reconcile_difference') is null then
    create type marketplace.reconcile_difference as (
      kind text, is_urgent boolean, forbids_calls boolean, transfer_id bigint, order_id text, stripe_transfer_id text,
      stripe_reversal_id text, amount bigint, amount_at_stripe bigint, currency text, why text, next_step text
    );
  end if;
end
$$;

comment on type marketplace.reconcile_difference is
  'What differs between Stripe and the rows, as it is found; the columns of marketplace.reconcile_findings.';
