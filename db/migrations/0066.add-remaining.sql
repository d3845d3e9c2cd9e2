-- Stripe may give back a part of a dispute's funds: what remains of it, and of what a request asked its share.
-- depends: 0065.add-request-shares

set local search_path = pg_catalog, pg_temp;

alter table marketplace.stripe_disputes
add column if not exists remaining bigint;

alter table marketplace.reversal_requests
add column if not exists asked_of bigint;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.stripe_disputes'::regclass and conname = 'chk_dispute_remaining_is_bounded'
  ) then
    -- NOT VALID, so that the lock lasts an instant; the next migration validates.
    alter table marketplace.stripe_disputes
      add constraint chk_dispute_remaining_is_bounded check (remaining between 0 and 999999999999) not valid;
  end if;
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.reversal_requests'::regclass and conname = 'chk_asked_of_is_bounded'
  ) then
    alter table marketplace.reversal_requests
      add constraint chk_asked_of_is_bounded check (
        asked_of is null or (asked_by = 'events' and asked_of between 1 and 999999999999)
      ) not valid;
  end if;
end
$$;

-- What came back stays back, whoever writes.
create or replace trigger _100_refuse_change
before update on marketplace.stripe_disputes
for each row when (
  new.dispute_id is distinct from old.dispute_id
  or (old.charge_id is not null and new.charge_id is distinct from old.charge_id)
  or (old.funds_withdrawn and not new.funds_withdrawn)
  or (old.funds_reinstated and not new.funds_reinstated)
  or (old.status = 'won' and new.status <> 'won')
  or (old.remaining is not null and coalesce(new.remaining > old.remaining, true))
)
execute function marketplace.tg_records__refuse_change();

alter table marketplace.stripe_disputes
enable always trigger _100_refuse_change;

comment on column marketplace.stripe_disputes.remaining is
  'What is still gone after Stripe gave some of it back, in minor units, the least that was told; null while nobody said that any came back, or how much.';
comment on constraint chk_dispute_remaining_is_bounded on marketplace.stripe_disputes is
  'Nothing or more; Stripe takes at most twelve digits.';
comment on column marketplace.reversal_requests.asked_of is
  'Of a request by events for a dispute: what of the dispute was gone when it was asked, in minor units. Once less is, it is asked again for less.';
comment on constraint chk_asked_of_is_bounded on marketplace.reversal_requests is
  'Only events ask a share of something; Stripe takes at most twelve digits.';
