-- A list of reversals as a look-up reports it, told apart: ours, our siblings', and those made elsewhere.

create or replace function marketplace._read_amount(p_value jsonb)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when jsonb_typeof(p_value) = 'number' and p_value::numeric between 0 and 999999999999
      and p_value::numeric = trunc(p_value::numeric) then p_value::numeric::bigint
  end;
end
$$;

comment on function marketplace._read_amount(jsonb) is 'The amount in minor units, if it is one; null otherwise.';

create or replace function marketplace._reversals_seen(
  p_found jsonb, p_row marketplace.seller_transfers, p_identity text, p_family text[],
  out readable boolean, out live_sum bigint, out pending_sum bigint,
  out ours_live bigint, out ours_id text, out ours_ids text, out ours_fits boolean, out ours_pending boolean,
  out ours_words text, out failed_id text, out failed_ids text[],
  out foreign_sum bigint, out foreign_pending boolean, out foreign_words text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with listed as (
    select
      f.it ->> 'id' as id,
      marketplace._read_amount(f.it -> 'amount') as amount,
      f.it ->> 'currency' as currency,
      coalesce(f.it ->> 'status', 'succeeded') as status,
      f.it #>> '{metadata,seller_transfers_identity}' as identity,
      -- Those made before the generation was noted were of the first.
      coalesce(f.it #>> '{metadata,seller_transfers_generation}', '1') as generation,
      f.it ->> 'object' is not distinct from 'transfer_reversal'
        and coalesce(f.it ->> 'id', '') ~ '^trr_[A-Za-z0-9]+$' and length(f.it ->> 'id') <= 254
        and f.it ->> 'transfer' is not distinct from p_row.stripe_transfer_id
        and marketplace._read_amount(f.it -> 'amount') is not null
        and coalesce(f.it ->> 'status', 'succeeded') in ('pending', 'succeeded', 'failed', 'canceled') as readable
    from jsonb_array_elements(p_found) as f (it)
  ), told as (
    select
      l.*,
      l.status in ('pending', 'succeeded') as live,
      -- Metadata can be edited at Stripe: by its id a reversal is known whatever became of that.
      coalesce(l.identity = p_identity, false) or coalesce(l.id = p_row.stripe_reversal_id, false) as ours,
      coalesce(l.identity <> all (p_family), true) and not exists (
        select from marketplace.seller_transfers as s where s.stripe_reversal_id = l.id) as strange
    from listed as l
  )
  select
    coalesce(bool_and(t.readable), true) and count(*) = count(distinct t.id),
    coalesce(sum(t.amount) filter (where t.live), 0)::bigint,
    coalesce(sum(t.amount) filter (where t.status = 'pending'), 0)::bigint,
    count(*) filter (where t.ours and t.live),
    min(t.id) filter (where t.ours and t.live),
    left(string_agg(t.id, ', ' order by t.id) filter (where t.ours and t.live), 500),
    bool_and(t.amount = p_row.amount and t.currency = p_row.currency) filter (where t.ours and t.live),
    bool_or(t.status = 'pending') filter (where t.ours and t.live),
    left(string_agg(format('%s %s', t.amount, left(t.currency, 20)), ', ') filter (where t.ours and t.live), 200),
    min(t.id) filter (where t.ours and not t.live and t.generation = p_row.call_generation::text),
    coalesce(array_agg(t.id) filter (where not t.live), '{}'),
    coalesce(sum(t.amount) filter (where t.strange and t.status = 'succeeded'), 0)::bigint,
    coalesce(bool_or(t.status = 'pending') filter (where t.strange), false),
    left(string_agg(format('%s (%s)', t.id, t.amount), ', ' order by t.id) filter (where t.strange and t.live), 600)
  from told as t
$$;

comment on function marketplace._reversals_seen(jsonb, marketplace.seller_transfers, text, text[]) is
  'A reported list of reversals in one row: whether it can be read, its live sum, and what is the row''s own (p_identity), of its family or made elsewhere. Amounts in minor units.';
