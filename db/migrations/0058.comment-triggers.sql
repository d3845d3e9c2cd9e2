-- What each trigger is there for, said on the trigger itself.
-- depends: 0057.index-events-of-order

set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_trigger record;
begin
  for v_trigger in
    select g.tgname, g.tgrelid::regclass as relation, w.says
    from pg_catalog.pg_trigger as g
    inner join pg_catalog.pg_class as c on c.oid = g.tgrelid
    inner join (values
      ('_100_guard_transition', 'A birth or a change of status that the state machine does not list is refused.'),
      ('_200_guard_frozen', 'Who is paid how much, the evidence for it, and a row at its end stay as they are.'),
      ('_800_conserve_birth', 'At commit: a slice is a part of its family, and the family adds up.'),
      ('_800_conserve_amount', 'At commit: the family of a row whose amount changed adds up.'),
      ('_900_log_birth', 'A birth is written to transfer_status_log.'),
      ('_900_log_status', 'A change of status is written to transfer_status_log.'),
      ('_900_match_pruning', 'What leaves is what a pruning in the same transaction has recorded.'),
      ('_100_refuse_change', 'What is recorded stays as it was written.'),
      ('_100_refuse_repinning', 'A database belongs to one Stripe account and mode, for good.'),
      ('_100_refuse_delete', 'Nothing is deleted.'),
      ('_100_refuse_truncate', 'Nothing is deleted, not all at once either.')
    ) as w (name, says) on w.name = g.tgname
    where c.relnamespace = 'marketplace'::regnamespace and not g.tgisinternal
  loop
    execute format('comment on trigger %I on %s is %L', v_trigger.tgname, v_trigger.relation, v_trigger.says);
  end loop;
end
$$;
