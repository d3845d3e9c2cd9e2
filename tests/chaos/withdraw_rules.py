"""The rules of the oracle about requests that come and go, and what every seller has in the end; as in rules.py."""

# Less what others took back, and what was given up on either way, with a definitive refusal: see rules.py.
_WHAT_SELLERS_HAVE = """
  select f.id, w.least, w.most, h.sent - h.back as has, h.elsewhere,
    coalesce(sum(t.amount) filter (where t.completed_at is not null), 0) as kept,
    coalesce(sum(t.amount) filter (
      where t.completed_at is null and t.failure_code <> 'refunded_before_transfer'), 0) as unsent
  from chaos.wanted as w
  inner join chaos.rows as f on f.transfer_key = w.transfer_key
  cross join lateral (
    select coalesce(sum(p.amount), 0) as sent, coalesce(sum(b.back), 0) as back,
      coalesce(sum(b.elsewhere), 0) as elsewhere
    from chaos.payments as p
    cross join lateral (
      select sum(r.amount) as back, sum(r.amount) filter (where r.identity is null) as elsewhere
      from chaos.reversals as r where r.transfer = p.stripe_id and r.is_live) as b
    where p.transfer_key = w.transfer_key) as h
  left join chaos.rows as t on t.key = w.transfer_key and t.status = 'permanently_failed' and not t.is_followed
  where not exists (select from chaos.rows as p where p.key = w.transfer_key and p.parked_reason is not null)
  group by f.id, w.least, w.most, h.sent, h.back, h.elsewhere"""

_WANTED = {
    "more with a seller than is his": f"""
      select s.id as transfer_id, format('%s, and not %s; %s could not be had', s.has, s.most, s.kept) as detail
      from ({_WHAT_SELLERS_HAVE}) as s where s.has > s.most + s.kept""",
    "less with a seller than is his": f"""
      select s.id as transfer_id,
        format('%s, and not %s; %s taken by others, %s could not be sent', s.has, s.least, s.elsewhere, s.unsent)
          as detail
      from ({_WHAT_SELLERS_HAVE}) as s where s.has < s.least - s.elsewhere - s.unsent""",
}

_WITHDRAWN = {
    "withdrawn, and the request does not say so": """
      select null::bigint as transfer_id, b.request as detail
      from (
        select a.request, a.stands from chaos.asked as a
        union select c.cause, false from chaos.causes as c where c.is_spared or not c.stands) as b
      inner join chaos.requests as r on r.request = b.request
      where r.is_withdrawn = b.stands""",
    "reversed for a withdrawn request, and not given back once": """
      select t.id as transfer_id, format('%s of %s', coalesce(sum(c.original_amount), 0), t.amount) as detail
      from chaos.rows as t
      inner join chaos.requests as r on r.request = t.reversal_request_id and r.is_withdrawn
      left join chaos.rows as c on c.compensates = t.id and c.id = c.family
      where t.status = 'reversed'
      group by t.id, t.amount having coalesce(sum(c.original_amount), 0) <> t.amount""",
    "given back, and not for a withdrawn request": """
      select c.id as transfer_id, format('for %s', t.reversal_request_id) as detail
      from chaos.rows as c
      inner join chaos.rows as t on t.id = c.compensates
      where t.status <> 'reversed' or not exists (
        select from chaos.requests as r where r.request = t.reversal_request_id and r.is_withdrawn)""",
}

_EVENTS = {
    "an event that is kept": """
      select null::bigint as transfer_id, format('%s %s: %s', e.event_id, e.type, e.detail) as detail
      from marketplace.stripe_events as e
      where e.state = 'kept' and not exists (
        select from chaos.rows as t
        where t.parked_reason is not null and e.object_id in (t.stripe_transfer_id, t.source_charge))""",
    "a refund or dispute that the database knows otherwise": """
      select null::bigint as transfer_id, c::text as detail
      from chaos.causes as c
      left join marketplace.stripe_refunds as r on r.refund_id = c.cause
      left join marketplace.stripe_disputes as d on d.dispute_id = c.cause
      where coalesce(r.amount, d.amount) is distinct from c.amount
        or (c.came_back > 0 and d.remaining is distinct from c.amount - c.came_back)
        or coalesce(
          r.status = 'succeeded', d.funds_withdrawn and d.remaining is distinct from 0 and d.status <> 'won'
        ) <> c.stands""",
}

RULES = _WANTED | _WITHDRAWN | _EVENTS
