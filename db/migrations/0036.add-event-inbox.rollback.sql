-- Refuses while there is an event: Stripe keeps them for 30 days only.

do $$
begin
  if to_regclass('marketplace.stripe_events') is null then
    return;
  end if;
  if exists (select from marketplace.stripe_events) then
    raise exception 'marketplace.stripe_events holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;
end
$$;

drop table if exists marketplace.stripe_events cascade;
drop type if exists marketplace.ingested_event cascade;
