-- A database that is not the one it was: noticed before anything is decided.
--
-- A standby that was promoted may have lost what was committed last, requests to Stripe among it: look-ups first, after
-- a silence, as look_up_first says. A dump, a clone, or an older state may have lost anything, or run beside the one
-- that goes on: no call, until a person has compared it with Stripe.
--
-- "Never sent" is no knowledge on either. So not only claims ask, but all that decides by what is known of a row, and
-- before it takes any other lock: as long as nobody has asked, everybody meets at stripe_control first.

create or replace function marketplace._notice_change()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
begin
  select * into strict v_control from marketplace.stripe_control;
  if v_control.table_oid is null or v_control.reconcile_needed_since is not null
    or marketplace._is_database_pinned(v_control) then
    return;
  end if;
  select * into strict v_control from marketplace.stripe_control for no key update;
  perform marketplace._know_database(v_control, clock_timestamp());
end
$$;

comment on function marketplace._notice_change() is
  'Notes that the database is not the one it was, if it is not. Called before any lock is taken.';

create or replace function marketplace._know_database(p_control marketplace.stripe_control, p_now timestamptz)
returns marketplace.stripe_control
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is record;
  v_was text;
  v_seen_at timestamptz;
begin
  if p_control.reconcile_needed_since is not null or marketplace._is_database_pinned(p_control) then
    return p_control;
  end if;
  if p_control.table_oid is null then
    perform marketplace._pin_database('database pinned', null);
    select * into strict p_control from marketplace.stripe_control;
    return p_control;
  end if;

  select * into v_is from marketplace._database_identity();
  v_was := 'it was ' || marketplace._identity_in_words(
    p_control.system_identifier, p_control.wal_timeline, p_control.database_oid, p_control.table_oid);
  -- Written by nothing but claims and registrations, which ask first: the newest is the old history's last word.
  v_seen_at := (select max(least(r.last_seen_at, p_now)) from marketplace.runners as r);
  if p_control.database_oid = v_is.database_oid and p_control.table_oid = v_is.table_oid
    and p_control.system_identifier is not distinct from v_is.system_identifier
    and v_is.wal_timeline > p_control.wal_timeline
    and v_seen_at > p_now - p_control.promoted_within then
    perform marketplace._lose_commits(v_seen_at, p_now);
    perform marketplace._pin_database(
      'promotion noticed', format('a runner was last seen at %s; %s', v_seen_at, v_was));
  else
    -- Where no runner was ever seen, nothing was sent either; rather too early than too late.
    perform marketplace._lose_commits(coalesce(v_seen_at, p_control.pinned_at, p_now), p_now);
    perform marketplace._need_reconcile('reconcile needed', format(
      'this is not the database that it was: restored or cloned? A runner was last seen at %s; %s, now %s',
      coalesce(v_seen_at::text, 'no time that is known'), v_was, marketplace._identity_in_words(
        v_is.system_identifier, v_is.wal_timeline, v_is.database_oid, v_is.table_oid)), p_now);
  end if;
  select * into strict p_control from marketplace.stripe_control;
  raise warning using
    message = marketplace._change_in_words(p_control), errcode = 'ST014', hint = marketplace._change_hint(p_control);
  return p_control;
end
$$;

comment on function marketplace._know_database(marketplace.stripe_control, timestamptz) is
  'Compares the database with the one that was pinned, and pins it the first time. Returns stripe_control as it is then; p_control is locked.';

create or replace function marketplace._lose_commits(p_lost_since timestamptz, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Of two failovers without a reconcile between them, what the first one lost is still lost.
  update marketplace.stripe_control
  set
    look_up_first_since = greatest(look_up_first_since, p_now),
    lost_since = least(lost_since, p_lost_since);
end
$$;

comment on function marketplace._lose_commits(timestamptz, timestamptz) is
  'Says that what was committed between these two moments may be lost.';

create or replace function marketplace._need_reconcile(p_change text, p_reason text, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into marketplace.stripe_control_log (change, reason) values (p_change, left(p_reason, 1000));
  update marketplace.stripe_control
  set
    reconcile_needed_since = coalesce(reconcile_needed_since, p_now),
    reconcile_reason = left(p_reason, 1000);
end
$$;

comment on function marketplace._need_reconcile(text, text, timestamptz) is
  'No call from now on until the database was compared with Stripe.';
