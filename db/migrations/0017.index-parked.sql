-- Rows that wait for a person.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0016.validate-chk-reversal-pending-has-next-retry-at

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_parked') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_parked;
  end if;
end
$$;

create index concurrently if not exists idx_seller_transfers_parked
on marketplace.seller_transfers (status, id)
where parked_reason is not null;

comment on index marketplace.idx_seller_transfers_parked is 'Rows that wait for a person.';
