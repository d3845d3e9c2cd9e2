-- Many transfers at once that Stripe does not know: rather a wrong key than many wrong ids.
--
-- The key of another account is accepted, and none of our transfers exists there. Ending each row after its one 404
-- would give up every seller's money within a minute; so from the fifth such row on, without a success among them,
-- calls stop until a person says that the key is right. A row that gets its second 404 within the hour after that ends
-- like any other.

create or replace function marketplace._is_burst_of_not_found(
  p_outcomes marketplace.stripe_outcome[], p_now timestamptz
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_rows bigint;
  v_workers text[];
  v_are_known boolean;
begin
  if not exists (select from unnest(p_outcomes) as o where o.sent and o.http_status = 404) then
    return false;
  end if;
  v_workers := array(
    select distinct t.leased_by
    from unnest(p_outcomes) as o
    inner join marketplace.seller_transfers as t on t.id = o.id
    where t.leased_by is not null);
  -- A key that may not say whose it is may be another account's beside the right one.
  v_are_known := not exists (
    select from marketplace.runners as r where r.worker = any (v_workers) and r.stripe_account is null);
  with answers as (
    select
      o.id,
      o.http_status between 200 and 299 and o.object is not null as is_answered,
      marketplace.classify_stripe_outcome(
        o.action, o.http_status, o.error_type, o.error_code, o.error_message) as verdict
    from unnest(p_outcomes) as o
    where o.sent
    union all
    select
      -- That an account's list of transfers is empty says nothing of whose key was used.
      a.transfer_id,
      a.http_status between 200 and 299 and a.action <> 'look_up_transfer' and (v_are_known or a.worker = any (v_workers)),
      a.verdict
    from marketplace.transfer_attempts as a
    where a.finished_at > p_now - interval '10 minutes' and a.kind = 'call' and a.disposition = 'applied'
  )
  select count(distinct s.id) into v_rows
  from answers as s
  where s.verdict = 'not_found' and not exists (select from answers as g where g.is_answered);
  return v_rows >= 5;
end
$$;

comment on function marketplace._is_burst_of_not_found(marketplace.stripe_outcome[], timestamptz) is
  'True if this report and the last ten minutes hold five or more transfers that Stripe does not know, and no success.';

create or replace function marketplace._was_not_found_lately(p_transfer_id bigint, p_now timestamptz)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from marketplace.transfer_attempts as a
    where a.transfer_id = p_transfer_id and a.verdict = 'not_found' and a.disposition = 'applied'
      and a.finished_at > p_now - interval '1 hour'
  )
$$;

comment on function marketplace._was_not_found_lately(bigint, timestamptz) is
  'True if Stripe said within the last hour that it does not know the transfer.';
