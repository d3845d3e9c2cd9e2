-- Refuses while there is a row or a request that only this release can tell: whose money it stands for would be lost.

do $$
begin
  if to_regclass('marketplace.seller_transfers') is null then
    return;
  end if;
  if exists (
    select from marketplace.seller_transfers
    where num_nonnulls(successor_of, compensates, made_for, stripe_transfer_group) > 0
  ) or exists (select from marketplace.reversal_requests where withdrawn_at is not null or is_evidence) then
    raise exception 'marketplace.seller_transfers holds transfers that were sent, or given back: they are not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Stay on this release, or dump the tables and drop them by hand if you mean it.';
  end if;
  create or replace trigger _100_refuse_change
  before update or delete on marketplace.reversal_requests
  for each row execute function marketplace.tg_records__refuse_change();
  alter table marketplace.reversal_requests enable always trigger _100_refuse_change;
  drop trigger if exists _100_refuse_delete on marketplace.reversal_requests;
  alter table marketplace.reversal_requests
    drop constraint if exists chk_withdrawal_is_whole,
    drop column if exists is_evidence,
    drop column if exists withdrawn_reason,
    drop column if exists withdrawn_by,
    drop column if exists withdrawn_at,
    alter column order_id set not null,
    alter column reason set not null;
  drop function if exists marketplace.read_open_transfers();
  drop view if exists marketplace.open_transfers;
  -- They leave out rows that another took over from; the release before makes its own.
  drop function if exists marketplace.read_transfer_totals();
  drop view if exists marketplace.transfer_totals;
  alter table marketplace.seller_transfers
    drop constraint if exists chk_stripe_transfer_group_is_bounded,
    drop constraint if exists chk_made_again_says_for_what,
    drop constraint if exists chk_root_has_a_key,
    drop constraint if exists chk_slice_has_a_family,
    drop column if exists made_for,
    drop column if exists compensates,
    drop column if exists successor_of,
    drop column if exists stripe_transfer_group;
  alter table marketplace.seller_transfers
    add constraint chk_slice_has_a_family
      check (num_nulls(root_id, split_from) in (0, 2) and root_id <> id and split_from <> id),
    add constraint chk_root_has_a_key check ((root_id is null) = (transfer_key is not null));
  drop function if exists marketplace.claim_due_reversals(text, integer, interval);
  drop function if exists marketplace.claim_due_transfers(text, integer, interval);
  drop function if exists marketplace._claim_calls(text, text, integer, interval);
  alter type marketplace.stripe_call drop attribute if exists created_after;

  comment on type marketplace.stripe_call is 'One leased call: what to do (action), under which lease (token, seconds from the claim), and exactly what to send. Amounts in minor units.';
  comment on column marketplace.seller_transfers.root_id is 'On a slice: the row that the whole transfer was recorded as. Null on that row itself, the root.';
  comment on column marketplace.seller_transfers.transfer_key is 'The app''s own dedupe key: the same key is the same transfer. Null on slices: the root has it.';
  comment on column marketplace.seller_transfers.original_amount is 'The amount at birth, in minor units; never changes. A root''s is what was first asked for, and what its family adds up to.';
  comment on column marketplace.seller_transfers.lease_action is 'What the worker was told to do: reverse, which may move money, or look_up_reversals, which does not.';
  comment on column marketplace.transfer_attempts.action is 'What the worker was told to do: reverse or look_up_reversals.';
  comment on constraint chk_slice_has_a_family on marketplace.seller_transfers is 'A slice has a root and a row it was split from, neither of them itself; a root has none.';
  comment on constraint chk_root_has_a_key on marketplace.seller_transfers is 'The app knows a root by its key, and a slice by its root.';
  comment on column marketplace.reversal_requests.order_id is 'The order whose money is taken back.';
  comment on column marketplace.reversal_requests.reason is 'refund, dispute or manual.';
end
$$;
