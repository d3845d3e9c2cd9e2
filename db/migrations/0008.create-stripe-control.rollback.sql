-- Refuses while there is a transfer: database_id is in every idempotency key, and with another one each call under way
-- could be made a second time.

do $$
begin
  if to_regclass('marketplace.seller_transfers') is null then
    return;
  end if;
  if exists (select from marketplace.seller_transfers) then
    raise exception 'marketplace.seller_transfers holds rows: stripe_control is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump both tables and drop them by hand if you mean it.';
  end if;
end
$$;

drop table if exists marketplace.stripe_control_log cascade;
drop table if exists marketplace.stripe_control cascade;
