-- Money that moved twice, and success after a row was given up.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0026.drop-whole-request-reversal

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_transfer_attempts_alarming') and not indisvalid
  ) then
    drop index marketplace.idx_transfer_attempts_alarming;
  end if;
end
$$;

create index concurrently if not exists idx_transfer_attempts_alarming
on marketplace.transfer_attempts (finished_at)
where verdict in ('moved_twice', 'late_success');

comment on index marketplace.idx_transfer_attempts_alarming is 'What must never happen, found at once if it does.';
