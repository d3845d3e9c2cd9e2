drop table if exists marketplace.charges;
