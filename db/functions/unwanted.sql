-- What nobody wants to be done any more, and may have been done all the same: it is only looked for.

create or replace function marketplace._is_unwanted(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.completed_at is null then
    -- A request for everything that found all of it asked for already has no line, and stands all the same.
    return marketplace._unmet(coalesce(p_row.root_id, p_row.id)) > 0 or exists (
      select from marketplace.reversal_requests as r
      where r.order_id = p_row.order_id and r.is_whole and r.withdrawn_at is null and not r.is_evidence);
  end if;
  return exists (
    select from marketplace.reversal_requests as r
    where r.reversal_request_id = p_row.reversal_request_id and (r.withdrawn_at is not null or r.is_evidence));
end
$$;

comment on function marketplace._is_unwanted(marketplace.seller_transfers) is
  'True if the row''s order was refunded before the row is known to be paid, or if its own request was withdrawn: no request is made that moves money, and what was made is looked for.';
