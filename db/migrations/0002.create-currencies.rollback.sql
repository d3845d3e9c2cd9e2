drop table if exists marketplace.currencies;
