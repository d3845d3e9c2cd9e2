-- What takes money of a charge back from the platform, and which requests ask for it.

create or replace function marketplace._causes_of_charge(p_charge_id text)
returns table (cause_id text, reason text, amount bigint, currency text, created_at timestamptz, is_of_app boolean)
language plpgsql
stable
rows 2
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select
      c.cause_id, c.reason, c.amount, c.currency, c.created_at,
      c.decided_by = 'app' or exists (
        select from marketplace.reversal_requests as a where a.reversal_request_id = c.cause_id and a.asked_by = 'app')
    from (
      select r.refund_id, 'refund', r.amount, r.currency, r.created_at, r.decided_by
      from marketplace.stripe_refunds as r
      left join marketplace.charges as h on h.charge_id = p_charge_id
      where r.charge_id = p_charge_id and r.status = 'succeeded'
        -- While nobody can tell, whoever has asked for it has said that it is a refund.
        and case when h.uncaptured = r.amount then not coalesce(marketplace._is_release(r), not exists (
          select from marketplace._requests_for(r.refund_id) as q where q.withdrawn_at is null)) else true end
      union all
      select d.dispute_id, 'dispute', least(d.amount, d.remaining), d.currency, d.created_at, 'events'
      from marketplace.stripe_disputes as d
      where d.charge_id = p_charge_id and d.funds_withdrawn and d.remaining is distinct from 0 and d.status <> 'won'
    ) as c (cause_id, reason, amount, currency, created_at, decided_by)
    where not marketplace._is_withdrawn(c.cause_id)
    order by c.created_at, c.cause_id;
end
$$;

comment on function marketplace._causes_of_charge(text) is
  'What took money of the charge back from the platform, and stands: refunds that succeeded, but for what was never captured, disputes whose funds were withdrawn, less what came back. is_of_app: what sellers give for it is said by the app, that decides on refunds or asked first.';

create or replace function marketplace._is_withdrawn(p_cause_id text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- One that stands is enough, of a charge of hundreds of orders too.
  if exists (
    select from marketplace.reversal_requests as r where r.asked_for = p_cause_id and r.withdrawn_at is null) then
    return false;
  end if;
  return exists (
    select from marketplace.reversal_requests as r
    where r.reversal_request_id = p_cause_id and r.withdrawn_at is not null);
end
$$;

comment on function marketplace._is_withdrawn(text) is
  'True of a refund or dispute that a person withdrew: it is not asked for again.';

create or replace function marketplace._requests_for(p_cause_id text)
returns setof marketplace.reversal_requests
language plpgsql
stable
rows 2
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Two statements, so that each keeps its index.
  return query
    select r.* from marketplace.reversal_requests as r where r.reversal_request_id = p_cause_id;
  return query
    select r.* from marketplace.reversal_requests as r
    where r.asked_for = p_cause_id and r.reversal_request_id <> p_cause_id;
end
$$;

comment on function marketplace._requests_for(text) is
  'The requests for a refund or dispute: the one of its own id, by whomever, and what events have asked beside it.';

create or replace function marketplace._is_release(p_refund marketplace.stripe_refunds)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_charge marketplace.charges;
begin
  select * into v_charge from marketplace.charges as c where c.charge_id = p_refund.charge_id;
  if v_charge.uncaptured is distinct from p_refund.amount or not v_charge.is_released then
    return false;
  end if;
  -- Made with the capture that released it. A refund of the buyer's that happens to be as much was made before, between
  -- two captures, or comes later; or is made at once as well: of several that fit, the first to be told stands for it.
  return p_refund.created_at between v_charge.captured_at - interval '10 s' and v_charge.captured_at + interval '10 s'
    and not exists (
      select from marketplace.stripe_refunds as o
      where o.charge_id = p_refund.charge_id and o.amount = p_refund.amount and o.refund_id <> p_refund.refund_id
        and o.status = 'succeeded' and o.created_at between
          v_charge.captured_at - interval '10 s' and v_charge.captured_at + interval '10 s'
        and marketplace._is_withdrawn(o.refund_id) and not marketplace._is_withdrawn(p_refund.refund_id));
end
$$;

comment on function marketplace._is_release(marketplace.stripe_refunds) is
  'True of a refund that only tells what was never captured of its charge, so that nothing went back to the buyer; null where nobody can tell.';
