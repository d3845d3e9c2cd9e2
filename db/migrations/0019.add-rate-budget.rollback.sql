drop view if exists marketplace.rate_budget cascade;

alter table marketplace.stripe_control
drop constraint if exists chk_rate_is_bounded,
drop constraint if exists chk_cut_is_whole,
drop column if exists rate,
drop column if exists burst,
drop column if exists tokens,
drop column if exists tokens_at,
drop column if exists cut_rate,
drop column if exists cut_at;
