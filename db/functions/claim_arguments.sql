-- What a claim may ask for.

create or replace function marketplace._require_claim_arguments(p_worker text, p_limit integer, p_lease interval)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_worker', p_worker);
  if p_limit is null or p_lease is null then
    raise exception 'p_limit or p_lease is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass how many rows, and for how long.',
            column = case when p_limit is null then 'p_limit' else 'p_lease' end;
  end if;
  if p_limit not between 1 and 1000 then
    raise exception 'p_limit is %', p_limit
      using errcode = 'invalid_parameter_value', hint = 'Pass 1 to 1000.', column = 'p_limit';
  end if;
  -- In seconds: to a calendar, months and days are not always the same.
  if extract(epoch from p_lease) not between 0.001 and 3600 then
    raise exception 'p_lease is %', p_lease
      using errcode = 'invalid_parameter_value',
            hint = 'Pass a lease of at most one hour, longer than a call may take.', column = 'p_lease';
  end if;
end
$$;

comment on function marketplace._require_claim_arguments(text, integer, interval) is
  'Raises 22004 or 22023 for arguments of a claim that cannot be meant.';

create or replace function marketplace._action(p_kind text, p_must_look boolean)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case p_kind
    when 'reversals' then case when p_must_look then 'look_up_reversals' else 'reverse' end
    when 'transfers' then case when p_must_look then 'look_up_transfer' else 'send' end
  end;
end
$$;

comment on function marketplace._action(text, boolean) is
  'What a worker is told to do for a row of this kind of work.';

create or replace function marketplace._looked_for_since(p_row marketplace.seller_transfers)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A day earlier than it can have been sent, for clocks differ. A successor may look for what was sent for a row before
  -- it, and a row that a failover lost, and that was asked for again, for what was sent before it was born.
  return least(
    coalesce(
      (select t.created_at from marketplace.seller_transfers as t where t.id = p_row.root_id), p_row.created_at),
    (select c.lost_since from marketplace.stripe_control as c)
  ) - interval '1 day';
end
$$;

comment on function marketplace._looked_for_since(marketplace.seller_transfers) is
  'From when on a transfer at Stripe may be the row''s.';

create or replace function marketplace._moves_money(p_action text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_action in ('reverse', 'send'), true);
end
$$;

comment on function marketplace._moves_money(text) is
  'True if the action is a request that may move money, and not a look-up.';
