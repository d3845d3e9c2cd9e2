-- transactional: false

-- A view over tables of earlier migrations, which no migration made.
drop function if exists marketplace.read_needs_attention();

drop view if exists marketplace.needs_attention;

drop index concurrently if exists marketplace.idx_seller_transfers_given_up;
