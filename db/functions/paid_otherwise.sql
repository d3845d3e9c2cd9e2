-- What follows from a transfer found for another amount than its row's, beside the row itself: see held_rest.sql.

create or replace function marketplace._take_held_for_withdrawn(p_id bigint, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_line record;
  v_amount bigint;
  v_id bigint;
begin
  -- Asked again and withdrawn again before it was known what there is: as in the history that is lost, the part is not
  -- paid because of the request, and what took over from it is looked for and sent.
  for v_line in
    select r.reversal_request_id, l.transfer_id, l.unmet
    from marketplace.reversal_request_lines as l
    inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
    where l.transfer_id in (
        select coalesce(t.root_id, t.id) from marketplace.seller_transfers as t where t.id = p_id)
      and l.unmet > 0 and r.withdrawn_at is not null and not r.is_whole and not r.is_evidence
    order by r.requested_at, r.reversal_request_id
  loop
    select t.* into strict v_row from marketplace.seller_transfers as t where t.id = p_id;
    exit when not marketplace._is_left(v_row);
    v_amount := least(v_line.unmet, v_row.amount);
    perform marketplace._take_row(v_row, v_line.reversal_request_id, v_amount);
    perform marketplace._note_taken(v_line.reversal_request_id, v_line.transfer_id, v_amount);
    for v_id in
      select f.id from marketplace._family(v_line.transfer_id) as f
      where f.reversal_request_id = v_line.reversal_request_id and p_id in (f.id, f.split_from) order by f.id
    loop
      perform marketplace._settle_withdrawn(v_id, p_now);
    end loop;
  end loop;
end
$$;

comment on function marketplace._take_held_for_withdrawn(bigint, timestamptz) is
  'Takes a held part for requests that were withdrawn before they could have any of it, and lets what they took go on. The order is locked.';

create or replace function marketplace._doubt_held(p_id bigint, p_found jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_key text;
  v_database_id uuid := (select c.database_id from marketplace.stripe_control as c);
begin
  select t.* into strict v_row from marketplace.seller_transfers as t where t.id = p_id;
  v_key := marketplace._family_key(v_row);
  -- The lost history has sent something beside for the same money: who asks for this part may be given what is paid
  -- already. Nobody has it before it was looked for by itself.
  update marketplace.seller_transfers
  set call_unknown = true
  where id = p_id and marketplace._is_held(v_row) and exists (
    select from jsonb_array_elements(p_found) as f (it)
    where f.it #>> '{metadata,transfer_key}' = v_key
      and starts_with(f.it #>> '{metadata,seller_transfers_identity}', format('transfer:again:%s:', v_database_id))
      and not marketplace._is_recorded(f.it ->> 'id')
      and f.it #>> '{metadata,seller_transfers_identity}' not in (
        select marketplace._send_identity(v_database_id, v_key, k.made_for)
        from marketplace._rows_of_key(marketplace._key_root(v_row)) as k));
end
$$;

comment on function marketplace._doubt_held(bigint, jsonb) is
  'Leaves a held part to a person where a look-up has found, beside its transfer, another of ours for the same key that no row here is looked for by. The order is locked.';

create or replace function marketplace._pay_slices(
  p_row marketplace.seller_transfers, p_amount bigint, p_now timestamptz
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_slice marketplace.seller_transfers;
  v_rest bigint := p_amount;
  v_id bigint;
  v_before text;
begin
  for v_slice in select u.* from marketplace._unpaid_slices(p_row) as u order by u.id desc loop
    exit when v_rest = 0;
    v_before := marketplace._add_reason(format('%s was sent before it was split off', p_row.stripe_transfer_id));
    v_id := marketplace._succeed(v_slice, null, null, 'it is paid', p_now);
    update marketplace.seller_transfers
    set
      status = 'completed',
      completed_at = p_now,
      stripe_transfer_id = p_row.stripe_transfer_id,
      stripe_transfer_group = p_row.stripe_transfer_group,
      next_retry_at = null
    where id = v_id;
    perform marketplace._give_reason(v_before);
    -- It is still to be taken back.
    update marketplace.reversal_request_lines as l
    set met = l.met - v_slice.amount, unmet = l.unmet + v_slice.amount
    where l.reversal_request_id = v_slice.reversal_request_id
      and l.transfer_id = coalesce(p_row.root_id, p_row.id) and l.met >= v_slice.amount;
    perform marketplace._offer_row(v_id);
    v_rest := v_rest - v_slice.amount;
  end loop;
end
$$;

comment on function marketplace._pay_slices(marketplace.seller_transfers, bigint, timestamptz) is
  'Makes paid successors of the slices that were split off a row last, which was paid with p_amount more than it has; whoever asked for them still does. The order is locked.';
