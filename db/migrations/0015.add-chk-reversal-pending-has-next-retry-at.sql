-- A reversal without a next try is invisible to every claim: money never taken back, in silence.
--
-- NOT VALID: new rows are held to the rule from here on, whatever the table holds from before; the deploy does not
-- depend on a clean table, and the lock lasts an instant. The next migration validates it.
-- depends: 0014.bind-guards

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where
      conrelid = 'marketplace.seller_transfers'::regclass
      and conname = 'chk_reversal_pending_has_next_retry_at'
  ) then
    alter table marketplace.seller_transfers add constraint chk_reversal_pending_has_next_retry_at
      check (status <> 'reversal_pending' or next_retry_at is not null) not valid;
  end if;
end
$$;

comment on constraint chk_reversal_pending_has_next_retry_at on marketplace.seller_transfers is
  'A reversal under way has a next try: no claim overlooks it.';
