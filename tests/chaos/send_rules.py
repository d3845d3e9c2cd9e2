"""The rules of the oracle about what the runners send, in the form of rules.py."""

# A row that waits for a person says why; what it came to is that person's to find out.
_NOBODY_IS_ASKED = "select from chaos.rows as w where w.family = f.id and w.parked_reason is not null"

_ONCE = {
    "one transfer, sent twice": """
      select (select t.id from chaos.rows as t where t.transfer_key = p.transfer_key) as transfer_id,
        format('%s: %s', p.transfer_key, string_agg(p.stripe_id, ' and ')) as detail
      from chaos.payments as p where p.identity is not null
      group by p.transfer_key having count(*) > 1""",
    "sent, though nobody asked": """
      select null::bigint as transfer_id, p::text as detail from chaos.payments as p
      where p.identity is not null and not exists (
        select from chaos.recorded as r where r.transfer_key = p.transfer_key and r.kind = 'sent')""",
}

_EVIDENCE = {
    "a transfer of ours that no row has": f"""
      select f.id as transfer_id, p::text as detail
      from chaos.payments as p inner join chaos.rows as f on f.transfer_key = p.transfer_key
      where p.identity is not null and not exists ({_NOBODY_IS_ASKED}) and not exists (
        select from chaos.rows as t where t.stripe_transfer_id = p.stripe_id and t.completed_at is not null)""",
    # What a refund took before the request was made was never sent; all the rest is one transfer.
    "sent as the ledger does not have it": """
      select f.id as transfer_id, format('%s paid; the ledger: %s', s.amount, coalesce(p::text, 'nothing')) as detail
      from chaos.recorded as r
      inner join chaos.rows as f on f.transfer_key = r.transfer_key
      inner join (
        select t.family, sum(t.amount) as amount, min(t.stripe_transfer_id) as stripe_id,
          count(distinct coalesce(t.stripe_transfer_id, 'none')) as transfers
        from chaos.rows as t where t.completed_at is not null group by t.family) as s on s.family = f.id
      left join chaos.payments as p on p.stripe_id = s.stripe_id
      where r.kind = 'sent' and (s.transfers <> 1 or p.identity is null
        or (p.amount, p.currency, p.destination, p.charge, p.transfer_key)
          is distinct from (s.amount, f.currency, f.destination_account, f.source_charge, f.transfer_key))""",
    "unpaid for a refund that nobody asked for": """
      select t.id as transfer_id, coalesce(t.reversal_request_id, 'for none') as detail from chaos.rows as t
      where t.failure_code = 'refunded_before_transfer' and not exists (
        select from chaos.asked as a where a.request = t.reversal_request_id and a.order_id = t.order_id)""",
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
        select t.destination_account, t.currency, t.amount, 0
        from chaos.rows as t
        inner join chaos.rows as f on f.id = t.family
        inner join chaos.recorded as r on r.transfer_key = f.transfer_key
        where t.completed_at is not null and not (t.status = 'reversed' and t.stripe_reversal_id is not null)
          and r.kind in ('paid', 'sent') and not exists ({_NOBODY_IS_ASKED})) as s
      group by account, currency having sum(ledger) <> sum(rows)""",
    "paid for a refunded order, and still with the seller": f"""
      select f.id as transfer_id,
        format('%s: %s of %s are back, %s given up', p.stripe_id, b.back, p.amount, g.given_up) as detail
      from chaos.payments as p
      inner join chaos.rows as f on f.transfer_key = p.transfer_key
      cross join lateral (
        select coalesce(sum(r.amount), 0) as back from chaos.reversals as r
        where r.transfer = p.stripe_id and r.is_live) as b
      cross join lateral (
        select coalesce(sum(t.amount), 0) as given_up from chaos.rows as t
        where t.family = f.id and t.status = 'permanently_failed' and t.completed_at is not null) as g
      where b.back + g.given_up < p.amount and not exists ({_NOBODY_IS_ASKED}) and exists (
        select from chaos.asked as a
        where a.order_id = f.order_id and a.transfer_key is null and a.amount is null)""",
}

RULES = _ONCE | _EVIDENCE | _SUMS
