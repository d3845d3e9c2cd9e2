-- How many Stripe calls all runners together may make: a bucket of tokens, and how far Stripe has turned it down.
-- depends: 0018.create-runners

alter table marketplace.stripe_control
add column if not exists rate numeric default 20,
add column if not exists burst integer not null default 5,
add column if not exists tokens numeric not null default 5,
add column if not exists tokens_at timestamptz not null default now(),
add column if not exists cut_rate numeric,
add column if not exists cut_at timestamptz;

comment on column marketplace.stripe_control.rate is
  'Stripe calls a second that all runners together may make, look-ups included; null: any number. Stripe takes 25 a second for one kind of call.';
comment on column marketplace.stripe_control.burst is 'Calls that may be made at once after a quiet moment.';
comment on column marketplace.stripe_control.tokens is 'Calls that could be made at tokens_at: what has come in since counts with the rate of that moment.';
comment on column marketplace.stripe_control.tokens_at is 'See tokens.';
comment on column marketplace.stripe_control.cut_rate is
  'What the rate was turned down to at cut_at, when Stripe said it was too much; since then it grows back. Null: never, or set by a person since.';
comment on column marketplace.stripe_control.cut_at is 'See cut_rate.';

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.stripe_control'::regclass and conname = 'chk_rate_is_bounded'
  ) then
    alter table marketplace.stripe_control
      add constraint chk_rate_is_bounded check (
        rate between 0.1 and 1000 and burst between 1 and 1000 and tokens between 0 and 1000
      ),
      add constraint chk_cut_is_whole check (num_nulls(cut_rate, cut_at) in (0, 2) and cut_rate > 0);
  end if;
end
$$;

comment on constraint chk_rate_is_bounded on marketplace.stripe_control is 'Neither so slow that nothing is ever done nor so fast that it is no limit; for that there is null.';
comment on constraint chk_cut_is_whole on marketplace.stripe_control is 'A rate that was turned down was so at some moment.';
