-- Refuses while there is a charge of which more is known than its amount.

do $$
declare
  v_function regprocedure;
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
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc as p
    where p.pronamespace = 'marketplace'::regnamespace
      and 'marketplace.charges'::regtype = any (array[p.prorettype] || p.proargtypes::oid[])
  loop
    execute format('drop function %s', v_function);
  end loop;
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
