-- Nothing to undo: the rule means the same to the release before, and its functions come back with its files.

do $$ begin null; end $$;
