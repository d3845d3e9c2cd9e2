-- Whose an object at Stripe is, and how much.
--
-- Another database's objects are nothing unusual: a test account has many. They matter where both want the same.

create or replace function marketplace._sent_for(
  p_object marketplace.reconcile_objects, out database text, out row_id bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_database_id uuid := (select c.database_id from marketplace.stripe_control as c);
  v_root_id bigint;
begin
  if p_object.identity !~ '^transfer:' then
    return;
  end if;
  select t.id into v_root_id from marketplace.seller_transfers as t where t.transfer_key = p_object.transfer_key;
  select s.id into row_id
  from marketplace._row_sent_as(v_root_id, p_object.transfer_key, p_object.identity) as s;
  database := case
    when row_id is not null or p_object.identity ~ format('^transfer:(again:)?%s:', v_database_id) then 'ours'
    -- Too long for metadata, it is there as a hash, which does not tell: rather ours too often.
    when p_object.identity ~ '^transfer:[0-9a-f]{64}$' then 'ours'
    else 'another'
  end;
end
$$;

comment on function marketplace._sent_for(marketplace.reconcile_objects) is
  'Whose transfer at Stripe this is by its identity: ours, another, or null without one; and the row that it was sent for.';

create or replace function marketplace._reversed_for(p_object marketplace.reconcile_objects)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when p_object.identity ~ '^reversal:[0-9a-f]{64}$' or p_object.identity ~ format('^reversal:%s:', (
      select c.database_id from marketplace.stripe_control as c)) then 'ours'
    when p_object.identity ~ '^reversal:' then 'another'
  end;
end
$$;

comment on function marketplace._reversed_for(marketplace.reconcile_objects) is
  'Whose reversal at Stripe this is by its identity: ours, another, or null without one.';

create or replace function marketplace._amount_in_words(p_amount bigint, p_currency text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    marketplace.format_amount(p_amount, p_currency),
    p_amount || ' minor units of ' || coalesce(p_currency, 'no currency'));
end
$$;

comment on function marketplace._amount_in_words(bigint, text) is 'An amount in minor units as people write it, also one in a currency that is not known here. Null for null.';
