-- A look-up that finds less left of the transfer than the row asks for: others have taken some of it.

create or replace function marketplace._split_by_evidence(
  p_row marketplace.seller_transfers, p_elsewhere bigint, p_words text, p_now timestamptz
)
returns marketplace.seller_transfers
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers := marketplace._without_lease(p_row);
  v_slice marketplace.seller_transfers;
  v_slice_id bigint;
begin
  -- The rest is another amount, so it needs another key. The one before can bring nothing any more: more was asked
  -- with it than is left.
  if v_row.call_params is not null then
    v_row := marketplace._next_generation(v_row, p_now);
  end if;
  v_row.named_reversal_id := null;
  v_row.call_unknown := false;
  v_row.call_absent_at := p_row.leased_at;
  v_row.next_retry_at := p_now;
  perform marketplace._write_settled(v_row);

  v_slice_id := marketplace._split_transfer(p_row.id, p_elsewhere);
  select * into strict v_slice from marketplace.seller_transfers as t where t.id = v_slice_id;
  perform marketplace._write_settled(
    marketplace._reversed_row(v_slice, null, marketplace._clean_text(p_words, 1000)));
  perform marketplace._settle_withdrawn(v_slice_id, p_now);
  return v_row;
end
$$;

comment on function marketplace._split_by_evidence(
  marketplace.seller_transfers, bigint, text, timestamptz
) is 'Splits off what was reversed elsewhere, as a reversed slice, and returns what the rest becomes.';
