-- Holds the old rows to the rule as well, and never fails: a failing migration would stop every later one. Rows that
-- break it are named in a warning; `seller-transfers migrate` tries again each time, `seller-transfers status` shows
-- it until done.
-- depends: 0015.add-chk-reversal-pending-has-next-retry-at

do $$
declare
  v_rows text;
begin
  alter table marketplace.seller_transfers validate constraint chk_reversal_pending_has_next_retry_at;
exception
  when check_violation then
    -- In the words of validate_constraints(), which comes next: one migration, one warning.
    select format('rows %s%s have no next_retry_at',
      string_agg(t.id::text, ', ' order by t.id) filter (where t.n <= 20), case when max(t.n) > 20 then ' and more' end)
    into v_rows
    from (
      select id, row_number() over (order by id) as n from marketplace.seller_transfers
      where status = 'reversal_pending' and next_retry_at is null
      order by id
      limit 21
    ) as t;
    raise warning 'chk_reversal_pending_has_next_retry_at on marketplace.seller_transfers is not valid yet: %', v_rows
      using hint = 'Mend the rows that break it, then run seller-transfers migrate again.';
end
$$;
