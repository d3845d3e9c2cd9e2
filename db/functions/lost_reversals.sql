-- Reversals that may be ours although no row has them: under way, or made in a history that a restore has lost.

create or replace function marketplace._require_nothing_under_way(p_stripe_transfer_id text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  select t.id into v_id from marketplace._rows_of_stripe_transfer(p_stripe_transfer_id) as t
  where t.status = 'reversal_pending'
  limit 1;
  if found then
    perform marketplace._not_yet(format('transfer %s of %s is on its way back', v_id, p_stripe_transfer_id));
  end if;
end
$$;

comment on function marketplace._require_nothing_under_way(text) is
  'Raises ST010 while a row of this transfer at Stripe waits to be reversed, is being or may have been.';

create or replace function marketplace._require_none_lost(p_transfer jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mark text := format('reversal:%s:', (select c.database_id from marketplace.stripe_control as c));
  v_lost_id text;
  v_lost bigint;
begin
  -- Made by this database in a history that a restore has lost. Taken for somebody else's, it would count twice when the
  -- app asks again; unless rows count it so already.
  select min(r.it ->> 'id'), sum(marketplace._read_amount(r.it -> 'amount')) into v_lost_id, v_lost
  from jsonb_array_elements(case jsonb_typeof(p_transfer #> '{reversals,data}')
    when 'array' then p_transfer #> '{reversals,data}' else '[]' end) as r (it)
  where coalesce(r.it ->> 'status', 'succeeded') in ('pending', 'succeeded')
    and starts_with(r.it #>> '{metadata,seller_transfers_identity}', v_mark)
    and not exists (select from marketplace._our_reversals(p_transfer) as o where o.id = r.it ->> 'id');
  if v_lost > (
    select coalesce(sum(t.amount), 0) from marketplace._rows_of_stripe_transfer(p_transfer ->> 'id') as t
    where t.status = 'reversed' and t.stripe_reversal_id is null
  ) then
    perform marketplace._not_yet(format(
      '%s was made by this database for a request that it does not know any more: ask for that again', v_lost_id));
  end if;
end
$$;

comment on function marketplace._require_none_lost(jsonb) is
  'Raises ST010 while a transfer at Stripe, as an event has it, lists a live reversal with our mark that is of no row and not counted as made elsewhere.';

create or replace function marketplace._without_lost(
  p_found jsonb, p_row marketplace.seller_transfers, p_family text[]
)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mark text := format('reversal:%s:', (select c.database_id from marketplace.stripe_control as c));
  v_of text := format('%s%s:', v_mark, p_row.stripe_transfer_id);
  v_is_evidence boolean := exists (
    select from marketplace.reversal_requests as r
    where r.reversal_request_id = p_row.reversal_request_id and r.is_evidence);
begin
  return (
    select coalesce(jsonb_agg(f.it), '[]')
    from jsonb_array_elements(p_found) as f (it)
    where not coalesce(
      starts_with(f.it #>> '{metadata,seller_transfers_identity}', v_mark)
      and f.it #>> '{metadata,seller_transfers_identity}' <> all (p_family)
      -- What was taken back for a request that is withdrawn nobody asks for again. It is to be given back, for whichever.
      and (v_is_evidence or not exists (
        select from marketplace.reversal_requests as r
        where r.withdrawn_at is not null
          and r.reversal_request_id = regexp_replace(
            substr(f.it #>> '{metadata,seller_transfers_identity}', length(v_of) + 1), ':[0-9]+$', '')))
      -- One that rows count as made elsewhere already is used up there.
      and not exists (
        select from marketplace._rows_of_stripe_transfer(p_row.stripe_transfer_id) as t
        where t.stripe_reversal_id = f.it ->> 'id' or (
          t.status = 'reversed' and t.stripe_reversal_id is null
          and t.failure_message ~ ('[[:<:]]' || (f.it ->> 'id') || '[[:>:]]'))), false));
end
$$;

comment on function marketplace._without_lost(jsonb, marketplace.seller_transfers, text[]) is
  'A list of reversals, each with an id, without those that this database made for requests that it does not know any more, nor that they were withdrawn. p_family: the identities of the row''s family.';

create or replace function marketplace._may_be_asked_again(
  p_row marketplace.seller_transfers, p_found jsonb, p_family text[]
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not for ever: what was withdrawn in time nobody asks for again.
  return coalesce(p_row.leased_at < marketplace._lost_until(), false)
    and marketplace._without_lost(p_found, p_row, p_family) <> p_found;
end
$$;

comment on function marketplace._may_be_asked_again(marketplace.seller_transfers, jsonb, text[]) is
  'True for as long after look_up_first as requests under way may arrive, if a look-up found a reversal that this database made for a request that it does not know any more.';

create or replace function marketplace._lost_of_same_cause(
  p_found jsonb, p_row marketplace.seller_transfers, p_family text[]
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_of text := format('reversal:%s:%s:', (select c.database_id from marketplace.stripe_control as c),
    p_row.stripe_transfer_id);
  v_cause text := (
    select r.asked_for from marketplace.reversal_requests as r
    where r.reversal_request_id = p_row.reversal_request_id);
begin
  -- Events ask for one refund or dispute as often as money comes to light, by requests that are numbered: a lost history
  -- may have numbered them otherwise.
  return (
    select format('mismatch: Stripe has %s under another number of %s, asked for in a history that is lost',
      string_agg(format('%s (%s)', f.it ->> 'id', f.it ->> 'amount'), ', '), v_cause)
    from jsonb_array_elements(p_found) as f (it)
    where f.it #>> '{metadata,seller_transfers_identity}' <> all (p_family)
      and not exists (
        select from marketplace.seller_transfers as t where t.stripe_reversal_id = f.it ->> 'id')
      and f.it ->> 'status' is distinct from 'failed' and f.it ->> 'status' is distinct from 'canceled'
      and starts_with(f.it #>> '{metadata,seller_transfers_identity}', v_of || v_cause)
      and substr(f.it #>> '{metadata,seller_transfers_identity}', length(v_of || v_cause) + 1) ~ '^([+][0-9]+)?:[0-9]+$'
    having count(*) > 0);
end
$$;

comment on function marketplace._lost_of_same_cause(jsonb, marketplace.seller_transfers, text[]) is
  'What to park a row for that a look-up found nothing of, but reversals that a lost history of this database asked for the same refund or dispute; null if there are none.';
