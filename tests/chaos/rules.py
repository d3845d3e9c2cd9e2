"""The rules of the oracle: name, and the query that gives what breaks it as transfer_id and detail.

Those about sends are in send_rules.py.
"""

# A request for everything takes what others let go of later, beyond its line, which is fixed: of transfer o.
_LET_GO = """
  (select coalesce(sum(g.asked), 0)
   from marketplace.reversal_request_lines as g
   inner join chaos.rows as f on f.id = g.transfer_id
   inner join chaos.requests as w on w.request = g.reversal_request_id and w.is_withdrawn
   where f.origin = o.origin and exists (
     select from chaos.requests as e where e.order_id = w.order_id and e.is_whole and not e.is_withdrawn))"""

# Of each transfer that the app named, over all that Stripe has for it: what is paid again may be taken for a request
# that was made before.
_TAKEN_AND_MET = f"""
  select
    o.origin as transfer_id, sum(o.amount) as taken,
    (select sum(l.met)
     from marketplace.reversal_request_lines as l
     inner join chaos.rows as t on t.id = l.transfer_id
     where t.origin = o.origin) + {_LET_GO} as met
  from (
    select distinct r.id, r.amount, t.origin
    from chaos.ours as r inner join chaos.rows as t on t.stripe_transfer_id = r.transfer) as o
  group by o.origin"""

# The share of a refund may be rounded, and be made up for a quantum that another left.
_TAKEN_AND_ASKED = """
  select
    o.transfer, sum(o.amount) as taken,
    (select case when bool_or(a.amount is null) then max(p.amount) else sum(a.amount) end
     from chaos.recorded as p
     inner join chaos.payments as m on m.transfer_key = p.transfer_key
     inner join (
       select s.order_id, s.transfer_key, s.amount from chaos.asked as s
       union all
       select c.order_id, null, c.amount * q.amount / c.charged + 20
       from chaos.causes as c inner join chaos.recorded as q on q.order_id = c.order_id
       inner join chaos.payments as n on n.transfer_key = q.transfer_key
       where n.stripe_id = o.transfer
     ) as a on a.order_id = p.order_id
     where m.stripe_id = o.transfer and coalesce(a.transfer_key, p.transfer_key) = p.transfer_key) as asked,
    (select min(t.id) from chaos.rows as t where t.stripe_transfer_id = o.transfer) as transfer_id
  from chaos.ours as o
  group by o.transfer"""

# Money: never more than was asked for, never more than there was.
_MONEY = {
    "more taken back than the app asked for": f"""
      select s.transfer_id, format('%s: %s taken, %s asked', s.transfer, s.taken, coalesce(s.asked, 0)) as detail
      from ({_TAKEN_AND_ASKED}) as s where s.taken > coalesce(s.asked, 0)""",
    "more taken back of an order than the app asked for": """
      select null::bigint as transfer_id, format('%s: %s taken, %s asked', p.order_id, sum(o.amount), a.asked) as detail
      from chaos.ours as o
      inner join chaos.payments as m on m.stripe_id = o.transfer
      inner join chaos.recorded as p on p.transfer_key = m.transfer_key
      inner join (
        select s.order_id, sum(s.amount) as asked from chaos.asked as s
        group by s.order_id having not bool_or(s.amount is null)) as a on a.order_id = p.order_id
      group by p.order_id, a.asked having sum(o.amount) > a.asked""",
    "more taken back than the requests' lines met": f"""
      select s.transfer_id, format('%s taken, %s met', s.taken, coalesce(s.met, 0)) as detail
      from ({_TAKEN_AND_MET}) as s where s.taken > coalesce(s.met, 0)""",
    "more taken back than was paid": """
      select null::bigint as transfer_id,
        format('%s: %s paid, %s taken', p.stripe_id, p.amount, sum(r.amount)) as detail
      from chaos.payments as p inner join chaos.reversals as r on r.transfer = p.stripe_id and r.is_live
      group by p.stripe_id having sum(r.amount) > p.amount""",
    "one obligation, two live reversals": """
      select min(t.id) as transfer_id, format('%s: %s', o.identity, string_agg(distinct o.id, ' and ')) as detail
      from chaos.ours as o left join chaos.rows as t on t.stripe_transfer_id = o.transfer
      group by o.identity having count(distinct o.id) > 1""",
}

# Evidence: what a row says of its reversal is what the ledger says, and the other way round.
_EVIDENCE = {
    "reversed by a reversal that the ledger does not have so": """
      select t.id as transfer_id,
        format('%s by %s; the ledger: %s', t.amount, t.stripe_reversal_id, coalesce(o::text, 'nothing')) as detail
      from chaos.rows as t left join chaos.ours as o on o.id = t.stripe_reversal_id
      where t.status = 'reversed' and t.stripe_reversal_id is not null and (
        o.id is null or o.status = 'pending'
        or (o.transfer, o.amount, o.currency, o.request, o.part)
          is distinct from (t.stripe_transfer_id, t.amount, t.currency, t.reversal_request_id, t.call_part))""",
    "a reversal of ours that no row has": """
      select
        (select min(t.id) from chaos.rows as t
         where t.stripe_transfer_id = o.transfer and t.reversal_request_id = o.request) as transfer_id,
        format('%s of %s %s, %s', o.id, o.amount, o.currency, o.identity) as detail
      from chaos.ours as o
      where not exists (select from chaos.rows as t where t.status = 'reversed' and t.stripe_reversal_id = o.id)
        and not exists (
          select from chaos.rows as t
          where t.stripe_transfer_id = o.transfer and t.reversal_request_id = o.request and t.call_part = o.part
            and t.status = 'reversal_pending' and t.parked_reason is not null)""",
    "given up while its reversal is live": """
      select t.id as transfer_id, format('%s %s; the ledger: %s', t.failure_code, t.failure_message, o::text) as detail
      from chaos.rows as t inner join chaos.ours as o
        on o.transfer = t.stripe_transfer_id and o.request = t.reversal_request_id and o.part = t.call_part
      where t.status = 'permanently_failed' and not exists (
        -- Proven since, and taken over.
        select from chaos.rows as s where s.status = 'reversed' and s.stripe_reversal_id = o.id)""",
    "reversed elsewhere, where nobody else reversed so much": """
      select min(t.id) as transfer_id,
        format('%s by the rows, %s by the ledger', sum(t.amount), coalesce(max(e.amount), 0)) as detail
      from chaos.rows as t
      left join (
        select r.transfer, sum(r.amount) as amount from chaos.reversals as r
        where r.is_live and r.identity is null group by r.transfer) as e on e.transfer = t.stripe_transfer_id
      where t.status = 'reversed' and t.stripe_reversal_id is null
      group by t.stripe_transfer_id having sum(t.amount) > coalesce(max(e.amount), 0)""",
    "given up without a definitive refusal": """
      select t.id as transfer_id, format('%s %s', t.failure_code, t.failure_message) as detail
      from chaos.rows as t
      where t.status = 'permanently_failed' and not case t.failure_code
        when 'missing_transfer_id' then t.stripe_transfer_id is null
        when 'refunded_before_transfer' then t.completed_at is null
        when 'request_withdrawn' then exists (
          select from chaos.requests as r
          where r.request = t.reversal_request_id and r.is_withdrawn and not r.is_evidence)
        when 'not_reversed' then exists (
          select from chaos.requests as r where r.request = t.reversal_request_id and r.is_evidence)
        when 'resource_missing' then not exists (
          select from chaos.payments as p where p.stripe_id = t.stripe_transfer_id)
        else (
          select count(*) from marketplace.transfer_attempts as a
          where a.transfer_id = t.id and a.kind = 'call' and a.disposition = 'applied'
            and a.action = case when t.completed_at is null then 'send' else 'reverse' end
            and a.verdict = 'transient' and a.http_status in (400, 402, 403, 404)) >= 6
      end""",
}

# Nothing is lost: what the database told the app is there, and every part of a transfer is somewhere.
_NOTHING_LOST = {
    "a recorded transfer that is not there": """
      select t.id as transfer_id, r::text as detail
      from chaos.recorded as r left join chaos.rows as t on t.transfer_key = r.transfer_key
      where t.id is null
        or (t.order_id, t.original_amount, t.currency) is distinct from (r.order_id, r.amount, r.currency)
        or (t.completed_at is not null and r.kind in ('paid', 'sent') and not exists (
          select from chaos.payments as p
          where p.stripe_id = t.stripe_transfer_id and p.transfer_key = r.transfer_key))""",
    "a family that does not add up": """
      select f.id as transfer_id, format('%s in all its rows, of %s', sum(t.amount), f.original_amount) as detail
      from chaos.rows as f inner join chaos.rows as t on t.family = f.id and not t.is_followed
      group by f.id, f.original_amount having sum(t.amount) <> f.original_amount""",
    "a request that is not there": """
      select null::bigint as transfer_id, a.request as detail from chaos.asked as a
      where not exists (
        select from marketplace.reversal_requests as r
        where r.reversal_request_id = a.request and r.order_id = a.order_id)""",
    "a part asked for that is not in the request's lines": """
      select f.id as transfer_id, format('%s: %s of %s', a.request, a.amount, a.transfer_key) as detail
      from chaos.asked as a inner join chaos.rows as f on f.transfer_key = a.transfer_key
      where a.amount is distinct from (
        select sum(l.asked) from marketplace.reversal_request_lines as l
        inner join chaos.rows as t on t.id = l.transfer_id
        where l.reversal_request_id = a.request and t.origin = f.id)""",
    "an amount asked for that is not in the request's lines": """
      select null::bigint as transfer_id, format('%s: %s', a.request, a.amount) as detail from chaos.asked as a
      where a.transfer_key is null and a.stands and a.amount <> (
        select coalesce(sum(l.asked), 0) from marketplace.reversal_request_lines as l
        where l.reversal_request_id = a.request)""",
    "a line with something of it neither met nor said why": """
      select l.transfer_id,
        format('%s: %s asked, %s met, %s unmet', l.reversal_request_id, l.asked, l.met, l.unmet) as detail
      from marketplace.reversal_request_lines as l
      inner join chaos.requests as r on r.request = l.reversal_request_id
      inner join chaos.rows as f on f.id = l.transfer_id
      where l.asked <> l.met + l.unmet or (not r.is_withdrawn and l.unmet > (
        -- Not to be had by machine: given up, with the money at the seller or never sent; a person's to decide; or what
        -- others took before.
        select coalesce(sum(t.amount), 0) from chaos.rows as t
        where t.origin = f.origin and not t.is_followed and (t.parked_reason is not null
          or (t.status = 'permanently_failed' and t.failure_code <> 'refunded_before_transfer')
          or (t.status = 'reversed' and exists (
            select from chaos.requests as e where e.request = t.reversal_request_id and e.is_evidence)))))""",
    "a line that is not backed by rows": f"""
      select coalesce(l.origin, b.origin) as transfer_id,
        format('%s: %s met, %s in rows', coalesce(l.request, b.request), coalesce(l.met, 0), coalesce(b.amount, 0))
          as detail
      from (
        select l.reversal_request_id as request, t.origin, sum(l.met) as met
        from marketplace.reversal_request_lines as l inner join chaos.rows as t on t.id = l.transfer_id
        group by l.reversal_request_id, t.origin) as l
      full join (
        select t.reversal_request_id as request, t.origin, sum(t.amount) as amount, bool_or(r.is_whole) as is_whole
        from chaos.rows as t
        inner join chaos.requests as r on r.request = t.reversal_request_id and not r.is_evidence
        where not exists (
          select from chaos.rows as s
          where s.successor_of = t.id and s.reversal_request_id = t.reversal_request_id)
        group by t.reversal_request_id, t.origin) as b on b.request = l.request and b.origin = l.origin
      cross join lateral (select coalesce(l.origin, b.origin) as origin) as o
      where coalesce(b.amount, 0) not between coalesce(l.met, 0)
        and coalesce(l.met, 0) + case when b.is_whole then {_LET_GO} else 0 end""",
    "asked for as a whole and left where it is": """
      select t.id as transfer_id, t.status as detail from chaos.rows as t
      where t.status in ('pending', 'failed', 'completed') and not t.is_followed and exists (
        select from chaos.asked as a
        where a.order_id = t.order_id and a.stands and a.transfer_key is null and a.amount is null)""",
    "touched without being asked for": """
      select t.id as transfer_id, t.status as detail from chaos.rows as t
      where t.status <> 'completed' and t.completed_at is not null
        and not exists (select from chaos.asked as a where a.order_id = t.order_id)
        and not exists (select from chaos.causes as c where c.order_id = t.order_id)
        and not exists (
          select from chaos.reversals as e
          where e.transfer = t.stripe_transfer_id and e.is_live and e.identity is null)""",
}

# The record: the log gives every status, and no lease was used twice.
_RECORD = {
    "a log that does not replay to the row's status": """
      select t.id as transfer_id, format('%s; the log: %s', t.status, l.steps) as detail
      from chaos.rows as t
      left join (
        select s.transfer_id, string_agg(coalesce(s.from_status, '') || '>' || s.to_status, ' ' order by s.id) as steps,
          bool_and(s.from_status is not distinct from s.previous) as is_chained,
          (array_agg(s.to_status order by s.id desc))[1] as last_status
        from (
          select g.*, lag(g.to_status) over (partition by g.transfer_id order by g.id) as previous
          from marketplace.transfer_status_log as g) as s
        group by s.transfer_id) as l on l.transfer_id = t.id
      where l.transfer_id is null or not l.is_chained or l.last_status <> t.status""",
    "a history that verify_log says does not hold": """
      select coalesce(v.transfer_id, 0) as transfer_id, v.problem as detail from marketplace.verify_log() as v""",
    "a lease that was applied twice": """
      select min(a.transfer_id) as transfer_id, string_agg(a.kind || ' ' || a.verdict, ', ' order by a.id) as detail
      from marketplace.transfer_attempts as a where a.disposition = 'applied'
      group by a.lease_token having count(*) > 1""",
}

# Every row has come to its end, or waits for a person and says why.
_DONE = {
    "not done": """
      select t.id as transfer_id,
        format('%s, due %s, last verdict %s', t.status, t.next_retry_at, t.streak_verdict) as detail
      from chaos.rows as t
      where t.status in ('reversal_pending', 'pending', 'failed') and t.parked_reason is null
        -- A pause that only a person ends is visible waiting; one with trial calls has to end by itself.
        and not exists (
          select from marketplace.stripe_control as c where c.paused_at is not null and c.probe_at is null)""",
}

RULES = _MONEY | _EVIDENCE | _NOTHING_LOST | _RECORD | _DONE
