-- What a request may ask of a transfer, and what requests have asked and could not have yet.

create or replace function marketplace._available(p_root_id bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What is in flight may be asked for; it is taken when it is known. What is asked of it already may not.
  return (
    select coalesce(sum(f.amount) filter (where marketplace._is_left(f)), 0)
      + greatest(0, coalesce(sum(f.amount) filter (
          where f.status in ('pending', 'failed') and not marketplace._is_left(f)), 0) - marketplace._unmet(p_root_id))
    from marketplace._family(p_root_id) as f);
end
$$;

comment on function marketplace._available(bigint) is
  'What a request may still ask of a transfer, in minor units: neither taken nor asked for by another one.';

create or replace function marketplace._available_of_key(p_root_id bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What was given back after a refund failed is the same seller's money, in a transfer of its own.
  return (
    select sum(marketplace._available(i.id))::bigint from unnest(marketplace._families_of_key(p_root_id)) as i (id));
end
$$;

comment on function marketplace._available_of_key(bigint) is
  'What a request may still ask of a transfer and of those that gave money of it back, in minor units.';

create or replace function marketplace._unmet(p_root_id bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(sum(l.unmet), 0)::bigint
    from marketplace.reversal_request_lines as l
    inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
    where l.transfer_id = p_root_id and l.unmet > 0 and r.withdrawn_at is null);
end
$$;

comment on function marketplace._unmet(bigint) is
  'What standing requests have asked of the transfer and could not take yet, in minor units.';
