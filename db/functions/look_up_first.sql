-- After a restore or a failover: what was committed last may be gone, and Stripe may know of calls that we do not.

create or replace function marketplace.look_up_first(p_reason text)
returns setof marketplace.stripe_control
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  insert into marketplace.stripe_control_log (change, reason) values ('look-ups first by person', p_reason);
  return query
    update marketplace.stripe_control
    set look_up_first_since = greatest(look_up_first_since, clock_timestamp())
    returning *;
end
$$;

comment on function marketplace.look_up_first(text) is
  'Says that this database may have lost commits up to now. No call is made while leases given out before may be live; then every open row, and every later one, is looked up at Stripe before anything is sent for it.';
