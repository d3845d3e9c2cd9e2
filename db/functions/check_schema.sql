-- What self_check() asks about the schema itself: its constraints, triggers, indexes and sequences.

create or replace function marketplace._check_schema()
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    -- Those that a migration of its own builds, migrate builds anew; the others came with their tables.
    with wanted (index, is_built_apart) as (
      select v.index, true
      from (values
        ('idx_seller_transfers_retry'), ('idx_seller_transfers_reversal_pending'), ('idx_seller_transfers_pending'),
        ('idx_seller_transfers_parked'), ('idx_transfer_attempts_alarming'),
        ('idx_seller_transfers_family'), ('idx_seller_transfers_stripe_transfer_id'),
        ('idx_seller_transfers_successor_of'), ('idx_seller_transfers_compensates'),
        ('idx_seller_transfers_made_for'), ('idx_seller_transfers_successor_transfer'),
        ('idx_seller_transfers_source_charge'), ('idx_seller_transfers_given_up'),
        ('idx_seller_transfers_without_transfer_id'), ('idx_reversal_request_lines_unmet'),
        ('idx_stripe_events_unheard'), ('idx_stripe_events_order'), ('idx_stripe_events_acted_on'),
        ('idx_stripe_events_payment'),
        ('idx_reversal_requests_asked_for')
      ) as v (index)
      union all
      select v.index, false
      from (values
        ('idx_seller_transfers_order'), ('idx_stripe_events_kept'), ('idx_stripe_events_charge')
      ) as v (index)
    )
    select
      'constraint not valid', format('%s on %s', k.conname, k.conrelid::regclass),
      case k.conname
        when 'chk_reversal_pending_has_next_retry_at' then (
          select format('rows %s%s have no next_retry_at',
            string_agg(t.id::text, ', ' order by t.id) filter (where t.n <= 20), case when max(t.n) > 20 then ' and more' end)
          from (
            select s.id, row_number() over (order by s.id) as n from marketplace.seller_transfers as s
            where s.status = 'reversal_pending' and s.next_retry_at is null order by s.id limit 21
          ) as t
          having count(*) > 0)
      end,
      'Mend the rows that break it, then run seller-transfers migrate.'
    from pg_catalog.pg_constraint as k
    where k.connamespace = 'marketplace'::regnamespace and not k.convalidated
    union all
    select 'trigger not ENABLE ALWAYS', format('%s on %s', g.tgname, g.tgrelid::regclass), null,
      format('alter table %s enable always trigger %I;', g.tgrelid::regclass, g.tgname)
    from pg_catalog.pg_trigger as g
    inner join pg_catalog.pg_class as c on c.oid = g.tgrelid
    where c.relnamespace = 'marketplace'::regnamespace and not g.tgisinternal and g.tgenabled <> 'A'
    union all
    select 'guard missing', format('%s on marketplace.%s', g.guard, g.relation), null,
      'Bind it again as the last migration that made it does.'
    from marketplace._missing_guards() as g
    union all
    select 'index not valid', i.indexrelid::regclass::text, null,
      case when w.is_built_apart then 'Run seller-transfers migrate: it drops it and builds it anew.'
        else format('drop index %s;', i.indexrelid::regclass) end
    from pg_catalog.pg_index as i
    inner join pg_catalog.pg_class as c on c.oid = i.indexrelid
    left join wanted as w on w.index = c.relname
    where c.relnamespace = 'marketplace'::regnamespace and not i.indisvalid
    union all
    select 'constraint missing', format('%s on marketplace.seller_transfers', w.constraint_name), null,
      'Add it again as the migration that made it does.'
    from (values
      ('chk_slice_has_a_family'), ('chk_root_has_a_key'), ('chk_made_again_says_for_what'),
      ('chk_stripe_transfer_group_is_bounded'), ('chk_named_reversal_is_awaited'),
      ('chk_status_is_known'), ('chk_amount_is_positive'), ('chk_original_amount_is_bounded'),
      ('chk_ids_are_of_their_kind'), ('chk_texts_are_bounded'), ('chk_completed_at_says_paid'),
      ('chk_unpaid_has_no_stripe_transfer'), ('chk_reversal_has_a_request'), ('chk_reversed_has_evidence'),
      ('chk_stripe_reversal_belongs_to_a_reversal'), ('chk_permanently_failed_says_why'),
      ('chk_unsent_has_next_retry_at'), ('chk_settled_has_no_next_retry_at'), ('chk_settled_is_not_parked'),
      ('chk_settled_is_not_leased'), ('chk_end_is_known'), ('chk_times_are_finite'), ('chk_lease_is_whole'),
      ('chk_retry_count_is_not_negative'), ('chk_streak_is_whole'), ('chk_call_is_whole'),
      ('chk_open_has_a_call'), ('chk_reversal_has_a_part'), ('chk_reversal_pending_has_next_retry_at')
    ) as w (constraint_name)
    where not exists (
      select from pg_catalog.pg_constraint as k
      where k.conname = w.constraint_name and k.conrelid = to_regclass('marketplace.seller_transfers'))
    union all
    select 'quiet is short', 'marketplace.retry_policy', format('quiet is %s', p.quiet),
      'No request may arrive at Stripe later than that: set it to 10 minutes or more, 1 hour if you can.'
    from marketplace.retry_policy as p
    where p.verdict = 'unknown' and p.quiet < interval '10 minutes'
    union all
    select 'index missing', 'marketplace.' || w.index, null,
      case when w.is_built_apart then 'Run seller-transfers migrate: it builds it anew.'
        else 'Create it again as the migration that made it does.' end
    from wanted as w
    where to_regclass('marketplace.' || w.index) is null
    union all
    select s.problem, s.object, s.detail, s.hint from marketplace._check_sequences() as s;
end
$$;

comment on function marketplace._check_schema() is
  'Constraints, guards and indexes that are missing or not valid, serial numbers that come again; rows as of self_check.';

create or replace function marketplace._check_sequences()
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_sequence text;
  v_highest bigint;
  v_next bigint;
begin
  -- Rows that were brought in with their numbers leave the sequence behind; the next one would be refused.
  for v_table in
    select a.attrelid::regclass
    from pg_catalog.pg_attribute as a
    inner join pg_catalog.pg_class as c on c.oid = a.attrelid
    where c.relnamespace = 'marketplace'::regnamespace and c.relkind = 'r' and a.attname = 'id' and a.attidentity <> ''
    order by a.attrelid
  loop
    v_sequence := pg_get_serial_sequence(v_table::text, 'id');
    execute format('select max(t.id) from %s as t', v_table) into v_highest;
    execute format('select s.last_value + s.is_called::integer from %s as s', v_sequence) into v_next;
    if v_next <= v_highest then
      return query select 'sequence behind', v_sequence, format('the next id is %s, %s has %s', v_next, v_table, v_highest),
        format('select setval(%L, (select max(id) from %s));', v_sequence, v_table);
    end if;
  end loop;
end
$$;

comment on function marketplace._check_sequences() is 'Sequences of ids that have fallen behind their table; rows as of self_check.';
