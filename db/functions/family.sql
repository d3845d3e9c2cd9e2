-- A transfer and the slices that were split off it: what they share, and that not a minor unit is lost between them.

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
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select t.* from marketplace.seller_transfers as t where t.id = p_root_id or t.root_id = p_root_id order by t.id;
end
$$;

comment on function marketplace._family(bigint) is 'A root and its slices, in id order.';

create or replace function marketplace._family_key(p_row marketplace.seller_transfers)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.root_id is null then
    return p_row.transfer_key;
  end if;
  return (select t.transfer_key from marketplace.seller_transfers as t where t.id = p_row.root_id);
end
$$;

comment on function marketplace._family_key(marketplace.seller_transfers) is
  'The transfer_key that the app knows the row''s money by: its own, or its root''s.';

create or replace function marketplace._next_part(p_root_id bigint, p_reversal_request_id text)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Part of what Stripe knows a reversal by: counted from the rows, so that the same request taken again from the same
  -- state, after a failover say, gives the same parts.
  return (
    select coalesce(max(f.call_part), 0) + 1 from marketplace._family(p_root_id) as f
    where f.reversal_request_id = p_reversal_request_id);
end
$$;

comment on function marketplace._next_part(bigint, text) is
  'The number of the next row of a family that a request takes: 1, 2, …';

create or replace function marketplace.tg_seller_transfers__conserve_family()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_root marketplace.seller_transfers;
  v_sum numeric;
  v_parent_is_here boolean;
  v_call_is_stale boolean;
  v_problem text;
begin
  -- Fired at commit. No lock is needed: a row that this transaction changed is held by it, and what others committed
  -- adds up by itself; so this one's changes add up to nothing, or it is refused here. A lock on the root would be taken
  -- after locks on its slices, against the order that requests lock in.
  select t.* into v_root from marketplace.seller_transfers as t where t.id = coalesce(NEW.root_id, NEW.id);
  select
    sum(t.amount),
    bool_or(t.id = NEW.split_from),
    coalesce(bool_or(t.call_params -> 'amount' is distinct from to_jsonb(t.amount)) filter (
      where t.call_params is not null and t.status in ('pending', 'failed', 'reversal_pending')), false)
  into v_sum, v_parent_is_here, v_call_is_stale
  from marketplace.seller_transfers as t
  where t.id = v_root.id or t.root_id = v_root.id;

  if v_root.id is null or v_sum <> v_root.original_amount::numeric then
    v_problem := format('come to %s instead of %s', v_sum, v_root.original_amount);
  elsif v_call_is_stale then
    v_problem := 'have a row whose next call is for another amount than its own';
  elsif tg_op = 'INSERT' and NEW.root_id is not null and (
    v_root.root_id is not null
    or v_parent_is_here is not true
    or NEW.original_amount <> NEW.amount
    or (NEW.order_id, NEW.seller_id, NEW.destination_account, NEW.currency)
      <> (v_root.order_id, v_root.seller_id, v_root.destination_account, v_root.currency)
    or NEW.source_charge is distinct from v_root.source_charge
    or NEW.stripe_transfer_id <> v_root.stripe_transfer_id
  ) then
    v_problem := format('are no family: row %s is not a part of it', NEW.id);
  end if;
  if v_problem is not null then
    raise exception 'transfer % and its slices %', v_root.id, v_problem
      using errcode = 'ST009',
            hint = 'Money leaves a row only by a split, and enters its slice: use request_reversal().',
            schema = tg_table_schema, table = tg_table_name, column = 'amount';
  end if;
  return null;
end
$$;

comment on function marketplace.tg_seller_transfers__conserve_family() is
  'At commit: a family adds up to its root''s original_amount, its slices are parts of it, and no open row would send another amount than its own (ST009).';
