-- Acting on what a run found, where a look-up can tell what is right: as if Stripe had told of it by an event just now.
--
-- Nothing is believed and nothing is sent: rows are looked up, and what is found there is adopted by the usual rules.
-- So a run that is hours old does no harm.

create or replace function marketplace.look_up_differences(p_run_id bigint, p_reason text, p_limit integer default 1000)
returns table (stripe_transfer_id text, result text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found record;
  v_before text;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_limit(p_limit);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  if not (marketplace._lock_run(p_run_id)).is_complete then
    raise exception 'run % is not complete', p_run_id
      using errcode = 'ST012', hint = 'Run seller-transfers reconcile to its end.',
            column = 'p_run_id';
  end if;
  v_before := marketplace._give_reason(format('compared with Stripe by %s: %s', session_user, p_reason));
  -- By order, like all that takes the locks of several.
  for v_found in
    select f.stripe_transfer_id as id, min(f.transfer_id) as transfer_id,
      bool_or(f.kind = 'paid unheard') as is_payment,
      bool_or(f.kind in ('lost transfer', 'lost reversal')) as is_lost
    from marketplace.reconcile_findings as f
    inner join marketplace.seller_transfers as t on t.id = f.transfer_id
    where f.run_id = p_run_id
    group by f.stripe_transfer_id
    having bool_or(f.kind in ('paid unheard', 'reversed unheard', 'reversed elsewhere', 'another database'))
    order by min(t.order_id) collate "C", 1
    limit p_limit
  loop
    stripe_transfer_id := v_found.id;
    if v_found.is_lost then
      -- What is ours and was lost would be taken for somebody else's.
      result := 'left: ask again first for what was lost of it';
    else
      result := marketplace._look_up_difference(p_run_id, v_found.id, v_found.transfer_id, v_found.is_payment);
    end if;
    return next;
  end loop;
  perform marketplace._give_reason(v_before);
end
$$;

comment on function marketplace.look_up_differences(bigint, text, integer) is
  'Has the rows looked up that a run found paid, or taken back, at Stripe without knowing; says for each transfer there what it came to. The reason is logged.';

create or replace function marketplace._look_up_difference(
  p_run_id bigint, p_stripe_transfer_id text, p_transfer_id bigint, p_is_payment boolean
)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers := marketplace._lock_order_of(p_transfer_id);
  v_transfer jsonb := marketplace._as_event(p_run_id, p_stripe_transfer_id);
  v_result text;
begin
  if v_transfer is null then
    return 'nothing to do: a later run has cleared what Stripe listed';
  end if;
  v_result := case when p_is_payment then marketplace._note_transfer_created(v_transfer)
    else marketplace._note_transfer_reversed(v_transfer) end;
  perform marketplace._note_follower(v_row, v_result);
  return v_result;
exception
  when sqlstate 'ST010' then
    return sqlerrm;
end
$$;

comment on function marketplace._look_up_difference(bigint, text, bigint, boolean) is
  'Acts on one transfer at Stripe as on an event of it; in words what it came to.';

create or replace function marketplace._as_event(p_run_id bigint, p_stripe_transfer_id text)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select jsonb_build_object(
      'id', o.stripe_id, 'object', 'transfer', 'amount', o.amount, 'amount_reversed', o.amount_reversed,
      'metadata', jsonb_build_object('seller_transfers_identity', o.identity, 'transfer_key', o.transfer_key),
      'reversals', jsonb_build_object('data', coalesce((
        select jsonb_agg(jsonb_build_object(
          'id', r.stripe_id, 'amount', r.amount, 'status', r.status,
          'metadata', jsonb_build_object('seller_transfers_identity', r.identity)))
        from marketplace.reconcile_objects as r
        where r.run_id = p_run_id and r.stripe_transfer_id = o.stripe_id and r.object = 'transfer_reversal'), '[]')))
    from marketplace.reconcile_objects as o
    where o.run_id = p_run_id and o.stripe_id = p_stripe_transfer_id);
end
$$;

comment on function marketplace._as_event(bigint, text) is
  'A transfer at Stripe with its reversals, as a run has read it, in the shape that an event has.';
