-- Old history leaves the database: exported first, whole orders at a time, and never without a record of it.

create or replace function marketplace._require_prunable(p_before timestamptz, p_limit integer)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_before is null then
    raise exception 'p_before is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass the moment before which all was over.', column = 'p_before';
  end if;
  if p_before > clock_timestamp() - marketplace._youngest_history() then
    raise exception 'p_before is %, which is too late', p_before
      using errcode = 'invalid_parameter_value',
            hint = format('Keep %s at least: reports, events and refunds of it may still come.', marketplace._youngest_history()),
            column = 'p_before';
  end if;
  perform marketplace._require_limit(p_limit);
end
$$;

comment on function marketplace._require_prunable(timestamptz, integer) is
  'Raises 22004 or 22023 for a moment that is too late and for a number of orders out of bounds.';

create or replace function marketplace._require_sha256(p_name text, p_value text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text(p_name, p_value);
  if p_value !~* '^[0-9a-f]{64}$' then
    raise exception '% is no SHA-256 in hex', p_name
      using errcode = 'invalid_parameter_value',
            hint = 'Pass the 64 digits that sha256sum prints for the exported file.', column = p_name;
  end if;
end
$$;

comment on function marketplace._require_sha256(text, text) is 'Raises 22004 or 22023 for anything but 64 hexadecimal digits.';

create or replace function marketplace.prunable_history(p_before timestamptz, p_limit integer default 1000)
returns table (source text, line text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_prunable(p_before, p_limit);
  return query
    select h.source, h.line
    from marketplace._history_of(marketplace._prunable_orders(p_before, p_limit)) as h;
end
$$;

comment on function marketplace.prunable_history(timestamptz, integer) is
  'What prune_history() of the same arguments would take, a line of JSON per row: for two files, by source (transfer_status_log, transfer_attempts), lines as they come.';

create or replace function marketplace.prune_history(
  p_before timestamptz, p_log_sha256 text, p_attempts_sha256 text, p_reason text, p_limit integer default 1000
)
returns setof marketplace.prunings
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
  v_orders text[];
  v_ids bigint[];
  v_bad record;
  v_new marketplace.prunings;
begin
  perform marketplace._require_prunable(p_before, p_limit);
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_sha256('p_log_sha256', p_log_sha256);
  perform marketplace._require_sha256('p_attempts_sha256', p_attempts_sha256);
  perform marketplace._require_read_committed();
  v_orders := marketplace._prunable_orders(p_before, p_limit);
  if v_orders = '{}' then
    return;
  end if;

  -- Who changes a row, logs or reports something of it holds it. From here on, what is there is what goes.
  perform from marketplace.seller_transfers as t where t.order_id = any (v_orders) order by t.id for no key update;
  v_ids := array(select t.id from marketplace.seller_transfers as t where t.order_id = any (v_orders));
  select v.* into v_bad from marketplace._verify_history(v_ids) as v limit 1;
  if found then
    raise exception 'the history of transfer % does not bear it out: %', v_bad.transfer_id, v_bad.problem
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'It is evidence, and is kept. See verify_log() for all there is; exclude nothing by hand.',
            schema = 'marketplace', table = 'transfer_status_log';
  end if;
  v_new := marketplace._describe_history(v_orders);
  if (v_new.log_sha256, v_new.attempts_sha256) is distinct from (lower(p_log_sha256), lower(p_attempts_sha256)) then
    raise exception 'what would go is not what was exported'
      using errcode = 'invalid_parameter_value',
            hint = 'Export prunable_history() again, with the same p_before and p_limit, and pass the SHA-256 of its two files.',
            column = case when v_new.log_sha256 <> lower(p_log_sha256) then 'p_log_sha256' else 'p_attempts_sha256' end;
  end if;

  insert into marketplace.prunings (
    reason, ended_before_at, orders, transfers, log_entries, log_sha256, first_logged_at, last_logged_at,
    attempts, attempts_sha256
  ) values (
    p_reason, p_before, cardinality(v_orders), cardinality(v_ids), v_new.log_entries, v_new.log_sha256,
    v_new.first_logged_at, v_new.last_logged_at, v_new.attempts, v_new.attempts_sha256
  )
  returning * into v_new;
  insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason, pruning_id)
  select t.id, t.status, t.status, left(format('pruning %s took what was before: %s', v_new.id, p_reason), 1000), v_new.id
  from marketplace.seller_transfers as t where t.id = any (v_ids) order by t.id;
  delete from marketplace.transfer_status_log as l
  where l.transfer_id = any (v_ids) and l.pruning_id is distinct from v_new.id;
  delete from marketplace.transfer_attempts as a where a.transfer_id = any (v_ids);
  return next v_new;
end
$$;

comment on function marketplace.prune_history(timestamptz, text, text, text, integer) is
  'Takes off log and attempts what prunable_history() of the same p_before and p_limit gave, if it is that to the byte and bears out its rows; returns its record. No row: there is nothing to take. The owner''s alone.';
