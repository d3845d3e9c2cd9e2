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
      perform marketplace._note_taken(p_reversal_request_id, v_root.id, v_amount);
      v_rest := v_rest - v_amount;
    end loop;
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

create or replace function marketplace._note_taken(p_reversal_request_id text, p_root_id bigint, p_amount bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.reversal_request_lines as l
  set met = l.met + p_amount, unmet = l.unmet - p_amount
  where l.reversal_request_id = p_reversal_request_id and l.transfer_id = p_root_id and l.unmet >= p_amount;
  if not found then
    insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, transfer_key, asked, met, unmet)
    select p_reversal_request_id, r.id, marketplace._family_key(r), p_amount, p_amount, 0
    from marketplace.seller_transfers as r where r.id = p_root_id
    -- What a line asks is fixed: more than it is in the rows only.
    on conflict on constraint pk_reversal_request_lines do nothing;
  end if;
end
$$;

comment on function marketplace._note_taken(text, bigint, bigint) is
  'Notes in a withdrawn request''s line what was taken for it of a transfer, to be looked for; a request of no lines is given one.';
