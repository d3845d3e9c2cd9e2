-- The rows of a claim: which may be leased.

create or replace function marketplace._claimable(
  p_kind text, p_limit integer, p_now timestamptz, p_probe boolean
)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids bigint[];
  v_refused text[];
begin
  -- A trial call prefers another seller's row to those that were refused: many rows of one closed account must not be
  -- tried one after the other while everybody waits.
  v_refused := case when p_probe then array(
    select t.destination_account from marketplace.seller_transfers as t
    where t.status = 'reversal_pending' and t.parked_reason is null and t.failure_code = 'configuration'
    union
    select t.destination_account from marketplace.seller_transfers as t
    where t.status = 'pending' and t.parked_reason is null and t.failure_code = 'configuration'
    union
    select t.destination_account from marketplace.seller_transfers as t
    where t.status = 'failed' and t.parked_reason is null and t.failure_code = 'configuration') end;

  -- A statement for each status, for each has an index of its own. p_now is a parameter: an inline clock_timestamp() is
  -- volatile, and no index condition.
  if p_kind = 'reversals' then
    v_ids := array(
      select t.id
      from marketplace.seller_transfers as t
      where t.status = 'reversal_pending' and t.parked_reason is null
        and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
        and (v_refused is null or t.destination_account <> all (v_refused))
        and not marketplace._has_leased_sibling(t.id, t.root_id, p_now)
      order by t.next_retry_at
      limit p_limit
      for no key update skip locked
    );
  else
    v_ids := array(
      select t.id
      from marketplace.seller_transfers as t
      where t.status = 'pending' and t.parked_reason is null
        and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
        and (v_refused is null or t.destination_account <> all (v_refused))
      order by t.next_retry_at
      limit p_limit
      for no key update skip locked
    ) || array(
      select t.id
      from marketplace.seller_transfers as t
      where t.status = 'failed' and t.parked_reason is null
        and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
        and (v_refused is null or t.destination_account <> all (v_refused))
      order by t.next_retry_at
      limit p_limit
      for no key update skip locked
    );
  end if;
  if v_ids = '{}' then
    return case
      when not p_probe or marketplace._leaves_probe(p_kind, v_refused, p_now) then v_ids
      else marketplace._claimable(p_kind, p_limit, p_now, false)
    end;
  end if;
  -- Of several slices of one transfer, the one that has been due longest.
  return array(
    select f.id
    from (
      select distinct on (coalesce(t.root_id, t.id)) t.id, t.next_retry_at
      from marketplace.seller_transfers as t
      where t.id = any (v_ids)
      order by coalesce(t.root_id, t.id), t.next_retry_at, t.id
    ) as f
    order by f.next_retry_at, f.id
    limit p_limit);
end
$$;

comment on function marketplace._claimable(text, integer, timestamptz, boolean) is
  'Locks up to p_limit rows of this kind of work, of each status, that are due at p_now, not parked and not leased, in due order, and returns at most one of each Stripe transfer.';

create or replace function marketplace._leaves_probe(p_kind text, p_refused text[], p_now timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Reversals are claimed first: one that is refused for ever would keep all sends from being tried. Nobody may be there
  -- for the other kind of work, so not for long.
  return exists (select from marketplace.stripe_control as c where c.probe_at > p_now - interval '10 seconds')
    and case p_kind
      when 'transfers' then exists (
        select from marketplace.seller_transfers as t
        where t.status = 'reversal_pending' and t.parked_reason is null
          and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
          and t.destination_account <> all (p_refused)
          and not marketplace._has_leased_sibling(t.id, t.root_id, p_now))
      else exists (
        select from marketplace.seller_transfers as t
        where t.status = 'pending' and t.parked_reason is null
          and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
          and t.destination_account <> all (p_refused)
      ) or exists (
        select from marketplace.seller_transfers as t
        where t.status = 'failed' and t.parked_reason is null
          and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
          and t.destination_account <> all (p_refused))
    end;
end
$$;

comment on function marketplace._leaves_probe(text, text[], timestamptz) is
  'True if the trial call is better made for the other kind of work, which has a row of a seller that was not refused. p_refused: the accounts that were.';
