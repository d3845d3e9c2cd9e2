-- The triggers without which nothing is guarded.

create or replace function marketplace._missing_guards()
returns table (guard text, relation text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select w.guard, w.relation
    from (values
      ('_100_guard_transition', 'seller_transfers', 'tg_seller_transfers__guard_transition'),
      ('_200_guard_frozen', 'seller_transfers', 'tg_seller_transfers__guard_frozen'),
      ('_800_conserve_birth', 'seller_transfers', 'tg_seller_transfers__conserve_family'),
      ('_800_conserve_amount', 'seller_transfers', 'tg_seller_transfers__conserve_family'),
      ('_900_log_birth', 'seller_transfers', 'tg_seller_transfers__log_status'),
      ('_900_log_status', 'seller_transfers', 'tg_seller_transfers__log_status'),
      ('_100_refuse_delete', 'seller_transfers', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'seller_transfers', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'transfer_status_log', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'transfer_status_log', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'transfer_attempts', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'transfer_attempts', 'tg_records__refuse_change'),
      ('_900_match_pruning', 'transfer_status_log', 'tg_records__match_pruning'),
      ('_900_match_pruning', 'transfer_attempts', 'tg_records__match_pruning'),
      ('_100_refuse_change', 'prunings', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'prunings', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'reversal_requests', 'tg_records__refuse_change'),
      ('_100_refuse_delete', 'reversal_requests', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'reversal_requests', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'reversal_request_lines', 'tg_records__refuse_change'),
      ('_100_refuse_delete', 'reversal_request_lines', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'reversal_request_lines', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'stripe_control', 'tg_records__refuse_change'),
      ('_100_refuse_repinning', 'stripe_control', 'tg_records__refuse_change'),
      ('_100_refuse_delete', 'stripe_control', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'stripe_control', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'stripe_control_log', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'stripe_control_log', 'tg_records__refuse_change'),
      ('_100_refuse_delete', 'retry_policy', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'retry_policy', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'stripe_events', 'tg_records__refuse_change'),
      ('_100_refuse_delete', 'stripe_events', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'stripe_events', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'stripe_refunds', 'tg_records__refuse_change'),
      ('_100_refuse_delete', 'stripe_refunds', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'stripe_refunds', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'stripe_disputes', 'tg_records__refuse_change'),
      ('_100_refuse_delete', 'stripe_disputes', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'stripe_disputes', 'tg_records__refuse_change'),
      ('_100_refuse_change', 'dismissals', 'tg_records__refuse_change'),
      ('_100_refuse_truncate', 'dismissals', 'tg_records__refuse_change')
    ) as w (guard, relation, function)
    where not exists (
      select from pg_catalog.pg_trigger as g
      where g.tgname = w.guard and g.tgrelid = to_regclass('marketplace.' || w.relation)
        and g.tgfoid = to_regproc('marketplace.' || w.function));
end
$$;

comment on function marketplace._missing_guards() is 'The guards that are not bound as they should be; none if all is well.';
