-- How much of each transfer is to be asked.

create or replace function marketplace._share(
  p_original bigint, p_quantum smallint, p_gone bigint, p_charge_amount bigint
)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_gone >= p_charge_amount then
    return p_original;
  end if;
  return least(p_original, p_quantum * div(
    2 * p_original::numeric * p_gone + p_charge_amount::numeric * p_quantum, 2 * p_charge_amount::numeric * p_quantum));
end
$$;

comment on function marketplace._share(bigint, smallint, bigint, bigint) is
  'The share of a transfer in what went back of its charge, rounded half up to what Stripe takes; all of it once the whole charge went back.';

create or replace function marketplace._shares_of_charge(
  p_charge marketplace.charges, p_order_id text, p_gone bigint, p_by_app bigint
)
returns table (root_id bigint, missing bigint, over bigint)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_transfer record;
  v_ids bigint[];
  v_asked bigint;
  v_by_events bigint;
  v_spared bigint;
  v_elsewhere bigint;
  v_of_app bigint;
  v_of_all bigint;
begin
  for v_transfer in select t.* from marketplace._transfers_of_charge(p_charge.charge_id, array[p_order_id]) as t loop
    v_ids := marketplace._families_of_key(v_transfer.id);
    -- By the requests' key, one at a time: a join would read all of them while the planner knows no better.
    select
      coalesce(sum(a.asked), 0),
      coalesce(sum(a.asked) filter (where a.asked_by = 'events'), 0),
      coalesce(sum(a.asked) filter (where a.asked_by = 'nobody'), 0)
    into v_asked, v_by_events, v_spared
    from (
      select l.asked, (
        select case
          when q.withdrawn_at is null then q.asked_by
          -- A part of what stands that a person withdrew: neither asked nor asked again.
          when not exists (
            select from marketplace.reversal_requests as n
            where n.asked_for = q.asked_for and n.replaces = q.reversal_request_id)
            and exists (
              select from marketplace._causes_of_charge(p_charge.charge_id) as c where c.cause_id = q.asked_for)
            then 'nobody'
        end
        from marketplace.reversal_requests as q where q.reversal_request_id = l.reversal_request_id) as asked_by
      from marketplace.reversal_request_lines as l
      where l.transfer_id = any (v_ids)
    ) as a
    where a.asked_by is not null;
    -- What somebody took back at Stripe without asking here is the seller's no more.
    select coalesce(sum(t.amount), 0) into v_elsewhere
    from marketplace.seller_transfers as t
    inner join marketplace.reversal_requests as r on r.reversal_request_id = t.reversal_request_id
    where (t.id = any (v_ids) or t.root_id = any (v_ids)) and r.is_evidence
      and t.status in ('reversal_pending', 'reversed') and not marketplace._is_followed(t.id);
    v_asked := v_asked + v_elsewhere;

    v_of_app := marketplace._share(
      v_transfer.original_amount, v_transfer.quantum, coalesce(p_by_app, 0), p_charge.amount);
    v_of_all := marketplace._share(
      v_transfer.original_amount, v_transfer.quantum, coalesce(p_by_app, 0) + p_gone, p_charge.amount);
    root_id := v_transfer.id;
    over := greatest(0, v_by_events - greatest(v_of_all - v_of_app, marketplace._share(
      v_transfer.original_amount, v_transfer.quantum, p_gone, p_charge.amount)));
    -- What the app leaves to a seller of its own refunds is not taken for others; what it took beyond them is.
    missing := greatest(0, least(
      v_of_all - v_by_events - v_spared
        - case when p_by_app is null then 0 else greatest(v_of_app, v_asked - v_by_events - v_spared) end,
      v_transfer.original_amount - v_asked));
    if v_of_all < v_transfer.original_amount then
      missing := missing - missing % v_transfer.quantum;
    end if;
    return next;
  end loop;
end
$$;

comment on function marketplace._shares_of_charge(marketplace.charges, text, bigint, bigint) is
  'Of each transfer of the order that the charge paid for: what events have still to ask now that p_gone of the charge went back, and what they have asked too much. p_by_app: what went back beside that and is for the app to ask; null if what it asks does not count.';
