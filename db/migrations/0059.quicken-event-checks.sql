-- The same rules for an event's id and digest, in patterns that are quick: a counted repetition such as {1,250} takes
-- twenty times as long as a length beside the pattern, and these are asked of every event.
--
-- NOT VALID, so that the lock lasts an instant; the next migration validates.
-- depends: 0058.comment-triggers

set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_rule record;
begin
  for v_rule in
    select * from (values
      ('chk_event_id_is_of_its_kind', 'check (event_id ~ ''^evt_[A-Za-z0-9_]+$'' and length(event_id) <= 254)', 'evt_….'),
      ('chk_event_texts_are_bounded',
        'check (
          length(type) between 1 and 255
          and length(account) <= 255
          and length(raw_sha256) = 64 and raw_sha256 !~ ''[^0-9a-f]''
          and length(object_id) <= 255
          and length(charge_id) <= 255
          and length(payment_intent) <= 255
          and length(detail) <= 1000
          and length(next_step) <= 1000
          and length(order_id) <= 255
        )', 'Every text has an end; a SHA-256 has 64 digits.')
    ) as r (name, rule, says)
  loop
    -- It may have been run before.
    if exists (
      select from pg_catalog.pg_constraint as c
      where c.conrelid = 'marketplace.stripe_events'::regclass and c.conname = v_rule.name
        and pg_get_constraintdef(c.oid) !~ '[{](1,250|64)[}]'
    ) then
      continue;
    end if;
    execute format('alter table marketplace.stripe_events drop constraint if exists %I', v_rule.name);
    execute format('alter table marketplace.stripe_events add constraint %I %s not valid', v_rule.name, v_rule.rule);
    execute format('comment on constraint %I on marketplace.stripe_events is %L', v_rule.name, v_rule.says);
  end loop;
end
$$;
