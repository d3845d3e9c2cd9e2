-- A charge may be captured in part, or in several parts; the rest is released, which was once told as a refund.
-- depends: 0067.validate-remaining

set local search_path = pg_catalog, pg_temp;

alter table marketplace.charges
add column if not exists captured bigint,
add column if not exists uncaptured bigint,
add column if not exists is_released boolean,
add column if not exists captured_at timestamptz;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.charges'::regclass and conname = 'chk_charge_captures_are_bounded'
  ) then
    -- NOT VALID, so that the lock lasts an instant; the next migration validates.
    alter table marketplace.charges
      add constraint chk_charge_captures_are_bounded check (
        captured between 1 and 999999999999
        and uncaptured between 0 and 999999999999
        and (captured is null) = (uncaptured is null)
        and (is_released is null or uncaptured is not null)
      ) not valid;
  end if;
end
$$;

comment on column marketplace.charges.captured is
  'The most that Stripe told was captured of it, in minor units; null until it did.';
comment on column marketplace.charges.uncaptured is
  'What was authorized beyond that, in minor units: it was released, and never went back to the buyer.';
comment on column marketplace.charges.is_released is
  'True if Stripe made a refund of what it released, as before API version 2025-03-31; false if not; null while nobody can tell.';
comment on column marketplace.charges.captured_at is
  'When it was captured last, by Stripe''s clock, as the event of that said; null until it did.';
comment on constraint chk_charge_captures_are_bounded on marketplace.charges is
  'What was captured and what was not are told together; Stripe takes at most twelve digits.';
