-- All rows that stand for one transfer_key: the transfer the app named, and what was paid again for it.
--
-- A compensation is a root without a key of its own. It is found from the row that it gives back, and so are the
-- compensations of its own rows: a refund may fail more than once.
--
-- Asked several times for every request, event and outcome. A plan made anew for each array costs ten times what
-- running it does; all of them are index scans by key, whatever the array.

create or replace function marketplace._key_root(p_row marketplace.seller_transfers)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint := coalesce(p_row.root_id, p_row.id);
  v_compensates bigint;
begin
  loop
    select t.compensates into v_compensates from marketplace.seller_transfers as t where t.id = v_id;
    exit when v_compensates is null;
    select coalesce(t.root_id, t.id) into v_id from marketplace.seller_transfers as t where t.id = v_compensates;
  end loop;
  return v_id;
end
$$;

comment on function marketplace._key_root(marketplace.seller_transfers) is
  'The row that the app named by a transfer_key and that this one''s money goes back to.';

create or replace function marketplace._families_of_key(p_root_id bigint)
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_roots bigint[] := array[p_root_id];
  v_new bigint[] := v_roots;
  v_rows bigint[];
begin
  loop
    v_rows := array(
      select t.id from marketplace.seller_transfers as t where t.id = any (v_new) or t.root_id = any (v_new));
    v_new := array(
      select t.id from marketplace.seller_transfers as t where t.compensates = any (v_rows) order by t.id);
    exit when v_new = '{}';
    v_roots := v_roots || v_new;
  end loop;
  return v_roots;
end
$$;

comment on function marketplace._families_of_key(bigint) is
  'The roots of all families of a transfer_key, the one the app named first.';

create or replace function marketplace._rows_of_key(p_root_id bigint)
returns setof marketplace.seller_transfers
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_roots bigint[] := marketplace._families_of_key(p_root_id);
begin
  return query
    select t.* from marketplace.seller_transfers as t
    where t.id = any (v_roots) or t.root_id = any (v_roots)
    order by t.id;
end
$$;

comment on function marketplace._rows_of_key(bigint) is
  'The rows of all families of a transfer_key, in id order; p_root_id is the root that the app named.';

create or replace function marketplace._rows_of_stripe_transfer(p_stripe_transfer_id text)
returns setof marketplace.seller_transfers
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_roots bigint[];
begin
  -- In two halves, for each has an index of its own; slices are found by their family.
  v_roots := array(
    select t.id from marketplace.seller_transfers as t
    where t.stripe_transfer_id = p_stripe_transfer_id and t.root_id is null
    union
    select t.root_id from marketplace.seller_transfers as t
    where t.stripe_transfer_id = p_stripe_transfer_id and t.successor_of is not null);
  return query
    select t.* from marketplace.seller_transfers as t
    where (t.id = any (v_roots) or t.root_id = any (v_roots)) and t.stripe_transfer_id = p_stripe_transfer_id
    order by t.id;
end
$$;

comment on function marketplace._rows_of_stripe_transfer(text) is
  'The rows that stand for one transfer at Stripe, in id order.';

create or replace function marketplace._made_for(p_row marketplace.seller_transfers)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A row given up unpaid by an earlier release has no part: it counts from 0 downwards, where no part is.
  return p_row.reversal_request_id || ':' || coalesce(p_row.call_part, -(
    select count(*) from marketplace._rows_of_key(marketplace._key_root(p_row)) as k
    where k.reversal_request_id = p_row.reversal_request_id and k.call_part is null and k.id < p_row.id));
end
$$;

comment on function marketplace._made_for(marketplace.seller_transfers) is
  'What a transfer is made for that makes this row good: its request and the part; with the transfer_key, what Stripe knows it by.';
