-- What a function demands of its arguments. Every refusal names the argument (column field) and the next step (HINT).

create or replace function marketplace._require_text(p_name text, p_value text, p_limit integer default 255)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_value is null then
    raise exception '% is missing', p_name
      using errcode = 'null_value_not_allowed', hint = format('Pass a value for %s.', p_name), column = p_name;
  end if;
  if btrim(p_value) = '' or length(p_value) > p_limit or p_value ~ '[[:cntrl:]]' then
    raise exception '% is blank, longer than % characters, or has control characters', p_name, p_limit
      using errcode = 'invalid_parameter_value',
            hint = format('Pass 1 to %s printable characters as %s.', p_limit, p_name),
            column = p_name;
  end if;
end
$$;

comment on function marketplace._require_text(text, text, integer) is
  'Raises 22004 for null, 22023 for a text that is blank, too long or has control characters.';

create or replace function marketplace._require_stripe_id(p_name text, p_value text, p_prefixes text[])
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text(p_name, p_value);
  if p_value !~ format('^(%s)_[A-Za-z0-9]+$', array_to_string(p_prefixes, '|')) then
    raise exception '% is not a Stripe id of the right kind: %', p_name, left(p_value, 60)
      using errcode = 'invalid_parameter_value',
            hint = format('Pass an id that begins with %s_.', array_to_string(p_prefixes, '_ or ')),
            column = p_name;
  end if;
end
$$;

comment on function marketplace._require_stripe_id(text, text, text[]) is
  'Raises 22004 for null, 22023 for anything but an id with one of these prefixes.';

create or replace function marketplace._require_amount(p_name text, p_value bigint)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_value is null then
    raise exception '% is missing', p_name
      using errcode = 'null_value_not_allowed',
            hint = format('Pass %s in minor units of the currency.', p_name),
            column = p_name;
  end if;
  if p_value not between 1 and 999999999999 then
    raise exception '% is %, which is no amount that can be moved', p_name, p_value
      using errcode = 'invalid_parameter_value',
            hint = 'Pass a whole number of minor units, from 1 to 999999999999: 1050 is 10.50 usd.',
            column = p_name;
  end if;
end
$$;

comment on function marketplace._require_amount(text, bigint) is
  'Raises 22004 for null, 22023 for an amount in minor units outside 1 to 999999999999.';

create or replace function marketplace._require_currency(p_name text, p_value text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text(p_name, p_value);
  if not exists (select from marketplace.currencies as c where c.currency = p_value) then
    raise exception '% is no currency known here: %', p_name, left(p_value, 20)
      using errcode = 'invalid_parameter_value',
            hint = 'Pass three lower-case letters, such as usd; marketplace.currencies lists what is known.',
            column = p_name;
  end if;
end
$$;

comment on function marketplace._require_currency(text, text) is
  'Raises 22004 for null, 22023 for a currency that marketplace.currencies does not have.';

create or replace function marketplace._require_quantum(p_name text, p_amount bigint, p_currency text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_quantum bigint := (select c.quantum from marketplace.currencies as c where c.currency = p_currency);
  v_rest bigint := p_amount % v_quantum;
begin
  if v_rest <> 0 then
    raise exception '% is %, and Stripe takes % in multiples of %', p_name, p_amount, p_currency, v_quantum
      using errcode = 'invalid_parameter_value', column = p_name,
            hint = format(
              'Pass a multiple of %s, such as %s. Should Stripe take it after all, a member of marketplace_owner says so: update marketplace.currencies set quantum = 1 where currency = %L;',
              v_quantum, greatest(p_amount - v_rest, v_quantum), p_currency);
  end if;
end
$$;

comment on function marketplace._require_quantum(text, bigint, text) is
  'Raises 22023 for an amount to be sent that is no multiple of its currency''s quantum: Stripe would refuse it.';

create or replace function marketplace._why_no_list(p_list jsonb, p_least integer)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when jsonb_typeof(p_list) <> 'array' then 'is no array'
    when jsonb_array_length(p_list) < p_least then 'has no elements'
    when jsonb_array_length(p_list) > 1000 then 'has more than 1000 elements'
  end;
end
$$;

comment on function marketplace._why_no_list(jsonb, integer) is
  'What is wrong with an argument that should be an array of p_least, none or one, to 1000 elements; null if it is one.';

create or replace function marketplace._require_read_committed()
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'this function needs READ COMMITTED, not %', upper(current_setting('transaction_isolation'))
      using errcode = 'invalid_transaction_state',
            hint = 'Call it outside a transaction, or begin with ISOLATION LEVEL READ COMMITTED: each of its statements must see what is committed by then.';
  end if;
end
$$;

comment on function marketplace._require_read_committed() is
  'Raises 25000 in a transaction whose snapshot is older than the statement.';
