-- Policy as data: what an answer of Stripe's means, and when to try again. A DBA changes a row; the next outcome obeys.
-- depends: 0008.create-stripe-control

create table if not exists marketplace.retry_policy (
  verdict text not null,
  base_delay interval not null,
  factor numeric not null,
  max_delay interval not null,
  jitter numeric not null,
  slow_after integer,
  slow_delay interval,
  max_retries integer,
  max_age interval,
  constraint pk_retry_policy primary key (verdict),
  constraint chk_retry_verdict_is_known check (
    verdict in ('configuration', 'insufficient_balance', 'throttled', 'transient', 'accepted', 'unknown')
  ),
  constraint chk_delays_grow check (
    base_delay > interval '0' and factor between 1 and 10
    and max_delay >= base_delay and max_delay <= interval '30 days'
  ),
  constraint chk_jitter_is_a_fraction check (jitter between 0 and 1),
  constraint chk_slow_is_whole check (
    num_nulls(slow_after, slow_delay) in (0, 2)
    and slow_after > 0 and slow_delay > interval '0' and slow_delay <= interval '30 days'
  ),
  constraint chk_budget_fits_its_verdict check (
    (max_retries is null or (verdict = 'transient' and max_retries >= 0))
    and (max_age is null or (verdict = 'insufficient_balance' and max_age > interval '0'))
  )
);

comment on table marketplace.retry_policy is 'When to try again after a verdict, and when to give up. Changed rows count from the next outcome on.';
comment on column marketplace.retry_policy.verdict is 'The verdict. configuration: the time between trial calls while calls are paused by verdict.';
comment on column marketplace.retry_policy.base_delay is 'Delay after the first such verdict in a row.';
comment on column marketplace.retry_policy.factor is 'Each further one waits this many times longer.';
comment on column marketplace.retry_policy.max_delay is 'The longest delay, before jitter.';
comment on column marketplace.retry_policy.jitter is 'Up to this fraction is added to each delay, at random, so that rows that failed together do not return together.';
comment on column marketplace.retry_policy.slow_after is 'After so many in a row, slow_delay applies instead.';
comment on column marketplace.retry_policy.slow_delay is 'See slow_after.';
comment on column marketplace.retry_policy.max_retries is 'transient only: retries before the row is permanently_failed; 5 retries are six calls.';
comment on column marketplace.retry_policy.max_age is 'insufficient_balance only: how long a row waits for the seller''s balance before it is permanently_failed.';
comment on constraint pk_retry_policy on marketplace.retry_policy is 'One row per verdict.';
comment on constraint chk_retry_verdict_is_known on marketplace.retry_policy is 'The verdicts that are followed by another call.';
comment on constraint chk_delays_grow on marketplace.retry_policy is 'Delays are positive, never shrink, and end at 30 days.';
comment on constraint chk_jitter_is_a_fraction on marketplace.retry_policy is 'Between 0 and 1.';
comment on constraint chk_slow_is_whole on marketplace.retry_policy is 'Both or none.';
comment on constraint chk_budget_fits_its_verdict on marketplace.retry_policy is 'Nothing is given up for trouble that is not the row''s own: throttled and unknown have no budget.';

insert into marketplace.retry_policy
  (verdict, base_delay, factor, max_delay, jitter, slow_after, slow_delay, max_retries, max_age)
values
  ('configuration', '30 seconds', 2, '10 minutes', 0, null, null, null, null),
  ('insufficient_balance', '1 hour', 2, '24 hours', 0.1, null, null, null, '45 days'),
  ('throttled', '1 second', 2, '60 seconds', 0.5, null, null, null, null),
  ('transient', '1 minute', 2, '1 hour', 0.1, null, null, 5, null),
  ('accepted', '10 minutes', 2, '6 hours', 0.1, null, null, null, null),
  ('unknown', '5 seconds', 2, '10 minutes', 0.1, 24, '1 hour', null, null)
on conflict on constraint pk_retry_policy do nothing;

create table if not exists marketplace.stripe_error_rules (
  priority integer not null,
  http_status integer not null,
  error_type text,
  error_code text,
  message_pattern text,
  verdict text not null,
  note text not null,
  constraint pk_stripe_error_rules primary key (priority),
  constraint chk_priority_is_positive check (priority > 0),
  constraint chk_rule_status_may_be_ruled check (http_status in (400, 401, 402, 403, 404, 409, 429)),
  constraint chk_rule_verdict_fits_its_status check (
    case http_status
      when 401 then verdict = 'configuration'
      when 403 then verdict in ('configuration', 'transient')
      when 404 then verdict in ('configuration', 'not_found', 'transient')
      when 409 then verdict in ('throttled', 'conflict')
      when 429 then verdict = 'throttled'
      else verdict in ('already_reversed', 'insufficient_balance', 'conflict', 'transient', 'configuration')
    end
  ),
  constraint chk_rule_pattern_compiles check (message_pattern is null or ('' ~* message_pattern) is not null),
  constraint chk_rule_texts_are_bounded check (
    length(error_type) between 1 and 100
    and length(error_code) between 1 and 100
    and length(message_pattern) between 1 and 500
    and length(note) between 1 and 1000
  )
);

comment on table marketplace.stripe_error_rules is
  'What an error answer of Stripe''s means. The first rule that fits, by priority, decides; what none fits is transient (400, 402, 403, 404), configuration (401) or throttled (409, 429). Anything that is not one of these statuses with Stripe''s own error body is unknown, and no rule can change that.';
comment on column marketplace.stripe_error_rules.priority is 'Low goes first.';
comment on column marketplace.stripe_error_rules.http_status is 'The answer''s status.';
comment on column marketplace.stripe_error_rules.error_type is 'error.type; null fits any.';
comment on column marketplace.stripe_error_rules.error_code is 'error.code; null fits any, also none.';
comment on column marketplace.stripe_error_rules.message_pattern is 'Regular expression, case-insensitive, looked for in error.message; null fits any.';
comment on column marketplace.stripe_error_rules.verdict is 'What it means.';
comment on column marketplace.stripe_error_rules.note is 'Why the rule is there.';
comment on constraint pk_stripe_error_rules on marketplace.stripe_error_rules is 'One rule per priority: the order is total.';
comment on constraint chk_priority_is_positive on marketplace.stripe_error_rules is 'Room to put a rule before another.';
comment on constraint chk_rule_status_may_be_ruled on marketplace.stripe_error_rules is 'Any other answer leaves open whether money moved: unknown, whatever a rule would say.';
comment on constraint chk_rule_verdict_fits_its_status on marketplace.stripe_error_rules is
  'Only a 400, 402, 403 or 404 may spend an attempt or end a row; a 401 is the key''s fault, a 409 or 429 a matter of time.';
comment on constraint chk_rule_pattern_compiles on marketplace.stripe_error_rules is 'A pattern that is no regular expression is refused when it is written.';
comment on constraint chk_rule_texts_are_bounded on marketplace.stripe_error_rules is 'Every text has an end.';

insert into marketplace.stripe_error_rules
  (priority, http_status, error_type, error_code, message_pattern, verdict, note)
values
  (100, 401, null, null, null, 'configuration', 'The key is wrong, revoked or expired: no row is at fault.'),
  (110, 404, null, 'resource_missing', 'a similar object exists in (live|test) mode', 'configuration',
   'The key is of the other mode: the transfer is there, this key cannot see it.'),
  (120, 403, null, null, '(does not have access to account|access may have been revoked)', 'configuration',
   'The key may not act for the account.'),
  (130, 403, null, 'account_invalid', null, 'configuration', 'The key may not act for the account.'),
  (140, 403, null, null, 'key .*(permission|does not have the required)', 'configuration',
   'A restricted key that lacks a permission.'),
  (200, 404, null, 'resource_missing', null, 'not_found',
   'Stripe does not know the transfer: no retry will change that.'),
  (300, 400, 'idempotency_error', null, null, 'conflict',
   'The key was used with other parameters: a person must look.'),
  (400, 400, null, 'balance_insufficient', null, 'insufficient_balance',
   'The seller''s balance does not cover it yet.'),
  (410, 400, null, 'insufficient_funds', null, 'insufficient_balance',
   'The seller''s balance does not cover it yet.'),
  (500, 400, 'invalid_request_error', null,
   -- who: the transfer, it, or nobody; what: already reversed, in either order; and then the sentence ends
   '(^|[.:;,]\s*|\m(because|since|as)\s+)(((this|the)\s+)?transfer(\s+[''"(]?tr_\w+[''")]?)?|it)?\s*'
   '((is|was|has|had)\s+)?(been\s+)?(already\s+(been\s+)?((fully|completely|entirely)\s+)?reversed'
   '|((fully|completely|entirely)\s+)?reversed\s+already)(\s+in\s+full)?\s*([.!]|,?\s*so\M|$)',
   'already_reversed',
   'The whole transfer is back already. A part of it, or the charge, is another matter: the money is with the seller.'),
  (600, 429, null, null, null, 'throttled', 'Too many calls, or a parallel one on the same transfer.'),
  (610, 409, null, null, null, 'throttled', 'A request with this key is still under way.')
on conflict on constraint pk_stripe_error_rules do nothing;
