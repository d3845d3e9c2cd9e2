-- A transfer may be taken back in parts: each part is a row of its own, a slice, split off the row that had the money.
--
-- Root and slices are a family, coalesce(root_id, id), and stand for one transfer at Stripe. What the sellers' books
-- rest on is that a family adds up to what was first paid; a deferred trigger says so at every commit. As the guards
-- before it, it is bound to a stub that refuses everything until db/functions is loaded.
-- depends: 0020.add-look-ups

alter table marketplace.seller_transfers
add column if not exists root_id bigint,
add column if not exists split_from bigint;

-- NOT VALID: the lock lasts an instant. The next migration validates.
do $$
declare
  v_new record;
begin
  for v_new in
    select * from (values
      ('fk_seller_transfers_root', 'foreign key (root_id) references marketplace.seller_transfers (id)'),
      ('fk_seller_transfers_split_from', 'foreign key (split_from) references marketplace.seller_transfers (id)'),
      ('chk_slice_has_a_family',
        'check (num_nulls(root_id, split_from) in (0, 2) and root_id <> id and split_from <> id)'),
      ('chk_root_has_a_key', 'check ((root_id is null) = (transfer_key is not null))')
    ) as n (name, rule)
  loop
    if not exists (
      select from pg_catalog.pg_constraint
      where conrelid = 'marketplace.seller_transfers'::regclass and conname = v_new.name
    ) then
      execute format('alter table marketplace.seller_transfers add constraint %I %s not valid', v_new.name, v_new.rule);
    end if;
  end loop;
end
$$;

comment on column marketplace.seller_transfers.root_id is
  'On a slice: the row that the whole transfer was recorded as. Null on that row itself, the root.';
comment on column marketplace.seller_transfers.split_from is 'On a slice: the row that had its money before. Null on a root.';
comment on column marketplace.seller_transfers.transfer_key is
  'The app''s own dedupe key: the same key is the same transfer. Null on slices: the root has it.';
comment on column marketplace.seller_transfers.original_amount is
  'The amount at birth, in minor units; never changes. A root''s is what was first asked for, and what its family adds up to.';
comment on column marketplace.seller_transfers.amount is
  'The amount of this row, in minor units: less than original_amount where slices were split off.';
comment on column marketplace.seller_transfers.stripe_transfer_id is
  'Stripe''s transfer (tr_…), the same on a slice and its root; null on an unpaid row, and on a legacy row whose id was never kept.';
comment on constraint fk_seller_transfers_root on marketplace.seller_transfers is 'Of a root that exists.';
comment on constraint fk_seller_transfers_split_from on marketplace.seller_transfers is 'Of a row that exists.';
comment on constraint chk_slice_has_a_family on marketplace.seller_transfers is
  'A slice has a root and a row it was split from, neither of them itself; a root has none.';
comment on constraint chk_root_has_a_key on marketplace.seller_transfers is 'The app knows a root by its key, and a slice by its root.';

do $$
begin
  if to_regprocedure('marketplace.tg_seller_transfers__conserve_family()') is null then
    create function marketplace.tg_seller_transfers__conserve_family() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $body$
    begin
      raise exception 'the guard of %.% is not loaded', tg_table_schema, tg_table_name
        using errcode = 'ST007',
              hint = 'Load db/functions: run seller-transfers migrate.';
    end
    $body$;
    comment on function marketplace.tg_seller_transfers__conserve_family() is
      'Stub: refuses everything until db/functions is loaded.';
  end if;
end
$$;

-- A constraint trigger cannot be replaced.
drop trigger if exists _800_conserve_birth on marketplace.seller_transfers;
create constraint trigger _800_conserve_birth
after insert on marketplace.seller_transfers
deferrable initially deferred
for each row when (new.root_id is not null or new.amount <> new.original_amount)
execute function marketplace.tg_seller_transfers__conserve_family();

drop trigger if exists _800_conserve_amount on marketplace.seller_transfers;
create constraint trigger _800_conserve_amount
after update on marketplace.seller_transfers
deferrable initially deferred
for each row when (old.amount is distinct from new.amount)
execute function marketplace.tg_seller_transfers__conserve_family();

alter table marketplace.seller_transfers
enable always trigger _800_conserve_birth,
enable always trigger _800_conserve_amount;

comment on constraint _800_conserve_birth on marketplace.seller_transfers is
  'At commit: a slice is a part of its family, and the family adds up to its root''s original_amount.';
comment on constraint _800_conserve_amount on marketplace.seller_transfers is
  'At commit: the family of a row whose amount changed adds up to its root''s original_amount.';

alter table marketplace.currencies
add column if not exists quantum smallint not null default 1;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.currencies'::regclass and conname = 'chk_quantum_is_a_power_of_ten'
  ) then
    alter table marketplace.currencies add constraint chk_quantum_is_a_power_of_ten check (quantum in (1, 10, 100));
    update marketplace.currencies set quantum = 10 where exponent = 3;
    update marketplace.currencies set quantum = 100 where currency in ('isk', 'ugx');
  end if;
end
$$;

comment on column marketplace.currencies.quantum is
  'Stripe takes amounts that are multiples of this many minor units: 10 where the third decimal must be 0 (kwd), 100 where no decimals are in use any more (isk, ugx), else 1.';
comment on constraint chk_quantum_is_a_power_of_ten on marketplace.currencies is 'Digits at the end that must be 0: none, one or two.';

-- A request recorded before there were parts was for everything.
alter table marketplace.reversal_requests
add column if not exists is_whole boolean not null default true;

comment on table marketplace.reversal_requests is
  'One row per cause of a reversal: a refund (re_…), a dispute (dp_…) or an operator''s own id. One for everything stands for transfers of the order that are recorded later, too.';
comment on column marketplace.reversal_requests.is_whole is
  'True: for everything of the order, transfers recorded later included. False: for what its lines ask, and nothing else.';
comment on column marketplace.reversal_request_lines.transfer_id is 'The transfer: the root of its family.';
comment on column marketplace.reversal_request_lines.asked is 'Asked of this transfer, slices included.';
