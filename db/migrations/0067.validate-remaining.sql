-- Holds the old rows to the rules of 0066 as well, and never fails: a failing migration would stop every later one. The
-- columns came with the rules, so there is none that breaks them.
-- depends: 0066.add-remaining

set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_rule record;
begin
  for v_rule in
    select * from (values
      ('stripe_disputes', 'chk_dispute_remaining_is_bounded'),
      ('reversal_requests', 'chk_asked_of_is_bounded')
    ) as r (of_table, name)
  loop
    begin
      execute format('alter table marketplace.%I validate constraint %I', v_rule.of_table, v_rule.name);
    exception
      when check_violation then
        raise warning '% on marketplace.% is not valid yet: %', v_rule.name, v_rule.of_table, sqlerrm
          using hint = 'Mend the rows that break it, then run seller-transfers migrate again.';
    end;
  end loop;
end
$$;
