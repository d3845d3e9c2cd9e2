-- Holds the old rows to the rule as well: none of them can break it, for none has named a reversal.
-- depends: 0070.add-named-reversal

set local search_path = pg_catalog, pg_temp;

alter table marketplace.seller_transfers validate constraint chk_named_reversal_is_awaited;
