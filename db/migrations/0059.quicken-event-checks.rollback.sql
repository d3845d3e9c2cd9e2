set local search_path = pg_catalog, pg_temp;

do $$
begin
  if to_regclass('marketplace.stripe_events') is null then
    return;
  end if;
  alter table marketplace.stripe_events
    drop constraint if exists chk_event_id_is_of_its_kind,
    drop constraint if exists chk_event_texts_are_bounded;
  -- Every row keeps to them: the rules are the same.
  alter table marketplace.stripe_events
    add constraint chk_event_id_is_of_its_kind check (event_id ~ '^evt_[A-Za-z0-9_]{1,250}$'),
    add constraint chk_event_texts_are_bounded check (
      length(type) between 1 and 255
      and length(account) <= 255
      and raw_sha256 ~ '^[0-9a-f]{64}$'
      and length(object_id) <= 255
      and length(charge_id) <= 255
      and length(payment_intent) <= 255
      and length(detail) <= 1000
      and length(next_step) <= 1000
      and length(order_id) <= 255
    );
  comment on constraint chk_event_id_is_of_its_kind on marketplace.stripe_events is 'evt_….';
  comment on constraint chk_event_texts_are_bounded on marketplace.stripe_events is 'Every text has an end; a SHA-256 has 64 digits.';
end
$$;
