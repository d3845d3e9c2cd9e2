-- A database that is not the one it was, told to runners and to people: what that means for the calls, and what to do.

create or replace function marketplace._change_in_words(p_control marketplace.stripe_control)
returns text
language plpgsql
immutable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_control.reconcile_needed_since is not null then
    return format('No Stripe call is made since %s: %s', p_control.reconcile_needed_since, p_control.reconcile_reason);
  end if;
  return format(
    'Commits since %s may be lost: no Stripe call is made until %s, and then look-ups come first.',
    coalesce(p_control.lost_since, p_control.look_up_first_since), marketplace._silent_until(p_control));
end
$$;

comment on function marketplace._change_in_words(marketplace.stripe_control) is
  'Why no call is made although work is due, of a database that is not the one it was.';

create or replace function marketplace._change_hint(p_control marketplace.stripe_control)
returns text
language plpgsql
immutable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_control.reconcile_needed_since is not null then
    return 'If this is the database that goes on, and no other one does: seller-transfers reconcile. A clone needs a Stripe account of its own.';
  end if;
  return format(
    'seller-transfers catch-up --since %s brings the events of that time. seller-transfers reconcile finds what is at Stripe and lost here.',
    to_char(coalesce(p_control.lost_since, p_control.look_up_first_since - interval '1 day') at time zone 'UTC',
      'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
end
$$;

comment on function marketplace._change_hint(marketplace.stripe_control) is 'What to do about it.';

create or replace function marketplace._tell_of_change(p_control marketplace.stripe_control)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A notice, which a server's log is spared: the runner asks again and again, and says it once.
  raise notice using
    message = marketplace._change_in_words(p_control), errcode = 'ST014', hint = marketplace._change_hint(p_control);
end
$$;

comment on function marketplace._tell_of_change(marketplace.stripe_control) is
  'Tells a runner why it is given nothing to do.';
