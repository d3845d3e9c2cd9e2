-- Reversals at Stripe that are no row's: made elsewhere and unheard of, or by this database in a history it has lost.
--
-- What rows say was reversed elsewhere is set against them. A reversal of ours that was lost may have been taken for
-- somebody else's meanwhile: then the sums agree, and there is nothing left to do.

create or replace function marketplace._compare_sums(p_run marketplace.reconcile_runs)
returns setof marketplace.reconcile_difference
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with listed as materialized (
    select
      (l.it).stripe_transfer_id as id,
      coalesce(sum((l.it).amount) filter (where l.is_live), 0)::bigint as live,
      coalesce(sum((l.it).amount) filter (where (l.it).status = 'pending'), 0)::bigint as pending,
      array_agg(l.it order by (l.it).created_at, (l.it).stripe_id) filter (where l.is_live and l.row_id is null) as strange
    from marketplace._listed_reversals(p_run) as l
    group by (l.it).stripe_transfer_id
  ), sums as materialized (
    select o, s.transfer_id, s.order_id, coalesce(s.elsewhere, 0) as elsewhere, s.elsewhere_at,
      coalesce(s.evidence, 0) as evidence, coalesce(l.live, 0) as live, coalesce(l.pending, 0) as pending,
      coalesce(l.strange, '{}') as strange
    from marketplace.reconcile_objects as o
    left join marketplace._stands() as s on s.stripe_transfer_id = o.stripe_id
    left join listed as l on l.id = o.stripe_id
    where o.run_id = p_run.id and o.object = 'transfer'
  )
  select
    'unclear', false, false, u.transfer_id, coalesce(u.order_id, (u.o).order_id), (u.o).stripe_id, null::text,
    null::bigint, (u.o).amount_reversed, (u.o).currency,
    format('Stripe says that %s of it are reversed, and lists reversals of %s.',
      marketplace._amount_in_words((u.o).amount_reversed, (u.o).currency),
      marketplace._amount_in_words(u.live, (u.o).currency)),
    'Run seller-transfers reconcile again; if it stays so, ask Stripe.'
  from sums as u
  -- Whether Stripe counts what is pending is not documented.
  where (u.o).amount_reversed not in (u.live, u.live - u.pending)
  union all
  select d.*
  from sums as u
  cross join lateral marketplace._compare_strange(
    p_run, u.o, u.transfer_id, u.order_id, u.elsewhere, u.elsewhere_at, u.evidence, u.strange) as d
  where u.strange <> '{}' or u.elsewhere > 0
$$;

comment on function marketplace._compare_sums(marketplace.reconcile_runs) is
  'What is reversed of each transfer at Stripe, against what its rows say of it.';

create or replace function marketplace._compare_strange(
  p_run marketplace.reconcile_runs, p_object marketplace.reconcile_objects, p_transfer_id bigint, p_order_id text,
  p_elsewhere bigint, p_elsewhere_at timestamptz, p_evidence bigint, p_strange marketplace.reconcile_objects[]
)
returns setof marketplace.reconcile_difference
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_looks_first boolean := (select c.look_up_first_since is not null from marketplace.stripe_control as c);
  v_sum bigint := (select coalesce(sum(s.amount), 0) from unnest(p_strange) as s);
  v_open bigint := v_sum - p_elsewhere - p_evidence;
  v_old bigint;
  v_given_up bigint;
  v_each marketplace.reconcile_objects;
begin
  -- What came to be known later need not be on the list.
  if v_sum < p_elsewhere and p_elsewhere_at < p_object.read_since then
    return next (
      'not reversed', true, false, p_transfer_id, p_order_id, p_object.stripe_id, null::text,
      p_elsewhere, v_sum, p_object.currency,
      format('The rows say that %s of it were taken back elsewhere; at Stripe it is %s.',
        marketplace._amount_in_words(p_elsewhere, p_object.currency),
        marketplace._amount_in_words(v_sum, p_object.currency)),
      'Take back at Stripe, by a reversal, what was not.')::marketplace.reconcile_difference;
  end if;
  if v_open <= 0 then
    return;
  end if;

  for v_each in select s.* from unnest(p_strange) as s loop
    if marketplace._reversed_for(v_each) = 'ours' then
      return next (
        'lost reversal', not v_looks_first, false, p_transfer_id, coalesce(p_order_id, v_each.order_id),
        p_object.stripe_id, v_each.stripe_id, null::bigint, v_each.amount, v_each.currency,
        format('It was taken back by this database for %s, and there is no row for it. The app had better ask again as it did.',
          coalesce(v_each.reversal_request_id, 'a request that is not known')),
        marketplace._lost_reversal_step(v_each))::marketplace.reconcile_difference;
    elsif marketplace._reversed_for(v_each) = 'another' and p_transfer_id is not null then
      return next (
        'another database', true, true, p_transfer_id, p_order_id, p_object.stripe_id, v_each.stripe_id,
        null::bigint, v_each.amount, v_each.currency,
        format('Another database takes back what this one has paid: it calls itself %s.',
          substring(v_each.identity from '[0-9a-f-]{36}')),
        format('Stop the other database; then select * from marketplace.look_up_differences(p_run_id => %s, p_reason => ''…'');',
          p_run.id))::marketplace.reconcile_difference;
    end if;
  end loop;

  -- Events tell of what somebody else did, and take a while.
  select coalesce(sum(s.amount), 0) into v_old from unnest(p_strange) as s
  where marketplace._reversed_for(s) is null and s.created_at < p_run.started_at - interval '15 minutes';
  if p_transfer_id is not null and v_old > 0 then
    -- Nothing is taken from what was given up: a person lets that go on, and it is found.
    select min(t.id) into v_given_up
    from marketplace._rows_of_stripe_transfer(p_object.stripe_id) as t
    where t.status = 'permanently_failed' and not marketplace._is_followed(t.id) and not exists (
      select from marketplace._rows_of_stripe_transfer(p_object.stripe_id) as c where c.status = 'completed');
    return next (
      'reversed elsewhere', false, false, p_transfer_id, p_order_id, p_object.stripe_id, null::text,
      p_elsewhere, v_sum, p_object.currency,
      format('Somebody has taken %s of it back at Stripe, and the rows do not know of %s.',
        marketplace._amount_in_words(v_sum, p_object.currency),
        marketplace._amount_in_words(least(v_open, v_old), p_object.currency)),
      case
        when v_given_up is not null
          then format('select id, status from marketplace.reopen(p_id => %s, p_reason => ''…'');', v_given_up)
        else format('select * from marketplace.look_up_differences(p_run_id => %s, p_reason => ''…'');', p_run.id)
      end
    )::marketplace.reconcile_difference;
  end if;
end
$$;

comment on function marketplace._compare_strange(
  marketplace.reconcile_runs, marketplace.reconcile_objects, bigint, text, bigint, timestamptz, bigint,
  marketplace.reconcile_objects[]
) is 'What differs for one transfer between its live reversals that are no row''s and what its rows say was reversed elsewhere.';
