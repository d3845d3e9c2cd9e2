-- Refuses while there is a refund or a dispute: what money was asked back for is not dropped.

do $$
declare
  v_table text;
  v_is_used boolean;
begin
  foreach v_table in array array['stripe_refunds', 'stripe_disputes'] loop
    if to_regclass('marketplace.' || v_table) is not null then
      execute format('select exists (select from marketplace.%I)', v_table) into v_is_used;
      if v_is_used then
        raise exception 'marketplace.% holds rows: it is not dropped', v_table
          using errcode = 'object_not_in_prerequisite_state',
                hint = 'Dump the table and drop it by hand if you mean it.';
      end if;
    end if;
  end loop;
end
$$;

drop table if exists marketplace.stripe_disputes cascade;
drop table if exists marketplace.stripe_refunds cascade;
