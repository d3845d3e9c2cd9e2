-- Transfers are sent, given back and taken over: what a row needs to say of that.
--
-- A successor takes over from a row that ended: within the same family, and the row before counts in no sum any more.
-- A compensation gives a reversed amount back because its request was withdrawn: a transfer of its own. A request may
-- be withdrawn before it was heard of, and is remembered by its id alone until then.
-- depends: 0028.add-asked-amount

do $$
begin
  if not exists (
    select from pg_catalog.pg_attribute
    where attrelid = 'marketplace.stripe_call'::regclass and attname = 'created_after' and not attisdropped
  ) then
    alter type marketplace.stripe_call add attribute created_after timestamptz;
  end if;
end
$$;

comment on type marketplace.stripe_call is
  'One leased call: what to do (action), under which lease (token, seconds from the claim), and exactly what to send. Amounts in minor units. created_after: for look_up_transfer, from when on Stripe''s list of transfers is to be read.';

alter table marketplace.seller_transfers
add column if not exists stripe_transfer_group text,
add column if not exists successor_of bigint,
add column if not exists compensates bigint,
add column if not exists made_for text;

-- NOT VALID: the lock lasts an instant. A later migration validates. Two rules of the slices' migration are widened.
do $$
declare
  v_new record;
begin
  for v_new in
    select * from (values
      ('fk_seller_transfers_successor_of', 'foreign key (successor_of) references marketplace.seller_transfers (id)'),
      ('fk_seller_transfers_compensates', 'foreign key (compensates) references marketplace.seller_transfers (id)'),
      ('chk_slice_has_a_family',
        'check ((root_id is null) = (num_nonnulls(split_from, successor_of) = 0)
          and num_nonnulls(split_from, successor_of) <= 1
          and root_id <> id and split_from <> id and successor_of <> id and compensates <> id)'),
      ('chk_root_has_a_key', 'check (num_nonnulls(root_id, transfer_key, compensates) = 1)'),
      ('chk_made_again_says_for_what',
        'check (length(made_for) between 1 and 300 and (compensates is null or made_for is not null)
          and (made_for is null or successor_of is not null or compensates is not null))'),
      ('chk_stripe_transfer_group_is_bounded', 'check (length(stripe_transfer_group) <= 255)')
    ) as n (name, rule)
  loop
    if exists (
      select from pg_catalog.pg_constraint
      where conrelid = 'marketplace.seller_transfers'::regclass and conname = v_new.name
        and (conname not in ('chk_slice_has_a_family', 'chk_root_has_a_key')
          or pg_get_constraintdef(oid) like '%num_nonnulls%')
    ) then
      continue;
    end if;
    execute format('alter table marketplace.seller_transfers drop constraint if exists %I', v_new.name);
    execute format('alter table marketplace.seller_transfers add constraint %I %s not valid', v_new.name, v_new.rule);
  end loop;
end
$$;

comment on column marketplace.seller_transfers.stripe_transfer_group is
  'The transfer_group Stripe gave the transfer: the order''s id, or its charge''s group; null where Stripe has not said.';
comment on column marketplace.seller_transfers.successor_of is
  'The row that ended and that this one takes over from, in the same family; a row with a successor counts in no sum.';
comment on column marketplace.seller_transfers.compensates is
  'The reversed row whose amount this transfer gives back, because its request was withdrawn.';
comment on column marketplace.seller_transfers.made_for is
  'On a transfer sent beside the one the app asked for: the request and the part whose withdrawal it makes good. Part of what Stripe knows it by.';
comment on column marketplace.seller_transfers.root_id is
  'On a slice or a successor: the row that the whole transfer was recorded as. Null on that row itself, the root.';
comment on column marketplace.seller_transfers.transfer_key is
  'The app''s own dedupe key: the same key is the same transfer. Null on slices, successors and compensations.';
comment on column marketplace.seller_transfers.original_amount is
  'The amount at birth, in minor units; never changes. A root''s is what was first asked for, and what the rows of its family without a successor add up to.';
comment on column marketplace.seller_transfers.lease_action is
  'What the worker was told to do: reverse or send, which may move money, or look_up_reversals or look_up_transfer, which do not.';
comment on column marketplace.transfer_attempts.action is
  'What the worker was told to do: reverse, send, look_up_reversals or look_up_transfer.';
comment on constraint fk_seller_transfers_successor_of on marketplace.seller_transfers is 'Of a row that exists.';
comment on constraint fk_seller_transfers_compensates on marketplace.seller_transfers is 'Of a row that exists.';
comment on constraint chk_slice_has_a_family on marketplace.seller_transfers is
  'A slice has a root and a row it was split from, a successor a root and a row it follows, none of them itself; a root has neither.';
comment on constraint chk_root_has_a_key on marketplace.seller_transfers is
  'The app knows a root by its key, a slice or successor by its root, a compensation by the row it compensates.';
comment on constraint chk_made_again_says_for_what on marketplace.seller_transfers is
  'Only a compensation or a successor is made for a withdrawn request; a compensation always is.';
comment on constraint chk_stripe_transfer_group_is_bounded on marketplace.seller_transfers is 'As long as Stripe takes.';

alter table marketplace.reversal_requests
add column if not exists withdrawn_at timestamptz,
add column if not exists withdrawn_by text,
add column if not exists withdrawn_reason text,
add column if not exists is_evidence boolean not null default false;

-- Nothing reads a request of which only the withdrawal is known and expects an order in it.
-- squawk-ignore ban-drop-not-null
alter table marketplace.reversal_requests alter column order_id drop not null;
-- squawk-ignore ban-drop-not-null
alter table marketplace.reversal_requests alter column reason drop not null;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.reversal_requests'::regclass and conname = 'chk_withdrawal_is_whole'
  ) then
    alter table marketplace.reversal_requests add constraint chk_withdrawal_is_whole check (
      num_nulls(withdrawn_at, withdrawn_by, withdrawn_reason) in (0, 3)
      and num_nulls(order_id, reason) in (0, 2)
      and (order_id is not null or withdrawn_at is not null)
      and length(withdrawn_reason) between 1 and 1000
    );
  end if;
end
$$;

comment on column marketplace.reversal_requests.order_id is
  'The order whose money is asked back; null while only the withdrawal of the request is known.';
comment on column marketplace.reversal_requests.reason is
  'refund, dispute or manual; null while only the withdrawal of the request is known.';
comment on column marketplace.reversal_requests.withdrawn_at is
  'When the request was withdrawn, for good: the refund failed, the dispute was won. Null while it stands.';
comment on column marketplace.reversal_requests.withdrawn_by is 'The session_user that withdrew it.';
comment on column marketplace.reversal_requests.withdrawn_reason is 'Why, in words.';
comment on column marketplace.reversal_requests.is_evidence is
  'True: nobody asks for money; Stripe said that somebody had taken it back there. Its rows are looked up and never called for.';
comment on constraint chk_withdrawal_is_whole on marketplace.reversal_requests is
  'A withdrawal has a time, an author and a reason; a request without an order is one of which only the withdrawal is known.';

-- A request is what it was, but for its withdrawal, and for what a withdrawal that came first could not know.
-- As JSON, so that no column of an earlier migration hangs on it.
create or replace trigger _100_refuse_change
before update on marketplace.reversal_requests
for each row when (
  to_jsonb(new)
  - case when old.withdrawn_at is null then array['withdrawn_at', 'withdrawn_by', 'withdrawn_reason'] else '{}' end
  - case when old.order_id is null
    then array['order_id', 'reason', 'is_whole', 'asked_amount', 'is_evidence'] else '{}' end
  is distinct from to_jsonb(old)
  - case when old.withdrawn_at is null then array['withdrawn_at', 'withdrawn_by', 'withdrawn_reason'] else '{}' end
  - case when old.order_id is null
    then array['order_id', 'reason', 'is_whole', 'asked_amount', 'is_evidence'] else '{}' end
)
execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_delete
before delete on marketplace.reversal_requests
for each row execute function marketplace.tg_records__refuse_change();

alter table marketplace.reversal_requests
enable always trigger _100_refuse_change,
enable always trigger _100_refuse_delete;
