-- A request may ask for an amount of the whole order, spread over its transfers. The argument stands before the
-- allocation, so the function of the release before would be an ambiguous overload beside it.
-- depends: 0027.index-alarming-attempts

alter table marketplace.reversal_requests
add column if not exists asked_amount bigint;

comment on column marketplace.reversal_requests.asked_amount is
  'The amount that was asked of the order, in minor units, and spread over its transfers; null where everything was asked, or an amount of each transfer.';

-- squawk-ignore ban-drop-function
drop function if exists marketplace.request_reversal(text, text, text, jsonb);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._require_same_request(text, text, text, jsonb);
