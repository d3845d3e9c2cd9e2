-- What ends the waiting of a database that was restored or cloned, and the look-ups first of one that lost commits.

create or replace function marketplace.require_reconcile(p_reason text, p_lost_since timestamptz)
returns setof marketplace.stripe_control
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  if p_lost_since is null or p_lost_since > clock_timestamp() or not isfinite(p_lost_since) then
    raise exception 'p_lost_since is %', coalesce(p_lost_since::text, 'missing')
      using errcode = case when p_lost_since is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass when the copy was made that this database comes from; rather too early.',
            column = 'p_lost_since';
  end if;
  perform from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  perform marketplace._lose_commits(p_lost_since, v_now);
  perform marketplace._need_reconcile('reconcile needed by person', p_reason, v_now);
  return query select c.* from marketplace.stripe_control as c;
end
$$;

comment on function marketplace.require_reconcile(text, timestamptz) is
  'Says that this database comes from a copy made at p_lost_since, which it cannot tell by itself if it is a copy of the disk: no call is made until seller-transfers reconcile has compared it with Stripe.';

create or replace function marketplace._reconciled(p_now timestamptz, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from marketplace.stripe_control for no key update;
  perform marketplace._pin_database('reconciled', p_reason);
  -- What is open is looked up before anything is sent for it, and nothing is sent for two leases yet.
  update marketplace.stripe_control
  set
    reconcile_needed_since = null, reconcile_reason = null, reconciled_at = p_now,
    look_up_first_since = greatest(look_up_first_since, p_now);
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._reconciled(timestamptz, text) is
  'Lets calls be made again, by the database that this is now: look-ups first, after the silence that follows a failover.';

create or replace function marketplace._end_look_up_first(p_compared_since timestamptz)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_since timestamptz := (select c.look_up_first_since from marketplace.stripe_control as c);
begin
  -- A comparison begun before then has not seen all that may arrive.
  if p_compared_since < marketplace._lost_until() then
    return false;
  end if;
  -- What nobody has looked at since stays in doubt, by itself and no longer by the database.
  perform t.id from marketplace.seller_transfers as t
  where t.status in ('pending', 'failed', 'reversal_pending') and coalesce(t.call_absent_at <= v_since, true)
  order by t.id for no key update;
  perform from marketplace.stripe_control as c
  where c.look_up_first_since = v_since and c.reconcile_needed_since is null for no key update;
  if not found then
    return false;
  end if;
  update marketplace.seller_transfers
  set
    call_unknown = true, call_absent_at = null,
    call_last_sent_at = greatest(call_last_sent_at, v_since)
  where status in ('pending', 'failed', 'reversal_pending') and coalesce(call_absent_at <= v_since, true);
  insert into marketplace.stripe_control_log (change, reason)
  values ('look-ups as usual by reconcile', format(
    'compared with Stripe after %s; what was lost since %s is known',
    p_compared_since, coalesce(
      (select c.lost_since from marketplace.stripe_control as c)::text, 'a day before ' || v_since)));
  update marketplace.stripe_control set look_up_first_since = null, lost_since = null;
  return true;
end
$$;

comment on function marketplace._end_look_up_first(timestamptz) is
  'Ends the look-ups first, unless it is too early or the database is to be reconciled: false. Only for who has compared everything with Stripe from p_compared_since on, and found no obligation of ours there without its row here: one that is asked for again would be sent without a look.';
