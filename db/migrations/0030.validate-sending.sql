-- Holds the old rows to the rules as well, and never fails: a failing migration would stop every later one. Only a row
-- that was written past the functions can break one of them; `seller-transfers migrate` tries again each time,
-- `seller-transfers status` shows it until done.
-- depends: 0029.add-sending

do $$
declare
  v_name text;
begin
  foreach v_name in array array[
    'fk_seller_transfers_successor_of', 'fk_seller_transfers_compensates', 'chk_slice_has_a_family',
    'chk_root_has_a_key', 'chk_made_again_says_for_what', 'chk_stripe_transfer_group_is_bounded'
  ]
  loop
    begin
      execute format('alter table marketplace.seller_transfers validate constraint %I', v_name);
    exception
      when check_violation or foreign_key_violation then
        raise warning '% on marketplace.seller_transfers is not valid yet: %', v_name, sqlerrm
          using hint = 'Mend the rows that break it, then run seller-transfers migrate again.';
    end;
  end loop;
end
$$;
