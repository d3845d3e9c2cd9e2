-- Refuses once a problem was dismissed: who decided that, and why, is not dropped.

set local search_path = pg_catalog, pg_temp;

do $$
begin
  if to_regclass('marketplace.dismissals') is null then
    return;
  end if;
  if exists (select from marketplace.dismissals) then
    raise exception 'marketplace.dismissals holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;
  -- Views that no migration made; the release before has others of the same name.
  drop function if exists marketplace.dismiss(text, text);
  drop function if exists marketplace.read_needs_attention();
  drop view if exists marketplace.needs_attention, marketplace.needs_attention_full;
  drop function if exists marketplace.read_queue_health();
  drop view if exists marketplace.queue_health, marketplace.queue_health_full;
  drop function if exists marketplace.read_transfer_totals();
  drop view if exists marketplace.transfer_totals;
  drop view if exists marketplace.transfer_timeline, marketplace.seller_debts, marketplace.due_work;
end
$$;

drop table if exists marketplace.dismissals cascade;
