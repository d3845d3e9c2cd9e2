-- A transfer, the slices that were split off it, and what took over from them: what they share.
--
-- Helpers that return rows say about how many: told nothing, the planner takes them for a thousand. Of two such in one
-- statement it expects so much work that it compiles it first, which takes 20 ms each time. Where statistics are
-- missing it still would: what an app or a runner calls does without (jit = off).

create or replace function marketplace._is_left(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Unpaid and in flight, or of unknown outcome: nobody can say yet whether there is anything to take back.
  return p_row.status = 'completed'
    or (p_row.status in ('pending', 'failed') and not marketplace._may_be_under_way(p_row));
end
$$;

comment on function marketplace._is_left(marketplace.seller_transfers) is
  'True if a request may take the row now: paid and not asked back yet, or known not to be paid.';

create or replace function marketplace._may_be_under_way(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What was refused is known. After a failover nothing is, until the row was looked for and it was quiet.
  return p_row.lease_token is not null or p_row.call_unknown or exists (
    select from marketplace.stripe_control as c
    where c.look_up_first_since is not null
      and coalesce(p_row.call_absent_at < marketplace._quiet_from(p_row), true));
end
$$;

comment on function marketplace._may_be_under_way(marketplace.seller_transfers) is
  'True if a request for the row''s obligation is being made, or may have been executed without our knowing.';

create or replace function marketplace._family(p_root_id bigint)
returns setof marketplace.seller_transfers
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select t.* from marketplace.seller_transfers as t where t.id = p_root_id or t.root_id = p_root_id order by t.id;
end
$$;

comment on function marketplace._family(bigint) is 'A root, its slices and their successors, in id order.';

create or replace function marketplace._family_key(p_row marketplace.seller_transfers)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.transfer_key is not null then
    return p_row.transfer_key;
  end if;
  return (
    select t.transfer_key from marketplace.seller_transfers as t where t.id = marketplace._key_root(p_row));
end
$$;

comment on function marketplace._family_key(marketplace.seller_transfers) is
  'The transfer_key that the app knows the row''s money by: its own, or that of the transfer it is a part of or paid again for.';

create or replace function marketplace._next_part(p_root_id bigint, p_reversal_request_id text)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_root marketplace.seller_transfers;
begin
  -- Part of what Stripe knows a reversal by: counted from the rows, so that the same request taken again from the same
  -- state, after a failover say, gives the same parts. Over all that was paid for the key: what a part of a request is
  -- paid again for is told by key, request and part.
  select t.* into strict v_root from marketplace.seller_transfers as t where t.id = p_root_id;
  return (
    select coalesce(max(k.call_part), 0) + 1
    from marketplace._rows_of_key(marketplace._key_root(v_root)) as k
    where k.reversal_request_id = p_reversal_request_id);
end
$$;

comment on function marketplace._next_part(bigint, text) is
  'The number of the next row that a request takes of a family, and of all that was paid for its transfer_key: 1, 2, …';

create or replace function marketplace._is_in_flight(p_root_id bigint)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from marketplace._family(p_root_id) as f where f.status in ('pending', 'failed'));
end
$$;

comment on function marketplace._is_in_flight(bigint) is 'True if a row of the transfer may be paid yet.';

create or replace function marketplace._may_come_free(p_root_id bigint)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- It may be of another transfer of the same transfer_key: what was given back once.
  return exists (
    select from marketplace.seller_transfers as t
    cross join lateral marketplace._rows_of_key(marketplace._key_root(t)) as k
    inner join marketplace.reversal_requests as r on r.reversal_request_id = k.reversal_request_id
    where t.id = p_root_id and k.status = 'reversal_pending' and r.withdrawn_at is not null);
end
$$;

comment on function marketplace._may_come_free(bigint) is
  'True if something of the transfer is, or may be, on its way back for a request that was withdrawn: it goes to those that stand.';
