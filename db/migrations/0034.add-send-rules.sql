-- Sends are refused in words of their own: of a destination or charge of the other mode Stripe says so with a 400.
-- depends: 0033.index-made-for

insert into marketplace.stripe_error_rules
  (priority, http_status, error_type, error_code, message_pattern, verdict, note)
values
  (115, 400, null, 'resource_missing', 'a similar object exists in (live|test) mode', 'configuration',
   'The key is of the other mode: the account or charge is there, this key cannot see it.')
on conflict on constraint pk_stripe_error_rules do nothing;

-- Both kinds of work go the same way from here on: these are called something else now, or take or give more.
-- squawk-ignore ban-drop-function
drop function if exists marketplace._claimable_reversals(integer, timestamptz, boolean);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._is_whole(marketplace.seller_transfers);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._reversal_params(marketplace.seller_transfers, uuid);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._settle_reversal(
  marketplace.seller_transfers, marketplace.stripe_outcome, text, timestamptz
);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._settle_look_up(
  marketplace.seller_transfers, marketplace.stripe_outcome, text, text, text, timestamptz
);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._record_reversal_outcome(marketplace.stripe_outcome, boolean, timestamptz);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._keep_attempt(
  marketplace.stripe_outcome, marketplace.seller_transfers, text, text, text, text, text, timestamptz
);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._read_report(
  marketplace.stripe_outcome, marketplace.seller_transfers, timestamptz
);
