-- Refuses while there is a request for an amount: what was asked would be lost.

do $$
begin
  if to_regclass('marketplace.reversal_requests') is null then
    return;
  end if;
  if exists (
    select from pg_catalog.pg_attribute
    where attrelid = 'marketplace.reversal_requests'::regclass and attname = 'asked_amount' and not attisdropped
  ) and exists (select from marketplace.reversal_requests where asked_amount is not null) then
    raise exception 'marketplace.reversal_requests holds requests for an amount: they are not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Stay on this release, or dump the tables and drop them by hand if you mean it.';
  end if;
  drop function if exists marketplace.request_reversal(text, text, text, bigint, jsonb);
  drop function if exists marketplace._require_same_request(text, text, text, bigint, jsonb);
  alter table marketplace.reversal_requests drop column if exists asked_amount;
end
$$;
