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

create or replace function marketplace._parts_of_key(p_root_id bigint)
returns table (id bigint, free bigint, awaited bigint, is_last boolean)
language plpgsql
stable
rows 2
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select
      k.id, k.free, (marketplace._available(k.id) - k.free)::bigint,
      row_number() over (order by k.in_flight, k.id desc) = count(*) over ()
    from (
      select
        i.id,
        coalesce(sum(f.amount) filter (where marketplace._is_left(f)), 0)::bigint as free,
        count(*) filter (where f.status in ('pending', 'failed') and marketplace._may_be_under_way(f)) as in_flight
      from unnest(marketplace._families_of_key(p_root_id)) as i (id)
      cross join lateral marketplace._family(i.id) as f
      group by i.id
    ) as k;
end
$$;

comment on function marketplace._parts_of_key(bigint) is
  'Each family of a transfer_key: what may be taken of it now, and what else may be asked for because it is in flight and not asked for yet, in minor units. is_last: the one that keeps what cannot be taken of any.';

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
