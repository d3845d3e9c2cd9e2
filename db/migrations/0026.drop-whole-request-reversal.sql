-- request_reversal takes a fourth argument now: beside the old function it would be an ambiguous overload. Last of its
-- release, so that apps go without the function for as short a time as can be: db/functions is loaded next.
-- depends: 0025.drop-uq-stripe-transfer-id

-- squawk-ignore ban-drop-function
drop function if exists marketplace.request_reversal(text, text, text);
-- squawk-ignore ban-drop-function
drop function if exists marketplace._take_back(bigint, text);
