-- Refused sends that wait for their next try, in due order.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0010.create-call-types

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_retry') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_retry;
  end if;
end
$$;

create index concurrently if not exists idx_seller_transfers_retry
on marketplace.seller_transfers (status, next_retry_at)
where status = 'failed' and parked_reason is null;

comment on index marketplace.idx_seller_transfers_retry is 'Refused sends that wait for their next try, in due order.';
