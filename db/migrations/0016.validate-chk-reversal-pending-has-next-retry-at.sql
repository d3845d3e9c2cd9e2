-- Holds the old rows to the rule as well, and never fails: a failing migration would stop every later one. Rows that
-- break it are named in a warning; `seller-transfers migrate` tries again each time, `seller-transfers status` shows
-- it until done.
-- depends: 0015.add-chk-reversal-pending-has-next-retry-at

do $$
declare
  v_ids text;
begin
  alter table marketplace.seller_transfers validate constraint chk_reversal_pending_has_next_retry_at;
exception
  when check_violation then
    select string_agg(t.id::text, ', ' order by t.id) into v_ids
    from (
      select id from marketplace.seller_transfers
      where status = 'reversal_pending' and next_retry_at is null
      order by id
      limit 20
    ) as t;
    raise warning 'chk_reversal_pending_has_next_retry_at is not valid yet: rows % have no next_retry_at', v_ids
      using hint = 'Give each of these rows a next_retry_at, then run seller-transfers migrate again.';
end
$$;
