-- History that may be shed: which, in what words, and what lets it go.
--
-- Only log and attempts. What "never twice" rests on stays: the rows with their keys, tokens and evidence, the requests
-- and their lines, the refunds and disputes, and the inbox, for an event that was acted on is known by its id for ever
-- and an ignored one may be heard again. What the code reads of old attempts is of rows that are open, of the last
-- minutes, or an alarm; orders with any of these keep all of theirs.

create or replace function marketplace._youngest_history()
returns interval
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return interval '90 days';
end
$$;

comment on function marketplace._youngest_history() is
  'How old history has to be before it may be shed: longer than a seller''s balance is waited for (45 days) and than Stripe keeps events (30).';

create or replace function marketplace._prunable_orders(p_before timestamptz, p_limit integer)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_attended text[] := array(
    select distinct n.order_id from marketplace.needs_attention_full as n where n.order_id is not null);
  v_orders text[] := '{}'::text[];
  v_after bigint := 0;
  v_last bigint;
  v_batch bigint[];
begin
  -- From the log's old end on. What may not go yet stays there and is passed over each time.
  loop
    select max(e.id), array_agg(e.transfer_id) filter (where e.pruning_id is null and e.logged_at < p_before)
    into v_last, v_batch
    from (
      select l.id, l.transfer_id, l.pruning_id, l.logged_at
      from marketplace.transfer_status_log as l
      where l.id > v_after
      order by l.id
      limit 5000
    ) as e;
    exit when v_last is null;
    v_orders := v_orders || array(
      select t.order_id
      from marketplace.seller_transfers as t
      where t.id = any (v_batch) and t.order_id <> all (v_orders)
        and not exists (select from unnest(v_attended) as n (order_id) where n.order_id = t.order_id)
      group by t.order_id
      having marketplace._is_order_over(t.order_id, p_before)
      order by min(t.id));
    exit when cardinality(v_orders) >= p_limit;
    v_after := v_last;
  end loop;
  return v_orders[1:p_limit];
end
$$;

comment on function marketplace._prunable_orders(timestamptz, integer) is
  'Up to p_limit orders, oldest first, of which nothing is open, nothing was heard since p_before, and nobody has to be told anything.';

create or replace function marketplace._is_order_over(p_order_id text, p_before timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return not exists (
    select
    from marketplace.seller_transfers as t
    where t.order_id = p_order_id and (
      t.status not in ('completed', 'reversed', 'permanently_failed')
      or t.updated_at >= p_before
      or exists (
        select from marketplace.transfer_status_log as l
        where l.transfer_id = t.id and l.pruning_id is null and l.logged_at >= p_before)
      or exists (
        select from marketplace.transfer_attempts as a
        where a.transfer_id = t.id
          and (a.finished_at >= p_before or a.verdict in ('moved_twice', 'late_success')))));
end
$$;

comment on function marketplace._is_order_over(text, timestamptz) is
  'True if each transfer of the order is paid or at its end, nothing happened to any since p_before, and none is known to have moved twice.';

create or replace function marketplace._history_of(p_order_ids text[])
returns table (source text, id bigint, line text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  return query
    select 'transfer_status_log', l.id, row_to_json(l)::text
    from marketplace.seller_transfers as t
    inner join marketplace.transfer_status_log as l on l.transfer_id = t.id
    where t.order_id = any (p_order_ids)
    union all
    select 'transfer_attempts', a.id, row_to_json(a)::text
    from marketplace.seller_transfers as t
    inner join marketplace.transfer_attempts as a on a.transfer_id = t.id
    where t.order_id = any (p_order_ids)
    order by 1 desc, 2;
end
$$;

comment on function marketplace._history_of(text[]) is
  'Log and attempts of these orders, a line of JSON for each row, times in UTC: the log first, each in the order of its ids.';

create or replace function marketplace._lines_sha256(p_lines text[])
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(sha256(convert_to(concat(
    array_to_string(p_lines, e'\n'), case when cardinality(p_lines) > 0 then e'\n' end), 'UTF8')), 'hex');
end
$$;

comment on function marketplace._lines_sha256(text[]) is 'SHA-256, in hex, of a file of these lines.';
