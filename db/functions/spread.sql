-- An amount of an order's money, spread over its transfers by what is left of each.
--
-- Largest remainder: each gives its exact share rounded down to what Stripe takes of its currency, and what is over
-- comes, one unit each, from those that rounding spared most; of equals, from the one recorded first. Nothing is made
-- or lost, and no transfer gives more than it has.

create or replace function marketplace._require_amount_or_allocation(p_amount bigint, p_allocation jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_amount is null then
    return;
  end if;
  perform marketplace._require_amount('p_amount', p_amount);
  if p_allocation is not null then
    raise exception 'p_amount and p_allocation are both given'
      using errcode = 'invalid_parameter_value',
            hint = 'Pass p_amount to have it spread over the order''s transfers, or p_allocation to say how much of which.',
            column = 'p_amount';
  end if;
end
$$;

comment on function marketplace._require_amount_or_allocation(bigint, jsonb) is
  'Raises 22023 for an amount that cannot be meant, or that comes with an allocation.';

create or replace function marketplace._spread(p_order_id text, p_amount bigint)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_left record;
begin
  select
    coalesce(sum(l.available), 0) as available,
    count(distinct l.currency) as currencies,
    string_agg(distinct l.currency, ', ' order by l.currency) as names,
    max(l.quantum) as quantum
  into v_left
  from marketplace._left_of_order(p_order_id) as l;
  if v_left.currencies > 1 then
    raise exception 'order % has transfers in several currencies: %', p_order_id, v_left.names
      using errcode = 'invalid_parameter_value',
            hint = 'An amount is of one currency: pass p_allocation, which says how much of which transfer.',
            column = 'p_amount';
  end if;
  if p_amount > v_left.available then
    raise exception 'order %: % asked, % left', p_order_id, p_amount, v_left.available
      using errcode = 'ST005',
            hint = 'Ask for no more than is left: what other requests took or asked for is not.',
            detail = jsonb_build_object('order_id', p_order_id, 'asked', p_amount, 'left', v_left.available)::text,
            column = 'p_amount';
  end if;
  if p_amount % v_left.quantum <> 0 and p_amount <> v_left.available then
    raise exception '% asked, and % comes in multiples of %', p_amount, v_left.names, v_left.quantum
      using errcode = 'invalid_parameter_value',
            hint = format('Stripe takes %s in multiples of %s minor units only; round the amount.',
              v_left.names, v_left.quantum),
            column = 'p_amount';
  end if;
  return marketplace._shares(p_order_id, p_amount, v_left.available::bigint);
end
$$;

comment on function marketplace._spread(text, bigint) is
  'The allocation of an amount in minor units to an order''s transfers, in proportion to what is left of each. Raises ST005 for more than is left, 22023 where one amount cannot be meant. The order''s rows are locked.';

create or replace function marketplace._left_of_order(p_order_id text)
returns table (id bigint, transfer_key text, currency text, quantum smallint, available bigint)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select r.id, r.transfer_key, c.currency, c.quantum, f.available
    from marketplace.seller_transfers as r
    inner join marketplace.currencies as c on c.currency = r.currency
    cross join lateral (select marketplace._available_of_key(r.id) as available) as f
    where r.order_id = p_order_id and r.transfer_key is not null and f.available > 0
    order by r.id;
end
$$;

comment on function marketplace._left_of_order(text) is
  'What a request may still take of each transfer of the order, in minor units; transfers of which nothing is left are not there.';

create or replace function marketplace._shares(p_order_id text, p_amount bigint, p_available bigint)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_share record;
  v_shares jsonb := '[]'::jsonb;
  v_over bigint;
begin
  if p_amount = p_available then
    return (
      select jsonb_agg(jsonb_build_object('transfer_key', l.transfer_key, 'amount', l.available) order by l.id)
      from marketplace._left_of_order(p_order_id) as l);
  end if;
  select p_amount - sum(l.quantum * div(l.available::numeric * p_amount, p_available::numeric * l.quantum)) into v_over
  from marketplace._left_of_order(p_order_id) as l;
  for v_share in
    select
      l.transfer_key, l.quantum, l.available,
      (l.quantum * div(l.available::numeric * p_amount, p_available::numeric * l.quantum))::bigint as amount
    from marketplace._left_of_order(p_order_id) as l
    order by (l.available::numeric * p_amount) % (p_available::numeric * l.quantum) desc, l.id
  loop
    if v_over > 0 and v_share.amount + v_share.quantum <= v_share.available then
      v_share.amount := v_share.amount + v_share.quantum;
      v_over := v_over - v_share.quantum;
    end if;
    if v_share.amount > 0 then
      v_shares := v_shares || jsonb_build_object('transfer_key', v_share.transfer_key, 'amount', v_share.amount);
    end if;
  end loop;
  if v_over <> 0 then
    raise exception '% cannot be spread over what is left of order %', p_amount, p_order_id
      using errcode = 'ST005',
            hint = 'What is left of a transfer is no multiple of what Stripe takes: pass p_allocation.',
            column = 'p_amount';
  end if;
  return v_shares;
end
$$;

comment on function marketplace._shares(text, bigint, bigint) is
  'The shares of p_amount in what is left of the order''s transfers, p_available in all; each a multiple of its currency''s quantum unless all is asked.';
