-- The rate budget as a person sets and sees it; rate_budget.sql is how it works.

create or replace function marketplace.set_stripe_rate(
  p_per_second numeric, p_reason text, p_burst integer default null
)
returns setof marketplace.stripe_control
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
  v_now timestamptz;
  v_rate numeric := round(p_per_second, 3);
  v_burst integer;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  if p_per_second not between 0.1 and 1000 then
    raise exception 'p_per_second is %', left(p_per_second::text, 60)
      using errcode = 'invalid_parameter_value',
            hint = 'Pass 0.1 to 1000 calls a second, or null for no limit; Stripe takes 25 a second.',
            column = 'p_per_second';
  end if;
  if p_burst not between 1 and 1000 then
    raise exception 'p_burst is %', p_burst
      using errcode = 'invalid_parameter_value',
            hint = 'Pass 1 to 1000 calls, or nothing to leave it as it is.', column = 'p_burst';
  end if;

  select * into strict v_control from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  v_burst := coalesce(p_burst, v_control.burst);
  insert into marketplace.stripe_control_log (change, reason)
  values ('rate set by person', left(format(
    '%s, burst %s: %s', coalesce(trim_scale(v_rate) || ' calls a second', 'no limit'), v_burst, p_reason), 1000));
  perform pg_notify('seller_transfers_due', '');
  return query
    update marketplace.stripe_control
    set
      rate = v_rate, burst = v_burst,
      tokens = least(marketplace._tokens_now(v_control, v_now), v_burst), tokens_at = v_now,
      cut_rate = null, cut_at = null
    returning *;
end
$$;

comment on function marketplace.set_stripe_rate(numeric, text, integer) is
  'Sets how many Stripe calls a second all runners together may make (null: any number) and how many at once. Counts from the next claim; what Stripe turned down is forgotten.';

create or replace view marketplace.rate_budget as
select
  c.rate,
  c.burst,
  marketplace._rate_at(c, n.now) as rate_now,
  floor(marketplace._tokens_now(c, n.now))::integer as tokens,
  c.cut_at as turned_down_at,
  l.reason as turned_down_reason
from marketplace.stripe_control as c
cross join (select clock_timestamp() as now) as n
left join lateral (
  select g.reason from marketplace.stripe_control_log as g
  where c.cut_at is not null and g.change = 'rate turned down'
  order by g.id desc
  limit 1
) as l on true;

comment on view marketplace.rate_budget is 'One row: how many Stripe calls all runners together may make. In psql, with \x.';
comment on column marketplace.rate_budget.rate is 'Calls a second, as set; null: any number.';
comment on column marketplace.rate_budget.burst is 'Calls at once.';
comment on column marketplace.rate_budget.rate_now is 'Calls a second now: less than rate after Stripe said that it was too much.';
comment on column marketplace.rate_budget.tokens is 'Calls that could be made this instant; null: any number.';
comment on column marketplace.rate_budget.turned_down_at is 'When it was last turned down; null: not since it was set.';
comment on column marketplace.rate_budget.turned_down_reason is 'Why, in words.';

create or replace function marketplace.read_rate_budget()
returns setof marketplace.rate_budget
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select b.* from marketplace.rate_budget as b
$$;

comment on function marketplace.read_rate_budget() is 'The view rate_budget, for programs: they call functions only.';
