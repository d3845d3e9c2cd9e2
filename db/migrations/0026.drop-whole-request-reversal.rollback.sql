-- The functions of the release before come with its own db/functions; the one with four arguments must not stand
-- beside them.
drop function if exists marketplace.request_reversal(text, text, text, jsonb);
