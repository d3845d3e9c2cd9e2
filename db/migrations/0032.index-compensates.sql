-- A reversed row is given back at most once.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0031.index-successor-of

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_compensates') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_compensates;
  end if;
end
$$;

create unique index concurrently if not exists idx_seller_transfers_compensates
on marketplace.seller_transfers (compensates)
where compensates is not null;

comment on index marketplace.idx_seller_transfers_compensates is 'One compensation per reversed row.';
