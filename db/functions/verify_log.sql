-- Does the history bear the present out? The log is replayed against the rows, the attempts against both.
--
-- All is asked set-wise, and nothing is written, so a standby can answer. What cannot be seen: a note (from = to)
-- that somebody removed, for nothing follows from it, and a history that was forged as a whole.

create or replace function marketplace.verify_log()
returns table (transfer_id bigint, log_id bigint, attempt_id bigint, problem text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select v.* from marketplace._verify_history(null) as v;
end
$$;

comment on function marketplace.verify_log() is
  'Replays transfer_status_log against seller_transfers, and checks transfer_attempts against both: one row per thing that does not fit, none if all is well. Reads everything; writes nothing.';

create or replace function marketplace._verify_history(p_transfer_ids bigint[])
returns table (transfer_id bigint, log_id bigint, attempt_id bigint, problem text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select r.transfer_id, r.log_id, null::bigint, r.problem from marketplace._replay_log(p_transfer_ids) as r
    union all
    select r.transfer_id, null, null, r.problem from marketplace._verify_rows(p_transfer_ids) as r
    union all
    select a.transfer_id, null, a.attempt_id, a.problem from marketplace._verify_attempts(p_transfer_ids) as a
    union all
    select null, null, null, format(
      'pruning %s took %s transfers, and %s have an entry that says so', p.id, p.transfers, o.opened)
    from marketplace.prunings as p
    inner join (
      select l.pruning_id, count(*) as opened
      from marketplace.transfer_status_log as l
      where l.pruning_id is not null
      group by l.pruning_id
    ) as o on o.pruning_id = p.id
    where p_transfer_ids is null and o.opened > p.transfers;
end
$$;

comment on function marketplace._verify_history(bigint[]) is
  'verify_log() of these transfers, which must be whole orders; null: of all there are.';

create or replace function marketplace._clock_step()
returns interval
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return interval '1 hour';
end
$$;

comment on function marketplace._clock_step() is
  'How far the database''s clock may be set back, or differ after a failover: within it, later entries may bear earlier times.';

create or replace function marketplace._replay_log(p_transfer_ids bigint[])
returns table (transfer_id bigint, log_id bigint, problem text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- Planned for its argument: all of the log is read in order, the log of a few transfers by its index.
set plan_cache_mode = force_custom_plan
as $$
declare
  -- The matrix, asked once for each pair instead of once for each entry.
  v_steps text[] := array(
    select concat(f.status, '>', t.status)
    from unnest(marketplace._statuses()) as f (status)
    cross join unnest(marketplace._statuses()) as t (status)
    where marketplace.can_transition_transfer_status(f.status, t.status));
  v_latest timestamptz := clock_timestamp() + marketplace._clock_step();
  v_step interval := marketplace._clock_step();
begin
  return query
    with entries as (
      select
        l.id, l.transfer_id, l.from_status, l.to_status, l.logged_at, l.pruning_id,
        lag(l.id) over w is null as is_first, lead(l.id) over w is null as is_last,
        lag(l.to_status) over w as was, lag(l.logged_at) over w as was_at
      from marketplace.transfer_status_log as l
      where p_transfer_ids is null or l.transfer_id = any (p_transfer_ids)
      window w as (partition by l.transfer_id order by l.id)
    ),
    judged as (
      select
        e.id, e.transfer_id,
        case
          -- What came before is in the pruning's export: it may only have ended where this begins.
          when e.pruning_id is not null then case
            when not e.is_first then format('pruning %s left entries before it', e.pruning_id)
            when e.from_status is distinct from e.to_status then format('pruning %s changed the status', e.pruning_id)
          end
          when e.is_first and e.from_status is not null
            then format('the log begins with %s instead of a birth', e.from_status)
          when e.is_first and e.to_status not in ('pending', 'completed') then format('born %s', e.to_status)
          when e.is_first then null
          when e.from_status is null then 'born a second time'
          when e.from_status <> e.was then format('goes on from %s, but was %s', e.from_status, e.was)
          when not coalesce(concat(e.from_status, '>', e.to_status) = any (v_steps), false)
            then format('cannot go from %s to %s', e.from_status, e.to_status)
        end as broken,
        case
          when e.logged_at > v_latest then format('logged in the future, at %s', e.logged_at)
          when e.logged_at < e.was_at - v_step
            then format('logged %s before the entry that it follows', e.was_at - e.logged_at)
        end as untimely,
        case
          when not e.is_last then null
          when t.id is null then 'there is no such transfer'
          when t.status <> e.to_status then format('the row is %s, the log ends with %s', t.status, e.to_status)
        end as unlike
      from entries as e
      left join marketplace.seller_transfers as t on t.id = e.transfer_id
    )
    select j.transfer_id, j.id, f.problem
    from judged as j
    cross join lateral (values (j.broken), (j.untimely), (j.unlike)) as f (problem)
    where coalesce(j.broken, j.untimely, j.unlike) is not null and f.problem is not null;
end
$$;

comment on function marketplace._replay_log(bigint[]) is
  'Entries of the log that do not follow from the ones before, and last ones that are not what the row says. Ids give the order: entries of a row are written under its lock.';
