-- A refund that was withdrawn before it was asked for takes nothing. But after a failover both may be told again in the
-- other order, and a lost history may have reversed something in between: that is found under the request's name alone.

create or replace function marketplace._look_for_withdrawn(
  p_order_id text, p_reversal_request_id text, p_ids bigint[], p_amount bigint, p_allocation jsonb
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_root record;
  v_row marketplace.seller_transfers;
  v_rest bigint;
  v_amount bigint;
  v_before text;
begin
  if not exists (select from marketplace.stripe_control as c where c.look_up_first_since is not null) then
    return;
  end if;
  v_before := marketplace._add_reason(format('%s is looked for, and was withdrawn', p_reversal_request_id));
  for v_root in
    select q.* from marketplace._requested(
      p_ids, case when p_amount is null then p_allocation else marketplace._spread(p_order_id, p_amount) end) as q
    order by q.id
  loop
    v_rest := v_root.asked;
    for v_row in
      select f.* from marketplace._family(v_root.id) as f where f.status = 'completed' order by f.id
    loop
      exit when v_rest = 0;
      -- As much as it would have taken: found, it is given back; not found, nothing has happened.
      v_amount := least(v_rest, v_row.amount);
      perform marketplace._take_row(v_row, p_reversal_request_id, v_amount);
      v_rest := v_rest - v_amount;
    end loop;
    update marketplace.reversal_request_lines as l
    set met = l.met + v_root.asked - v_rest, unmet = l.unmet - v_root.asked + v_rest
    where l.reversal_request_id = p_reversal_request_id and l.transfer_id = v_root.id and v_rest < v_root.asked;
  end loop;
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
exception
  when sqlstate 'ST005' then
    -- More than is left is not refused to an app that wants it no more.
    perform marketplace._give_reason(v_before);
end
$$;

comment on function marketplace._look_for_withdrawn(text, text, bigint[], bigint, jsonb) is
  'After a failover: has what a request that was withdrawn before it came may have taken looked up under its name, and given back. Before one it does nothing. The order and its rows are locked.';
