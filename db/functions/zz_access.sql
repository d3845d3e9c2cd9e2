-- Who may do what: all of it is here. Whatever is not given here, nobody but the owner has.
--
-- The file is loaded last, so it finds all there is. Whoever may triage may read; no other group has what another has.
-- Tables are the owner's: functions run with its rights (SECURITY DEFINER), and so do views.

revoke all on all functions in schema marketplace
from public, marketplace_app, marketplace_runner, marketplace_triage, marketplace_readonly cascade;
revoke all on all tables in schema marketplace
from public, marketplace_app, marketplace_runner, marketplace_triage, marketplace_readonly cascade;
revoke all on all sequences in schema marketplace
from public, marketplace_app, marketplace_runner, marketplace_triage, marketplace_readonly cascade;
revoke all on schema marketplace
from public, marketplace_app, marketplace_runner, marketplace_triage, marketplace_readonly cascade;
grant usage on schema marketplace to marketplace_app, marketplace_runner, marketplace_triage, marketplace_readonly;

do $$
declare
  v_grant record;
begin
  for v_grant in
    select g.routine, string_agg('marketplace_' || r.role, ', ' order by r.role) as roles
    from (values
      -- The marketplace's app: payouts, refunds, what Stripe tells its webhook.
      ('create_transfer', array['app']),
      ('record_completed_transfer', array['app', 'triage']),
      ('request_reversal', array['app', 'triage']),
      ('withdraw_reversal_request', array['app', 'triage']),
      ('note_charge', array['app', 'triage']),
      ('note_reinstated', array['app', 'triage']),
      -- The webhook and catch-up.
      ('acted_event_types', array['app', 'runner']),
      ('ingest_stripe_event', array['app', 'runner']),
      ('retry_events', array['app', 'runner', 'triage']),
      -- Runners.
      ('register_runner', array['runner']),
      ('claim_due_reversals', array['runner']),
      ('claim_due_transfers', array['runner']),
      ('record_reversal_outcomes', array['runner']),
      ('record_transfer_outcomes', array['runner']),
      ('next_due_in', array['runner', 'readonly']),
      -- seller-transfers reconcile: whoever runs it may look, and people end what waits for it.
      ('start_reconcile', array['runner', 'triage']),
      ('pay_for_read', array['runner', 'triage']),
      ('keep_listed_objects', array['runner', 'triage']),
      ('transfers_to_reread', array['runner', 'triage']),
      ('finish_reconcile', array['runner', 'triage']),
      ('read_reconcile_run', array['runner', 'readonly']),
      ('reconcile_differences', array['runner', 'readonly']),
      ('look_up_differences', array['triage']),
      ('resume_after_reconcile', array['triage']),
      -- People who mend things.
      ('add_note', array['triage']),
      ('dismiss', array['triage']),
      ('forget_runners', array['triage']),
      ('give_up', array['triage']),
      ('look_up_first', array['triage']),
      ('mark_paid', array['triage']),
      ('mark_reversed', array['triage']),
      ('pause_stripe_calls', array['triage']),
      ('remove_error_rule', array['triage']),
      ('require_reconcile', array['triage']),
      ('reopen', array['triage']),
      ('resume_stripe_calls', array['triage']),
      ('retry_now', array['triage']),
      ('set_error_rule', array['triage']),
      ('set_refunds_by', array['app', 'triage']),
      ('set_retry_policy', array['triage']),
      ('set_stripe_rate', array['triage']),
      ('trust_database_identity', array['triage']),
      -- Who looks, and what every program asks at its start.
      ('can_transition_transfer_status', array['app', 'runner', 'readonly']),
      ('classify_stripe_outcome', array['readonly']),
      ('format_amount', array['readonly']),
      ('function_sources', array['readonly']),
      ('read_clock', array['readonly']),
      ('read_kept_events', array['runner', 'readonly']),
      ('read_needs_attention', array['readonly']),
      ('read_open_reversals', array['readonly']),
      ('read_open_transfers', array['readonly']),
      ('read_queue_health', array['runner', 'readonly']),
      ('read_rate_budget', array['readonly']),
      ('read_runner_health', array['readonly']),
      ('read_transfer_totals', array['readonly']),
      ('schema_state', array['app', 'runner', 'readonly']),
      ('self_check', array['readonly']),
      ('server_check', array['readonly']),
      ('verify_log', array['readonly']),
      -- What views call is called with the reader's rights.
      ('_call_in_words', array['readonly']),
      ('_change_hint', array['readonly']),
      ('_change_in_words', array['readonly']),
      ('_coming_action', array['readonly']),
      ('_is_in_flight', array['readonly']),
      ('_is_seen', array['readonly']),
      ('_is_seen_paid', array['readonly']),
      ('_kept_since', array['readonly']),
      ('_may_come_free', array['readonly']),
      ('_rate_at', array['readonly']),
      ('_reason_open', array['readonly']),
      ('_tokens_now', array['readonly']),
      ('_waits_for', array['readonly']),
      ('_wrapped', array['readonly'])
    ) as g (routine, roles)
    cross join lateral unnest(g.roles) as r (role)
    group by g.routine
  loop
    execute format('grant execute on function marketplace.%I to %s', v_grant.routine, v_grant.roles);
  end loop;
  for v_grant in
    select c.relname as relation
    from pg_catalog.pg_class as c
    where c.relnamespace = 'marketplace'::regnamespace and c.relkind = 'v'
  loop
    execute format('grant select on marketplace.%I to marketplace_readonly', v_grant.relation);
  end loop;
end
$$;

-- Records may be read as they are, for triage and finance; what Stripe told word for word may not: buyers are in it.
grant select on
  marketplace.charges, marketplace.currencies, marketplace.dismissals, marketplace.migration_files,
  marketplace.prunings, marketplace.reconcile_findings, marketplace.reconcile_objects, marketplace.reconcile_runs,
  marketplace.retry_policy, marketplace.reversal_request_lines, marketplace.reversal_requests, marketplace.runners,
  marketplace.schema_functions, marketplace.schema_release, marketplace.seller_transfers, marketplace.stripe_control,
  marketplace.stripe_control_log, marketplace.stripe_disputes, marketplace.stripe_error_rules,
  marketplace.stripe_refunds, marketplace.transfer_attempts, marketplace.transfer_status_log
to marketplace_readonly;
grant select (
  event_id, type, livemode, account, created_at, received_at, raw_sha256, object_id, charge_id, payment_intent, state,
  detail, next_step, order_id, attempts, last_tried_at, kept_at
) on marketplace.stripe_events to marketplace_readonly;

-- What self_check() has to see, where whoever migrates may give it: since when sessions are in a transaction, whatever
-- role they have; and the lock of yoyo, which is its own table.
do $$
declare
  v_command text;
begin
  for v_command in
    select 'grant pg_read_all_stats to marketplace_owner'
    where not pg_has_role('marketplace_owner', 'pg_read_all_stats', 'usage')
    union all
    select format('grant select on %s to marketplace_owner', c.oid::regclass)
    from pg_catalog.pg_class as c
    where c.relname = 'yoyo_lock' and c.relkind = 'r' and c.relpersistence <> 't' and pg_has_role(c.relowner, 'usage')
      and pg_has_role(c.relowner, 'marketplace_owner', 'member')
  loop
    begin
      execute v_command;
    exception when insufficient_privilege then null;
    end;
  end loop;
end
$$;
