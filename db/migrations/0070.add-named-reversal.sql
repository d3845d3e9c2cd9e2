-- By which reversal somebody says that a row's money came back, until a look-up has seen it.
-- depends: 0069.validate-captures

set local search_path = pg_catalog, pg_temp;

alter table marketplace.seller_transfers
add column if not exists named_reversal_id text;

-- NOT VALID: the lock lasts an instant. The next migration validates.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.seller_transfers'::regclass and conname = 'chk_named_reversal_is_awaited'
  ) then
    alter table marketplace.seller_transfers add constraint chk_named_reversal_is_awaited check (
      named_reversal_id is null or (
        status = 'reversal_pending' and stripe_reversal_id is null
        and named_reversal_id ~ '^trr_[A-Za-z0-9]+$' and length(named_reversal_id) <= 255
      )
    ) not valid;
  end if;
end
$$;

comment on column marketplace.seller_transfers.named_reversal_id is
  'The reversal made elsewhere by which somebody says that the row''s money came back (mark_reversed); null once a look-up has said whether that is so.';
comment on column marketplace.seller_transfers.made_for is
  'On a transfer sent beside the one the app asked for: the request and the part whose withdrawal it makes good, or rest: and the transfer that it is the rest of. Part of what Stripe knows it by.';
comment on constraint chk_named_reversal_is_awaited on marketplace.seller_transfers is
  'Only what is on its way back, by no reversal of ours, waits to be seen taken back by another one.';
