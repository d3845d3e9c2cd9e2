-- Not a minor unit is lost between a transfer, its slices, and what took over from them.

-- Fired at commit, when who called the function that wrote the row is himself again: hence SECURITY DEFINER.
create or replace function marketplace.tg_seller_transfers__conserve_family()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_root marketplace.seller_transfers;
  v_sum numeric;
  v_call_is_stale boolean;
  v_problem text;
begin
  -- Fired at commit. No lock is needed: a row that this transaction changed is held by it, and what others committed
  -- adds up by itself; so this one's changes add up to nothing, or it is refused here. A lock on the root would be taken
  -- after locks on its slices, against the order that requests lock in.
  select t.* into v_root from marketplace.seller_transfers as t where t.id = coalesce(NEW.root_id, NEW.id);
  -- A successor is of the family of the row that it took over from: that is asked below, at its own birth. Looked for
  -- in the whole table, the planner may read every successor there is, once for each row that changed.
  with family as materialized (
    select t.id, t.amount, t.successor_of, t.status, t.call_params
    from marketplace.seller_transfers as t where t.id = v_root.id
    union all
    select t.id, t.amount, t.successor_of, t.status, t.call_params
    from marketplace.seller_transfers as t where t.root_id = v_root.id
  )
  select
    sum(f.amount) filter (where not exists (select from family as s where s.successor_of = f.id)),
    coalesce(bool_or(f.call_params -> 'amount' is distinct from to_jsonb(f.amount)) filter (
      where f.call_params is not null and f.status in ('pending', 'failed', 'reversal_pending')), false)
  into v_sum, v_call_is_stale
  from family as f;

  if v_root.id is null or v_sum is distinct from v_root.original_amount::numeric then
    v_problem := format('come to %s instead of %s', v_sum, v_root.original_amount);
  elsif v_call_is_stale then
    v_problem := 'have a row whose next call is for another amount than its own';
  elsif tg_op = 'INSERT' and NEW.root_id is not null and not marketplace._is_of_family(NEW, v_root) then
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
  'At commit: the rows of a family that no successor took over from add up to its root''s original_amount, slices and successors are parts of it, and no open row would send another amount than its own (ST009).';

create or replace function marketplace._is_of_family(
  p_born marketplace.seller_transfers, p_root marketplace.seller_transfers
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_from marketplace.seller_transfers;
begin
  select t.* into v_from from marketplace.seller_transfers as t
  where t.id = coalesce(p_born.split_from, p_born.successor_of);
  return p_root.root_id is null
    and coalesce(v_from.root_id, v_from.id) is not distinct from p_root.id
    and p_born.original_amount = p_born.amount
    and (p_born.order_id, p_born.seller_id, p_born.destination_account, p_born.currency)
      = (p_root.order_id, p_root.seller_id, p_root.destination_account, p_root.currency)
    and p_born.source_charge is not distinct from p_root.source_charge
    -- What is born paid is of the transfer at Stripe that it comes from, where that is known.
    and coalesce(p_born.stripe_transfer_id = v_from.stripe_transfer_id, true)
    and (p_born.successor_of is null or (
      v_from.status = 'permanently_failed' and v_from.amount = p_born.amount
      and (v_from.completed_at is null) = (p_born.completed_at is null)));
end
$$;

comment on function marketplace._is_of_family(marketplace.seller_transfers, marketplace.seller_transfers) is
  'True if the row, as it was born, is a slice of this root''s family, or takes over from a row of it that ended, with all its amount.';
