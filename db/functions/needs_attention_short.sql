-- needs_attention_full for eyes, and for programs.

create or replace view marketplace.needs_attention as
select
  f.problem,
  date_trunc('second', f.needed_since) as needed_since,
  f.transfer_id,
  concat_ws(
    chr(10),
    marketplace._wrapped(concat(
      case when f.is_urgent then 'URGENT ' end,
      nullif(concat_ws(
        ', ', 'order ' || f.order_id, marketplace.format_amount(f.amount, f.currency) || ' (' || f.amount || ')'
      ), '') || ': ', f.why), 60, 420),
    -- Short, so that most take one line, which can be copied.
    marketplace._wrapped(case f.problem when 'event kept' then f.next_step else replace(
      regexp_replace(f.next_step, 'p_[a-z_]+ => ', '', 'g'), 'select id, status', 'select status') end, 60, 600)
  ) as why_and_next_step
from marketplace.needs_attention_full as f
order by f.is_urgent desc, f.needed_since asc, f.transfer_id asc;

comment on view marketplace.needs_attention is 'What waits for a person, urgent and older problems first: one line per problem, 118 columns wide. An empty view is good news. needs_attention_full has it in columns.';
comment on column marketplace.needs_attention.problem is 'parked, not paid, not taken back, no Stripe id, moved_twice, late_success, unmet, event kept, differs from Stripe, paused, to reconcile or commits lost.';
comment on column marketplace.needs_attention.needed_since is 'Since when.';
comment on column marketplace.needs_attention.transfer_id is 'The row; null where it is about none.';
comment on column marketplace.needs_attention.why_and_next_step is 'Which order, why, how much money it is about, and at its end what to type next, which is whole: its arguments are in order.';

create or replace function marketplace.read_needs_attention()
returns table (
  problem text, is_urgent boolean, needed_since timestamptz, transfer_id bigint, order_id text, why text, next_step text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select f.problem, f.is_urgent, f.needed_since, f.transfer_id, f.order_id, f.why, f.next_step
  from marketplace.needs_attention_full as f order by f.is_urgent desc, f.needed_since, f.transfer_id
$$;

comment on function marketplace.read_needs_attention() is 'The view needs_attention_full, urgent ones and older ones first, for programs: they call functions only.';
