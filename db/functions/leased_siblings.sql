-- Parts of one Stripe transfer are called for one after the other: whether another one has a lease, and until when.

create or replace function marketplace._has_leased_sibling(p_id bigint, p_root_id bigint, p_now timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Stripe answers two calls at once on one transfer with 429, and what one of them does changes what is left for the
  -- other.
  return exists (
    select from marketplace.seller_transfers as s
    where s.root_id = coalesce(p_root_id, p_id) and s.id <> p_id and s.lease_expires_at > p_now
  ) or (p_root_id is not null and exists (
    select from marketplace.seller_transfers as s where s.id = p_root_id and s.lease_expires_at > p_now
  ));
end
$$;

comment on function marketplace._has_leased_sibling(bigint, bigint, timestamptz) is
  'True if another row of the same Stripe transfer has a live lease.';

create or replace function marketplace._siblings_leased_until(p_id bigint, p_root_id bigint, p_now timestamptz)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return greatest(
    (
      select max(s.lease_expires_at) from marketplace.seller_transfers as s
      where s.root_id = coalesce(p_root_id, p_id) and s.id <> p_id and s.lease_expires_at > p_now
    ),
    (
      select s.lease_expires_at from marketplace.seller_transfers as s
      where s.id = p_root_id and s.lease_expires_at > p_now
    ));
end
$$;

comment on function marketplace._siblings_leased_until(bigint, bigint, timestamptz) is
  'Until when other rows of the same Stripe transfer have live leases; null if none has.';
