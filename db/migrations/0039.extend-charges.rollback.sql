-- Refuses while there is a charge of which more is known than its amount.

do $$
begin
  if to_regclass('marketplace.charges') is null then
    return;
  end if;
  if exists (
    select from marketplace.charges as c
    where c.amount is null
      or num_nonnulls(c.payment_intent, c.transfer_group, c.order_id, c.currency, c.refunded, c.told_at) > 0
  ) then
    raise exception 'marketplace.charges holds rows that an earlier release has no room for'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Stay on this release, or dump the table and take these rows out by hand if you mean it.';
  end if;
  -- What takes or returns a charge would keep the table from being dropped.
  drop function if exists marketplace.note_charge(text, bigint, text, text, text, text);
  drop function if exists marketplace._merge_charge(text, bigint, text, text, text, text);
  drop function if exists marketplace._settle_order(marketplace.charges, text);
  drop function if exists marketplace._ask_for_less(marketplace.charges, text, bigint, boolean);
  drop function if exists marketplace._shares_of_charge(marketplace.charges, text, bigint, boolean);
  drop function if exists marketplace._ask(text, text, text, text, marketplace.charges, bigint, boolean);
  alter table marketplace.charges
    drop constraint if exists chk_charge_refunded_is_bounded,
    drop constraint if exists chk_charge_texts_are_bounded,
    drop column if exists updated_at,
    drop column if exists told_at,
    drop column if exists refunded,
    drop column if exists currency,
    drop column if exists order_id,
    drop column if exists transfer_group,
    drop column if exists payment_intent,
    alter column amount set not null;
  comment on table marketplace.charges is 'Charges that transfers are funded from, as far as their amount is known.';
  comment on column marketplace.charges.amount is 'What the buyer paid, in minor units of the charge''s own currency, which may differ from the transfers''.';
end
$$;
