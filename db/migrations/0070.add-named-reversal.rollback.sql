-- Whoever named a reversal that is still to be looked for would be forgotten: it goes on, and is seen, first.

set local search_path = pg_catalog, pg_temp;

do $$
begin
  if exists (
    select from pg_catalog.pg_attribute
    where attrelid = to_regclass('marketplace.seller_transfers') and attname = 'named_reversal_id' and not attisdropped
  ) then
    if exists (
      select from marketplace.seller_transfers where to_jsonb(seller_transfers) ->> 'named_reversal_id' is not null
    ) then
      raise exception 'a reversal that somebody named is still to be looked for'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Let runners look for it: select id from marketplace.seller_transfers where named_reversal_id is not null.';
    end if;
  end if;
end
$$;

alter table marketplace.seller_transfers drop constraint if exists chk_named_reversal_is_awaited;
-- squawk-ignore ban-drop-column
alter table marketplace.seller_transfers drop column if exists named_reversal_id;
comment on column marketplace.seller_transfers.made_for is
  'On a transfer sent beside the one the app asked for: the request and the part whose withdrawal it makes good. Part of what Stripe knows it by.';
