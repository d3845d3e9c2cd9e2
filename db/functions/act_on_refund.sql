-- What follows from a refund: the sellers' share is asked for, or what was asked is withdrawn.

create or replace function marketplace._act_on_refund(p_event marketplace.stripe_events)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_refund marketplace.stripe_refunds;
  v_charge_id text;
begin
  select * into strict v_refund from marketplace.stripe_refunds as r where r.refund_id = p_event.object_id;
  v_charge_id := marketplace._charge_of(v_refund.charge_id, v_refund.payment_intent);
  if v_refund.status in ('canceled', 'failed') then
    perform marketplace._withdraw_cause(v_refund.refund_id, format('refund %s %s', v_refund.refund_id,
      case v_refund.status when 'failed' then 'failed' else 'was canceled' end));
    perform marketplace._settle_what_stands(v_charge_id);
    return format('refund %s is %s: what was asked for it is withdrawn', v_refund.refund_id, v_refund.status);
  elsif v_refund.status <> 'succeeded' then
    return format('refund %s is %s: nothing is asked before it succeeds', v_refund.refund_id, v_refund.status);
  elsif marketplace._is_release(v_refund) then
    perform marketplace._withdraw_cause(v_refund.refund_id, marketplace._released_in_words(v_refund));
    perform marketplace._settle_what_stands(v_charge_id);
    return marketplace._released_in_words(v_refund);
  elsif v_refund.decided_by = 'app' then
    perform marketplace._settle_what_stands(v_charge_id);
    return format('refund %s succeeded: refunds_by is app, so the app asks', v_refund.refund_id);
  end if;
  perform marketplace._require_refund(v_refund);
  perform marketplace._settle_charge(v_charge_id, v_refund.payment_intent);
  return format('refund %s succeeded: %s', v_refund.refund_id, marketplace._asked_in_words(v_refund.refund_id));
end
$$;

comment on function marketplace._act_on_refund(marketplace.stripe_events) is
  'Asks for the sellers'' share of a refund that succeeded, if events are to; withdraws what was asked for one that failed. Raises ST010 for what has to wait.';

create or replace function marketplace._released_in_words(p_refund marketplace.stripe_refunds)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return format('refund %s is of what was never captured of charge %s: nothing went back to the buyer',
    p_refund.refund_id, p_refund.charge_id);
end
$$;

comment on function marketplace._released_in_words(marketplace.stripe_refunds) is 'Why a refund is none of the sellers''.';

create or replace function marketplace._require_refund(p_refund marketplace.stripe_refunds)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if marketplace._is_release(p_refund) is null
    and not exists (select from marketplace.reversal_requests as r where r.reversal_request_id = p_refund.refund_id)
  then
    raise exception 'refund % is of the % % that were never captured of charge %: the buyer may have got nothing',
      p_refund.refund_id, p_refund.amount, p_refund.currency, p_refund.charge_id
      using errcode = 'ST010', hint = format(
        'select * from marketplace.withdraw_reversal_request(p_reversal_request_id => %L, p_reason => ''never captured''); or, if it is a refund: request_reversal().',
        p_refund.refund_id);
  end if;
end
$$;

comment on function marketplace._require_refund(marketplace.stripe_refunds) is
  'Raises ST010 where nobody can tell whether a refund gave the buyer anything: the event of its charge''s capture says so.';

create or replace function marketplace._withdraw_cause(p_cause_id text, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Where nothing was asked as well: a request of the app's that is still to come is withdrawn too.
  if exists (select from marketplace._requests_for(p_cause_id) as r where r.withdrawn_at is null)
    or not exists (select from marketplace._requests_for(p_cause_id)) then
    perform marketplace.withdraw_reversal_request(p_cause_id, p_reason);
  end if;
end
$$;

comment on function marketplace._withdraw_cause(text, text) is
  'Withdraws every request for a refund or dispute, by whomever, and the one to come.';

create or replace function marketplace._settle_what_stands(p_charge_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What cannot be asked yet has an event of its own that waits for it, and does not hold this one up.
  perform marketplace._settle_charge(p_charge_id, null);
exception
  when sqlstate 'ST010' then
    null;
end
$$;

comment on function marketplace._settle_what_stands(text) is 'As _settle_charge, where nothing has to be asked now.';

create or replace function marketplace._asked_in_words(p_cause_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_words text;
begin
  select string_agg(format('%s %s of %s', l.asked, t.currency, coalesce(t.transfer_key, 'transfer ' || t.id)), ', '
    order by l.reversal_request_id, l.transfer_id)
  into v_words
  from marketplace.reversal_requests as r
  inner join marketplace.reversal_request_lines as l on l.reversal_request_id = r.reversal_request_id
  inner join marketplace.seller_transfers as t on t.id = l.transfer_id
  where r.asked_for = p_cause_id and r.withdrawn_at is null;
  return case
    when v_words is not null then 'asked for ' || left(v_words, 800)
    when exists (
      select from marketplace.reversal_requests as r
      where r.reversal_request_id = p_cause_id and r.asked_by = 'app' and r.withdrawn_at is null
    ) then 'the app has asked for it'
    else 'there is nothing more to ask for'
  end;
end
$$;

comment on function marketplace._asked_in_words(text) is 'What events have asked for a refund or dispute, in words.';
