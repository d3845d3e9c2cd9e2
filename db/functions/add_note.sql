-- What a person found out, kept with the row: in its log, for a row that has ended stays as it is.

create or replace function marketplace.add_note(p_id bigint, p_note text)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
begin
  perform marketplace._require_text('p_note', p_note, 1000);
  perform marketplace._require_read_committed();
  v_row := marketplace._lock_order_of(p_id);
  insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason)
  values (p_id, v_row.status, v_row.status, p_note);
  return next v_row;
end
$$;

comment on function marketplace.add_note(bigint, text) is
  'Writes a note to a transfer''s log, whatever its status; nothing else changes. transfer_timeline shows it.';
