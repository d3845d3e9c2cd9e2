-- A person decides that nothing more is tried for a row. What may have been made at Stripe is never given up.

create or replace function marketplace.give_up(p_id bigint, p_reason text)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_words text;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  v_row := marketplace._lock_order_of(p_id);
  perform marketplace._require_open(v_row);
  perform marketplace._require_not_made(v_row);

  v_words := marketplace._clean_text(format('Given up by %s: %s', session_user, p_reason), 1000);
  -- On its way through failed the row says the same.
  update marketplace.seller_transfers
  set status = 'failed', failure_code = 'given_up', failure_message = v_words
  where id = p_id and status = 'pending';
  perform marketplace._write_settled(marketplace._give_up_row(v_row, 'given_up', v_words));
  -- Where the request was withdrawn, or nobody asked, the money is the seller's again.
  perform marketplace._follow_up(p_id, clock_timestamp());
  return query select t.* from marketplace.seller_transfers as t where t.id = p_id;
end
$$;

comment on function marketplace.give_up(bigint, text) is
  'Ends an open transfer as permanently_failed, code given_up: it is not sent, or its money stays with the seller (seller_debts counts it on). The reason is logged; reopen() undoes it. Raises ST002 for a row that is not open, and while a request for it may have been executed, or may be.';

create or replace function marketplace._require_open(p_row marketplace.seller_transfers)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_hint text;
begin
  v_hint := case p_row.status
    when 'permanently_failed' then format(
      'It has ended, and stays as it is. reopen(p_id => %s, p_reason => ''…'') lets a successor go on with it.', p_row.id)
    when 'reversed' then
      'Its money is back. If its request fails after all, withdraw_reversal_request() pays it to the seller again.'
    when 'completed' then
      'It is paid, and nobody has asked for it back: request_reversal() does.'
  end;
  if v_hint is not null then
    raise exception 'transfer % is %: nothing is being tried', p_row.id, p_row.status
      using errcode = 'ST002', hint = v_hint,
            schema = 'marketplace', table = 'seller_transfers', column = 'status';
  end if;
end
$$;

comment on function marketplace._require_open(marketplace.seller_transfers) is
  'Raises ST002 for a row that is paid or at its end, with what can be done about it instead.';

create or replace function marketplace._require_not_made(p_row marketplace.seller_transfers)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_quiet_from timestamptz := marketplace._quiet_from(p_row);
  v_is_evidence boolean;
  v_hint text;
begin
  select coalesce(bool_or(r.is_evidence), false) into v_is_evidence
  from marketplace.reversal_requests as r where r.reversal_request_id = p_row.reversal_request_id;
  -- A key that was given out may have been sent: the refusal that takes it off the row, or a look-up claimed when
  -- nothing of it could arrive any more, proves that it has done nothing.
  if marketplace._is_certainly_not_made(p_row, v_is_evidence)
    and (p_row.call_params is null or coalesce(p_row.call_absent_at >= coalesce(v_quiet_from, '-infinity'), false)) then
    return;
  end if;
  -- It is parked for want of a decision only: in this history nothing was ever sent for it.
  if marketplace._is_held(p_row) and coalesce(p_row.call_absent_at >= coalesce(v_quiet_from, '-infinity'), false) then
    return;
  end if;

  v_hint := format('retry_now(p_id => %s, p_reason => ''…''), then wait for the look-up.', p_row.id);
  if p_row.lease_expires_at > clock_timestamp() then
    v_hint := format('Wait for the outcome of %s, until %s at most. If it is not known then: %s',
      p_row.leased_by, date_trunc('second', p_row.lease_expires_at), v_hint);
  elsif v_quiet_from > clock_timestamp() then
    -- A request may be under way until then.
    v_hint := format('%s; one before %s is too early.', rtrim(v_hint, '.'), date_trunc('second', v_quiet_from));
  end if;
  raise exception 'transfer %: what became of it at Stripe is not certain', p_row.id
    using errcode = 'ST002', hint = v_hint, schema = 'marketplace', table = 'seller_transfers',
          column = case
            when p_row.lease_token is not null then 'lease_token'
            when p_row.parked_reason is not null then 'parked_reason'
            when p_row.stripe_reversal_id is not null then 'stripe_reversal_id'
            when p_row.call_unknown then 'call_unknown'
            when p_row.named_reversal_id is not null then 'named_reversal_id'
            else 'call_absent_at'
          end;
end
$$;

comment on function marketplace._require_not_made(marketplace.seller_transfers) is
  'Raises ST002 for an open row unless it is certain that nothing was made for it at Stripe and nothing is under way: no lease, live or lapsed, no unknown outcome, not parked, nothing held by Stripe, no key given out since it was last looked for, no lost history.';
