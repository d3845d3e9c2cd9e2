-- What lets history go: a record of this very transaction, and no setting that somebody could set.

create or replace function marketplace._describe_history(p_order_ids text[])
returns marketplace.prunings
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_described marketplace.prunings;
begin
  select
    count(*) filter (where h.source = 'transfer_status_log'),
    marketplace._lines_sha256(array_agg(h.line order by h.id) filter (where h.source = 'transfer_status_log')),
    count(*) filter (where h.source = 'transfer_attempts'),
    marketplace._lines_sha256(array_agg(h.line order by h.id) filter (where h.source = 'transfer_attempts'))
  into v_described.log_entries, v_described.log_sha256, v_described.attempts, v_described.attempts_sha256
  from marketplace._history_of(p_order_ids) as h;
  select min(l.logged_at), max(l.logged_at) into v_described.first_logged_at, v_described.last_logged_at
  from marketplace.seller_transfers as t
  inner join marketplace.transfer_status_log as l on l.transfer_id = t.id
  where t.order_id = any (p_order_ids);
  return v_described;
end
$$;

comment on function marketplace._describe_history(text[]) is 'Counts, times and digests of these orders'' history, as a record of its pruning has them.';

create or replace function marketplace._is_being_pruned(p_transfer_id bigint, p_log_id bigint)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Numbers of transactions come again in a restored copy; together with its beginning they do not.
  return exists (
    select
    from marketplace.transfer_status_log as o
    inner join marketplace.prunings as p on p.id = o.pruning_id
    where o.transfer_id = p_transfer_id and (p_log_id is null or o.id > p_log_id)
      and p.transaction_id = pg_current_xact_id() and p.began_at = now());
end
$$;

comment on function marketplace._is_being_pruned(bigint, bigint) is
  'True if this transaction has recorded a pruning and opened the transfer''s log anew for it, after that entry of the log.';

create or replace function marketplace.tg_records__match_pruning()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_lines text[] := array(select row_to_json(g)::text from gone as g order by g.id);
  v_sha256 text := marketplace._lines_sha256(v_lines);
begin
  if v_lines <> '{}' and not exists (
    select
    from marketplace.prunings as p
    where p.transaction_id = pg_current_xact_id() and p.began_at = now()
      and v_sha256 = case tg_table_name when 'transfer_attempts' then p.attempts_sha256 else p.log_sha256 end
  ) then
    raise exception 'DELETE of %.% is refused: it is not what a pruning has on record', tg_table_schema, tg_table_name
      using errcode = 'ST002',
            hint = 'Use prune_history(): it records what goes, to the byte.',
            schema = tg_table_schema, table = tg_table_name;
  end if;
  return null;
end
$$;

comment on function marketplace.tg_records__match_pruning() is
  'Refuses a DELETE of history that is not, to the byte, what this transaction has recorded as a pruning (ST002).';
