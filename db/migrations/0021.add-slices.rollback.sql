-- Refuses while there is a slice, or a request for a part: whose money they stand for would be lost.

do $$
begin
  if to_regclass('marketplace.seller_transfers') is null then
    return;
  end if;
  if exists (select from marketplace.seller_transfers where root_id is not null)
    or exists (select from marketplace.reversal_requests where not is_whole) then
    raise exception 'marketplace.seller_transfers holds slices: they are not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Stay on this release, or dump the tables and drop them by hand if you mean it.';
  end if;
  drop trigger if exists _800_conserve_birth on marketplace.seller_transfers;
  drop trigger if exists _800_conserve_amount on marketplace.seller_transfers;
  drop function if exists marketplace.tg_seller_transfers__conserve_family();
  alter table marketplace.seller_transfers
    drop constraint if exists chk_root_has_a_key,
    drop constraint if exists chk_slice_has_a_family,
    drop column if exists split_from,
    drop column if exists root_id;
  alter table marketplace.reversal_requests drop column if exists is_whole;
  comment on table marketplace.reversal_requests is 'One row per cause of a reversal: a refund (re_…), a dispute (dp_…) or an operator''s own id. It stands for transfers of the order that are recorded later, too.';
  alter table marketplace.currencies drop column if exists quantum;
  comment on column marketplace.seller_transfers.transfer_key is 'The app''s own dedupe key: the same key is the same transfer.';
  comment on column marketplace.seller_transfers.original_amount is 'The amount first asked for, in minor units; never changes.';
  comment on column marketplace.seller_transfers.amount is 'The amount of this row, in minor units.';
  comment on column marketplace.seller_transfers.stripe_transfer_id is 'Stripe''s transfer (tr_…); null on an unpaid row, and on a legacy row whose id was never kept.';
  comment on column marketplace.reversal_request_lines.transfer_id is 'The transfer.';
  comment on column marketplace.reversal_request_lines.asked is 'Asked of this transfer.';
end
$$;
