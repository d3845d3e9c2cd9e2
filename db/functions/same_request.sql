-- The same request again asks for nothing, and another one under its id is a mistake.

create or replace function marketplace._require_same_request(
  p_order_id text, p_reversal_request_id text, p_reason text, p_amount bigint, p_allocation jsonb
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_known marketplace.reversal_requests;
  v_asked jsonb;
begin
  select * into strict v_known from marketplace.reversal_requests as r
  where r.reversal_request_id = p_reversal_request_id;
  if v_known.asked_by = 'events' and v_known.order_id = p_order_id then
    -- Stripe's event came first and has asked for this refund or dispute: its share stands.
    return;
  end if;
  if not v_known.is_whole and v_known.asked_amount is null then
    select jsonb_object_agg(k.transfer_key, k.asked) into v_asked
    from (
      select l.transfer_key, sum(l.asked) as asked
      from marketplace.reversal_request_lines as l where l.reversal_request_id = p_reversal_request_id
      group by l.transfer_key
    ) as k;
  end if;
  if (v_known.order_id, v_known.reason, v_known.is_whole)
      <> (p_order_id, p_reason, num_nulls(p_amount, p_allocation) = 2)
    or v_known.asked_amount is distinct from p_amount
    or v_asked is distinct from (
      select jsonb_object_agg(a.transfer_key, a.asked) from marketplace._allocated(p_allocation) as a) then
    raise exception 'reversal request % is known for %, order %, with reason %',
      p_reversal_request_id, coalesce(v_known.asked_amount::text, left(v_asked::text, 200), 'everything'), v_known.order_id, v_known.reason
      using errcode = 'ST003',
            hint = 'The same id is the same request. For another request pass another id.',
            schema = 'marketplace', table = 'reversal_requests', constraint = 'pk_reversal_requests';
  end if;
end
$$;

comment on function marketplace._require_same_request(text, text, text, bigint, jsonb) is
  'Raises ST003 if the request is known with another order, reason, amount or allocation; of one that events asked for, with another order.';
