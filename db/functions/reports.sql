-- One report of a worker's, read against its row.

create or replace function marketplace._rows_of_reports(p_outcomes marketplace.stripe_outcome[])
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- One plan for every report, however long: planned anew for each array it takes longer than it runs.
set plan_cache_mode = force_generic_plan
as $$
begin
  -- A row may be split, or taken for what a request could not have yet, and a family's sum is checked under its root's
  -- lock.
  return array(
    select o.id from unnest(p_outcomes) as o
    union
    select t.root_id
    from unnest(p_outcomes) as o
    inner join marketplace.seller_transfers as t on t.id = o.id
    where t.root_id is not null);
end
$$;

comment on function marketplace._rows_of_reports(marketplace.stripe_outcome[]) is 'The rows to lock, in id order, before these reports are applied.';

create or replace function marketplace._lock_orders_of(p_outcomes marketplace.stripe_outcome[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_order_id text;
begin
  -- What became of a row may move more of its order's money: slices, what a request could not take before, what is given
  -- back. In one order everywhere, or two batches could wait for each other.
  foreach v_order_id in array marketplace._sorted(array(
    select t.order_id from unnest(p_outcomes) as o
    inner join marketplace.seller_transfers as t on t.id = o.id))
  loop
    perform marketplace._lock_order(v_order_id);
  end loop;
end
$$;

comment on function marketplace._lock_orders_of(marketplace.stripe_outcome[]) is
  'Takes the locks of the orders that these reports are about.';

create or replace function marketplace._report_on(p_outcome marketplace.stripe_outcome, p_action text)
returns marketplace.stripe_outcome
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_outcome.action <> p_action then
    -- A worker that did something else than it was told: what it says is no answer to what was asked.
    p_outcome.error_message := format('The report is about %s, not %s.', p_outcome.action, p_action);
    p_outcome.action := p_action;
    p_outcome.sent := true;
    p_outcome.http_status := null;
    p_outcome.error_type := null;
    p_outcome.object := null;
    p_outcome.found := null;
  end if;
  return p_outcome;
end
$$;

comment on function marketplace._report_on(marketplace.stripe_outcome, text) is
  'The report, if it is about the action of the lease; otherwise one without facts.';

create or replace function marketplace._judge_report(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers, p_now timestamptz,
  out verdict text, out object_id text, out transfer_group text, out elsewhere bigint, out reversed bigint,
  out words text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_was_known boolean;
  v_was_asked boolean;
begin
  -- What is evidence for another row is asked before the write: one unique violation would refuse the whole batch.
  case p_outcome.action
    when 'reverse' then
      verdict := marketplace._reversal_verdict(p_outcome, p_row, exists (
        select from marketplace.seller_transfers as t
        where t.stripe_reversal_id = p_outcome.object ->> 'id' and t.id <> p_row.id));
      object_id := marketplace._read_text(p_outcome.object -> 'id', 255);
    when 'look_up_reversals' then
      select r.* into verdict, object_id, elsewhere, words
      from marketplace._read_look_up(p_outcome, p_row, p_now) as r;
    when 'send' then
      verdict := marketplace._send_verdict(p_outcome, p_row);
      object_id := marketplace._read_text(p_outcome.object -> 'id', 255);
      transfer_group := marketplace._read_text(p_outcome.object -> 'transfer_group', 255);
    when 'look_up_transfer' then
      select r.* into verdict, object_id, transfer_group, reversed, words
      from marketplace._read_transfer_look_up(p_outcome, p_row, p_now) as r;
  end case;
  if verdict <> 'not_found' or p_row.stripe_transfer_id is null or p_row.stripe_reversal_id is not null then
    return;
  end if;
  select
    bool_or(a.verdict not in ('unknown', 'unclear') or a.found_count is not null),
    bool_or(marketplace._moves_money(a.action))
  into v_was_known, v_was_asked
  from marketplace.transfer_attempts as a
  where a.transfer_id = p_row.id and a.kind = 'call' and a.http_status between 200 and 299;
  if v_was_known then
    -- Transfers do not vanish: where Stripe has known it, the key is another one now.
    verdict := 'configuration';
  elsif v_was_asked then
    -- What that answer was, nobody could read; money may have moved. No trouble of all calls, and no end of this row.
    verdict := case when marketplace._moves_money(p_outcome.action) then 'unknown' else 'mismatch' end;
    words := format(
      'mismatch: Stripe answered a request for %s with what could not be read, and does not know it now. %s',
      p_row.stripe_transfer_id, p_outcome.error_message);
  end if;
end
$$;

comment on function marketplace._judge_report(marketplace.stripe_outcome, marketplace.seller_transfers, timestamptz) is
  'Verdict on a report, as if it were applied to the row.';
