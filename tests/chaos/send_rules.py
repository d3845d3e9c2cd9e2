"""The rules of the oracle about what the runners send, in the form of rules.py."""

# A row that waits for a person says why; what it came to is that person's to find out.
_NOBODY_IS_ASKED = "select from chaos.rows as w where w.key = f.key and w.parked_reason is not null"

_ONCE = {
    "one obligation, two transfers": """
      select (select t.id from chaos.rows as t where t.transfer_key = min(p.transfer_key)) as transfer_id,
        format('%s: %s', p.identity, string_agg(p.stripe_id, ' and ')) as detail
      from chaos.payments as p where p.identity is not null
      group by p.identity having count(*) > 1""",
    # What is paid again is of another identity: its request was withdrawn.
    "sent, though nobody asked": """
      select null::bigint as transfer_id, p::text as detail
      from chaos.payments as p left join chaos.recorded as r on r.transfer_key = p.transfer_key
      where p.identity is not null and r.kind is distinct from 'sent' and (
        p.identity !~ '^transfer:again:' or not exists (
          select from chaos.requests as q where q.order_id = r.order_id and q.is_withdrawn))""",
}

_EVIDENCE = {
    "a transfer of ours that no row has": f"""
      select f.id as transfer_id, p::text as detail
      from chaos.payments as p inner join chaos.rows as f on f.transfer_key = p.transfer_key
      where p.identity is not null and not exists ({_NOBODY_IS_ASKED}) and not exists (
        select from chaos.rows as t where t.stripe_transfer_id = p.stripe_id and t.completed_at is not null)""",
    # What a refund took before the request was made was never sent; all the rest is one transfer, and what is paid
    # again for a request that was withdrawn is one more each.
    "sent as the ledger does not have it": """
      select s.id as transfer_id, format('%s paid; the ledger: %s', s.amount, coalesce(p::text, 'nothing')) as detail
      from (
        select min(t.id) as id, t.family, t.stripe_transfer_id, t.currency, t.destination_account, t.source_charge,
          t.key, sum(t.amount) as amount
        from chaos.rows as t
        inner join chaos.rows as f on f.id = t.family
        inner join chaos.recorded as r on r.transfer_key = t.key
        where t.completed_at is not null and not t.is_followed and (r.kind = 'sent' or f.compensates is not null)
        group by t.family, t.stripe_transfer_id, t.currency, t.destination_account, t.source_charge, t.key) as s
      left join chaos.payments as p on p.stripe_id = s.stripe_transfer_id
      where p.identity is null or (p.amount, p.currency, p.destination, p.charge, p.transfer_key)
        is distinct from (s.amount, s.currency, s.destination_account, s.source_charge, s.key)""",
    "unpaid for a refund that nobody asked for": """
      select t.id as transfer_id, coalesce(t.reversal_request_id, 'for none') as detail from chaos.rows as t
      where t.failure_code = 'refunded_before_transfer' and not exists (
        select from chaos.requests as r
        inner join (
          select a.request, a.order_id from chaos.asked as a union all select c.cause, c.order_id from chaos.causes as c
        ) as b on b.request = r.cause and b.order_id = r.order_id
        where r.request = t.reversal_request_id and r.order_id = t.order_id)""",
}

_SUMS = {
    "an account whose books differ": f"""
      select null::bigint as transfer_id,
        format('%s %s: %s by the ledger, %s by the rows', account, currency, sum(ledger), sum(rows)) as detail
      from (
        -- What others took back the rows may not know of yet; it is no business of ours.
        select p.destination as account, p.currency, 0 as rows, p.amount - coalesce((
          select sum(o.amount) from chaos.ours as o where o.transfer = p.stripe_id), 0) as ledger
        from chaos.payments as p inner join chaos.rows as f on f.transfer_key = p.transfer_key
        where not exists ({_NOBODY_IS_ASKED})
        union all
        select f.destination_account, f.currency, f.amount, 0
        from chaos.rows as f
        inner join chaos.recorded as r on r.transfer_key = f.key
        where f.completed_at is not null and not f.is_followed
          and not (f.status = 'reversed' and f.stripe_reversal_id is not null)
          and r.kind in ('paid', 'sent') and not exists ({_NOBODY_IS_ASKED})) as s
      group by account, currency having sum(ledger) <> sum(rows)""",
}

RULES = _ONCE | _EVIDENCE | _SUMS
