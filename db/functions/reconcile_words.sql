-- Whose an object at Stripe is, and what a person types about it.
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
declare
  v_exponent integer := (select c.exponent from marketplace.currencies as c where c.currency = p_currency);
begin
  return case
    when p_amount is null then null
    when v_exponent is null then format('%s minor units of %s', p_amount, coalesce(p_currency, 'no currency'))
    else format('%s %s', round(p_amount / power(10::numeric, v_exponent), v_exponent), p_currency)
  end;
end
$$;

comment on function marketplace._amount_in_words(bigint, text) is 'An amount in minor units as people write it: 10.50 usd.';

create or replace function marketplace._record_statement(
  p_object marketplace.reconcile_objects, p_transfer_key text, p_order_id text, p_seller_id text
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return format(
    'select id, status from marketplace.record_completed_transfer(p_transfer_key => %L, p_order_id => %L, '
    'p_seller_id => %L, p_destination_account => %L, p_amount => %s, p_currency => %L%s, p_stripe_transfer_id => %L);',
    coalesce(p_transfer_key, '…'), coalesce(p_order_id, '…'), coalesce(p_seller_id, '…'), p_object.destination_account,
    p_object.amount, p_object.currency, ', p_source_charge => ' || quote_literal(p_object.source_charge),
    p_object.stripe_id);
end
$$;

comment on function marketplace._record_statement(marketplace.reconcile_objects, text, text, text) is
  'What to type to record a transfer at Stripe as the one of this key.';

create or replace function marketplace._lost_transfer_step(p_object marketplace.reconcile_objects)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_made_for text := (regexp_match(p_object.identity, '^transfer:again:[0-9a-f-]{36}:[0-9]+:(.*)$'))[1];
begin
  if v_made_for is not null then
    -- Made when a request was withdrawn: withdrawn again it is wanted again, and found.
    return format('select id, status from marketplace.withdraw_reversal_request(p_reversal_request_id => %L, p_reason => ''…'');',
      regexp_replace(substr(v_made_for, length(p_object.transfer_key) + 2), ':-?[0-9]+$', ''));
  end if;
  -- Whom the app calls this seller, Stripe does not know.
  return marketplace._record_statement(p_object, p_object.transfer_key, p_object.order_id, null);
end
$$;

comment on function marketplace._lost_transfer_step(marketplace.reconcile_objects) is
  'What to type about a transfer of ours at Stripe that has no row.';
