-- What waited for a row to become known.
--
-- A request that came while a row was in flight, or of unknown outcome, is kept in its line. As soon as it is known
-- what became of the row, it is taken for it in the same transaction: nobody sees a paid row of a refunded order that
-- is not on its way back. The row and its order are locked.

create or replace function marketplace._follow_up(p_id bigint, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_id bigint;
begin
  select * into strict v_row from marketplace.seller_transfers as t where t.id = p_id;
  if v_row.status in ('pending', 'failed', 'completed') then
    -- Most orders are not refunded: nothing waits.
    if not exists (
      select from marketplace.reversal_requests as r where r.order_id = v_row.order_id and r.withdrawn_at is null
    ) then
      return;
    end if;
    for v_id in
      select f.id from marketplace._family(coalesce(v_row.root_id, v_row.id)) as f
      -- What is held first: nothing need be made at Stripe to take that.
      where marketplace._is_left(f) order by f.parked_reason is null, f.id
    loop
      perform marketplace._offer_row(v_id);
    end loop;
  else
    perform marketplace._settle_withdrawn(p_id, p_now);
  end if;
end
$$;

comment on function marketplace._follow_up(bigint, timestamptz) is
  'Does what had to wait until it was known what became of the row: takes it for requests that asked for it meanwhile, gives it back where its request was withdrawn.';
