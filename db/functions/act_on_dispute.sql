-- What follows from a dispute: the sellers' share of what is gone is asked for. All of it came back: what was asked is
-- withdrawn. A part did: what remains is asked, and what was asked beyond it is given back (ask_for_less.sql).

create or replace function marketplace._act_on_dispute(p_event marketplace.stripe_events)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dispute marketplace.stripe_disputes;
  v_charge_id text;
begin
  select * into strict v_dispute from marketplace.stripe_disputes as d where d.dispute_id = p_event.object_id;
  v_charge_id := marketplace._charge_of(v_dispute.charge_id, v_dispute.payment_intent);
  if v_dispute.remaining = 0 or v_dispute.status = 'won' then
    perform marketplace._settle_dispute(v_dispute, v_charge_id);
    return format('dispute %s is over: what was asked for it is withdrawn', v_dispute.dispute_id);
  end if;
  perform marketplace._require_told(v_dispute, p_event);
  if not v_dispute.funds_withdrawn then
    return format('dispute %s is %s: nothing is asked before its funds are withdrawn',
      v_dispute.dispute_id, v_dispute.status);
  end if;
  perform marketplace._settle_charge(v_charge_id, v_dispute.payment_intent);
  return format('the funds of dispute %s were withdrawn%s: %s', v_dispute.dispute_id,
    case when v_dispute.remaining < v_dispute.amount
      then format(', and came back but for %s of %s %s', v_dispute.remaining, v_dispute.amount, v_dispute.currency)
      else '' end,
    marketplace._asked_in_words(v_dispute.dispute_id));
end
$$;

comment on function marketplace._act_on_dispute(marketplace.stripe_events) is
  'Asks for the sellers'' share of a dispute whose funds were withdrawn, or of what remains of it; withdraws that of one that was won or whose funds all came back. Raises ST010 for what has to wait.';

create or replace function marketplace._settle_dispute(p_dispute marketplace.stripe_disputes, p_charge_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_dispute.remaining = 0 or p_dispute.status = 'won' then
    perform marketplace._withdraw_cause(p_dispute.dispute_id, format('dispute %s %s', p_dispute.dispute_id,
      case when p_dispute.status = 'won' then 'was won' else 'was decided: its funds were reinstated' end));
  end if;
  perform marketplace._settle_what_stands(p_charge_id);
end
$$;

comment on function marketplace._settle_dispute(marketplace.stripe_disputes, text) is
  'Does what follows from what is known of a dispute, where nothing has to be asked now: withdraws what was asked for one that is over. Its orders and payment are locked.';

create or replace function marketplace._require_told(
  p_dispute marketplace.stripe_disputes, p_event marketplace.stripe_events
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_event.payload -> 'data' -> 'object';
  v_id text := p_dispute.dispute_id;
begin
  if marketplace._is_withdrawn(v_id) then
    return;
  end if;
  if p_event.type = 'charge.dispute.funds_reinstated' and p_dispute.remaining is null then
    raise exception 'dispute % is %, some of its % % came back, and it is not told how much',
      v_id, p_dispute.status, p_dispute.amount, p_dispute.currency
      using errcode = 'ST010', hint = format(
        'select * from marketplace.note_reinstated(p_dispute_id => %L, p_amount => …);', v_id);
  end if;
  if (p_event.type = 'charge.dispute.funds_reinstated' or marketplace._read_remaining(v_object) is not null)
    and exists (
      select from marketplace.reversal_requests as r
      where r.reversal_request_id = v_id and r.asked_by = 'app' and r.withdrawn_at is null
    )
  then
    raise exception '% of % % of dispute % are still gone, and the app asked for its share',
      p_dispute.remaining, p_dispute.amount, p_dispute.currency, v_id
      using errcode = 'ST010', hint = format(
        'Ask for what remains under another id, then give back what was asked: select * from marketplace.withdraw_reversal_request(p_reversal_request_id => %L, p_reason => ''a part came back'');',
        v_id);
  end if;
  -- Without the list nobody can say whether an event was missed, or the charge had been refunded before.
  if p_dispute.status = 'lost' and not p_dispute.funds_withdrawn
    and jsonb_typeof(v_object -> 'balance_transactions') is distinct from 'array'
  then
    raise exception 'dispute % is lost, and nobody told whether its funds were withdrawn', v_id
      using errcode = 'ST010',
            hint = 'Read what was missed: seller-transfers catch-up. Or request_reversal(), with the dispute''s id.';
  end if;
end
$$;

comment on function marketplace._require_told(marketplace.stripe_disputes, marketplace.stripe_events) is
  'Raises ST010 where an event of a dispute does not tell enough to say what sellers are to give, or get back.';
