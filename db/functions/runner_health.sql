-- Which runners there are: for people, and for `seller-transfers status`.

create or replace view marketplace.runner_health as
select
  r.worker,
  r.version,
  r.stripe_account,
  r.livemode,
  r.registered_at,
  r.last_seen_at,
  r.ended_at,
  r.ended_reason
from marketplace.runners as r
where r.last_seen_at > clock_timestamp() - interval '10 minutes' or r.ended_at > clock_timestamp() - interval '1 day';

comment on view marketplace.runner_health is 'The runners seen in the last ten minutes, and those whose registration ended within a day. In psql, with \x.';
comment on column marketplace.runner_health.worker is 'Its name.';
comment on column marketplace.runner_health.version is 'Release of the program.';
comment on column marketplace.runner_health.stripe_account is 'The account of its key; null if the key may not tell.';
comment on column marketplace.runner_health.livemode is 'Whether its key moves real money.';
comment on column marketplace.runner_health.registered_at is 'When it last registered.';
comment on column marketplace.runner_health.last_seen_at is 'When it last claimed, give or take ten seconds.';
comment on column marketplace.runner_health.ended_at is 'Since when it may not claim; null while it may.';
comment on column marketplace.runner_health.ended_reason is 'Why, in words.';

create or replace function marketplace.read_runner_health()
returns setof marketplace.runner_health
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select r.* from marketplace.runner_health as r order by r.worker
$$;

comment on function marketplace.read_runner_health() is 'The view runner_health, for programs: they call functions only.';

create or replace function marketplace.forget_runners(p_unseen_for interval, p_reason text)
returns setof marketplace.runners
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  if p_unseen_for is null or p_unseen_for < interval '1 hour' then
    raise exception 'p_unseen_for is %', coalesce(p_unseen_for::text, 'missing')
      using errcode = case when p_unseen_for is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass an hour or more: a runner that is forgotten while it runs has to register again.',
            column = 'p_unseen_for';
  end if;
  return query
    delete from marketplace.runners as r where r.last_seen_at < clock_timestamp() - p_unseen_for returning r.*;
end
$$;

comment on function marketplace.forget_runners(interval, text) is
  'Forgets the runners that have not claimed for that long, and returns them. Their leases lapse as they would.';
