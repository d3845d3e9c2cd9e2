-- What Stripe lists is handed over in batches, and what may be of this database is kept.
--
-- An object that cannot be read is refused with its batch: a list with a hole in it is no list. Texts are another
-- matter: anybody may write anything into metadata, so they are cleaned and cut.

create or replace function marketplace.keep_listed_objects(p_run_id bigint, p_objects jsonb)
returns setof marketplace.reconcile_runs
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run marketplace.reconcile_runs;
begin
  perform marketplace._require_listed_objects(p_objects);
  v_run := marketplace._lock_open_run(p_run_id);
  insert into marketplace.reconcile_objects as k (
    run_id, stripe_id, object, stripe_transfer_id, amount, amount_reversed, currency, destination_account, source_charge,
    status, created_at, read_since, identity, transfer_key, order_id, reversal_request_id)
  select
    p_run_id, o.it ->> 'id', o.it ->> 'object', l.stripe_transfer_id, marketplace._read_amount(o.it -> 'amount'),
    case when l.is_transfer then marketplace._read_amount(o.it -> 'amount_reversed') end,
    marketplace._read_text(o.it -> 'currency', 20),
    case when l.is_transfer then marketplace._read_text(o.it -> 'destination', 255) end,
    case when l.is_transfer then marketplace._read_text(o.it -> 'source_transaction', 255) end,
    marketplace._read_text(o.it -> 'status', 100), to_timestamp((o.it ->> 'created')::bigint),
    coalesce(v_run.reread_at, v_run.started_at),
    marketplace._read_text(o.it #> '{metadata,seller_transfers_identity}', 255),
    marketplace._read_text(o.it #> '{metadata,transfer_key}', 255),
    marketplace._read_text(o.it #> '{metadata,order_id}', 255),
    marketplace._read_text(o.it #> '{metadata,reversal_request_id}', 255)
  from jsonb_array_elements(p_objects) as o (it)
  cross join lateral (
    select o.it ->> 'object' = 'transfer' as is_transfer,
      case o.it ->> 'object' when 'transfer' then o.it ->> 'id' else o.it ->> 'transfer' end as stripe_transfer_id
  ) as l
  where
    -- Others may use the account, too.
    o.it #>> '{metadata,seller_transfers_identity}' is not null
    or marketplace._is_recorded(l.stripe_transfer_id)
    -- One that the app made bears no mark, and what took it back does.
    or exists (
      select from jsonb_array_elements(p_objects) as m (it)
      where l.stripe_transfer_id in (m.it ->> 'id', m.it ->> 'transfer')
        and m.it #>> '{metadata,seller_transfers_identity}' is not null)
  on conflict on constraint pk_reconcile_objects do update
  set
    amount = excluded.amount, amount_reversed = excluded.amount_reversed, currency = excluded.currency,
    status = excluded.status, read_since = excluded.read_since, identity = excluded.identity
  where v_run.reread_at is not null;
  return query
    update marketplace.reconcile_runs as r
    set
      transfers = r.transfers + n.transfers,
      reversals = r.reversals + n.objects - n.transfers
    from (
      select count(*) as objects, count(*) filter (where o.it ->> 'object' = 'transfer') as transfers
      from jsonb_array_elements(p_objects) as o (it)
      -- What is read a second time was counted.
      where v_run.reread_at is null
    ) as n
    where r.id = p_run_id
    returning r.*;
end
$$;

comment on function marketplace.keep_listed_objects(bigint, jsonb) is
  'Hands over up to 1000 transfers and reversals that Stripe listed, each transfer together with all of its reversals. Returns the run. What is of a transfer that no row stands for, and that neither itself nor by its reversals bears a mark, is counted and not kept.';

create or replace function marketplace._require_listed_objects(p_objects jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text := marketplace._why_no_list(p_objects, 0);
begin
  if p_objects is null then
    raise exception 'p_objects is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass a JSON array of objects as Stripe lists them.', column = 'p_objects';
  end if;
  if v_problem is null then
    select format('holds, at position %s, what is no whole transfer or reversal', o.n) into v_problem
    from jsonb_array_elements(p_objects) with ordinality as o (it, n)
    where not coalesce(marketplace._is_listed_object(o.it), false)
    order by o.n
    limit 1;
    if not found and (select count(*) <> count(distinct o.it ->> 'id') from jsonb_array_elements(p_objects) as o (it)) then
      v_problem := 'holds an object twice';
    end if;
  end if;
  if v_problem is not null then
    raise exception 'p_objects %', v_problem
      using errcode = 'invalid_parameter_value',
            hint = 'Pass up to 1000 objects, each with object, id, amount, currency and created; a transfer with amount_reversed, a reversal with transfer.',
            column = 'p_objects';
  end if;
end
$$;

comment on function marketplace._require_listed_objects(jsonb) is
  'Raises 22004 or 22023 for a batch with anything in it that cannot be compared.';

create or replace function marketplace._is_listed_object(p_object jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return marketplace._read_amount(p_object -> 'amount') is not null
    and marketplace._read_text(p_object -> 'currency', 20) is not null
    and jsonb_typeof(p_object -> 'created') = 'number'
    and p_object ->> 'created' ~ '^[0-9]{1,11}$'
    and case p_object ->> 'object'
      when 'transfer' then marketplace._is_transfer(p_object)
        and marketplace._read_amount(p_object -> 'amount_reversed') is not null
      when 'transfer_reversal' then marketplace._is_reversal(p_object)
        and p_object ->> 'transfer' ~ '^tr_[A-Za-z0-9]+$' and length(p_object ->> 'transfer') <= 253
        and coalesce(p_object ->> 'status', 'succeeded') in ('pending', 'succeeded', 'failed', 'canceled')
    end;
end
$$;

comment on function marketplace._is_listed_object(jsonb) is 'True if it is a transfer or a reversal with all that is compared.';
