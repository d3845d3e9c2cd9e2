-- What a request for a part of an order's money asks of each transfer: [{"transfer_key": "…", "amount": 250}, …].
--
-- Anything that is not exactly that is refused. A request that asks for more than was meant takes a seller's money.

create or replace function marketplace._is_share(p_share jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_amount numeric;
begin
  if jsonb_typeof(p_share) <> 'object'
    or array(select k from jsonb_object_keys(p_share) as k order by k) <> array['amount', 'transfer_key']
    or jsonb_typeof(p_share -> 'transfer_key') <> 'string' or jsonb_typeof(p_share -> 'amount') <> 'number' then
    return false;
  end if;
  v_amount := (p_share ->> 'amount')::numeric;
  return v_amount = trunc(v_amount) and v_amount between 1 and 999999999999
    and length(p_share ->> 'transfer_key') between 1 and 255 and p_share ->> 'transfer_key' !~ '[[:cntrl:]]';
end
$$;

comment on function marketplace._is_share(jsonb) is
  'True for an object of a transfer_key and an amount in whole minor units, and nothing else.';

create or replace function marketplace._require_allocation(p_allocation jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- A JSON null is no array: what was forgotten must not mean everything.
  v_problem text := marketplace._why_no_list(p_allocation, 1);
begin
  if p_allocation is null then
    return;
  end if;
  if v_problem is null then
    select format('has, at position %s, no element of a transfer_key and a whole amount alone', s.n) into v_problem
    from jsonb_array_elements(p_allocation) with ordinality as s (share, n)
    where not marketplace._is_share(s.share)
    order by s.n
    limit 1;
  end if;
  if v_problem is null then
    select format('names transfer_key %s more than once', s.share ->> 'transfer_key') into v_problem
    from jsonb_array_elements(p_allocation) as s (share)
    group by s.share ->> 'transfer_key'
    having count(*) > 1
    limit 1;
  end if;
  if v_problem is not null then
    raise exception 'p_allocation %', v_problem
      using errcode = 'invalid_parameter_value',
            hint = 'Pass 1 to 1000 elements like {"transfer_key": "…", "amount": 250}, amounts in minor units, each key once; or leave p_allocation out for everything.',
            column = 'p_allocation';
  end if;
end
$$;

comment on function marketplace._require_allocation(jsonb) is
  'Raises 22023 for an allocation that is not exactly a list of keys and amounts; null is none, for everything.';

create or replace function marketplace._allocated(p_allocation jsonb)
returns table (transfer_key text, asked bigint)
language plpgsql
immutable
rows 10
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select s.share ->> 'transfer_key', (s.share ->> 'amount')::numeric::bigint
    from jsonb_array_elements(p_allocation) as s (share);
end
$$;

comment on function marketplace._allocated(jsonb) is 'An allocation as rows; none for null.';

create or replace function marketplace._requested(p_ids bigint[], p_allocation jsonb)
returns table (id bigint, asked bigint)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Two statements, so that each keeps its plan.
  if p_allocation is null then
    return query
      select r.id, null::bigint from marketplace.seller_transfers as r
      where r.id = any (p_ids) and r.root_id is null;
  else
    return query
      select r.id, a.asked from marketplace._allocated(p_allocation) as a
      inner join marketplace.seller_transfers as r on r.transfer_key = a.transfer_key;
  end if;
end
$$;

comment on function marketplace._requested(bigint[], jsonb) is
  'The roots that a request is for, and what it asks of each: null, of all roots among these rows, without an allocation.';

create or replace function marketplace._require_left(p_order_id text, p_allocation jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_share record;
begin
  for v_share in
    select
      a.transfer_key, a.asked, r.id, c.currency, c.quantum,
      marketplace._available_of_key(r.id) as available
    from marketplace._allocated(p_allocation) as a
    left join marketplace.seller_transfers as r on r.transfer_key = a.transfer_key and r.order_id = p_order_id
    left join marketplace.currencies as c on c.currency = r.currency
    order by r.id, a.transfer_key
  loop
    if v_share.id is null then
      raise exception 'order % has no transfer %', p_order_id, v_share.transfer_key
        using errcode = 'invalid_parameter_value',
              hint = 'Pass transfer_keys of this order, as they were recorded.', column = 'p_allocation';
    end if;
    if v_share.asked > v_share.available then
      raise exception 'transfer %: % asked, % left', v_share.transfer_key, v_share.asked, v_share.available
        using errcode = 'ST005',
              hint = 'Ask for no more than is left: what other requests took or asked for is not.',
              detail = jsonb_build_object(
                'transfer_key', v_share.transfer_key, 'asked', v_share.asked, 'left', v_share.available)::text,
              column = 'p_allocation';
    end if;
    -- All that is left can be asked for, whatever it comes to: it makes no new fraction.
    if v_share.asked % v_share.quantum <> 0 and v_share.asked <> v_share.available then
      raise exception 'transfer %: % asked, and % comes in multiples of %',
        v_share.transfer_key, v_share.asked, v_share.currency, v_share.quantum
        using errcode = 'invalid_parameter_value',
              hint = format('Stripe takes %s in multiples of %s minor units only; round the amount.',
                v_share.currency, v_share.quantum),
              column = 'p_allocation';
    end if;
  end loop;
end
$$;

comment on function marketplace._require_left(text, jsonb) is
  'Raises 22023 for keys that are not of the order and amounts that Stripe would not take, ST005 where more is asked than is left. Its order''s rows are locked.';
