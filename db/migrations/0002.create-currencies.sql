-- What a minor unit is, per currency. Stripe counts in minor units; people do not.
-- depends: 0001.create-schema

create table if not exists marketplace.currencies (
  currency text not null,
  exponent smallint not null,
  constraint pk_currencies primary key (currency),
  constraint chk_currency_is_three_lower_case_letters check (currency ~ '^[a-z]{3}$'),
  constraint chk_exponent_is_small check (exponent between 0 and 3)
);

comment on table marketplace.currencies is
  'Currencies that may be transferred. A currency that Stripe adds is one more row here; no deploy.';
comment on column marketplace.currencies.currency is 'ISO 4217 code in lower case, as Stripe writes it.';
comment on column marketplace.currencies.exponent is
  'Digits after the decimal point of an amount in Stripe''s minor units: 1050 usd is 10.50, 500 jpy is 500.';
comment on constraint pk_currencies on marketplace.currencies is 'One row per currency.';
comment on constraint chk_currency_is_three_lower_case_letters on marketplace.currencies is 'As Stripe writes it.';
comment on constraint chk_exponent_is_small on marketplace.currencies is 'No currency at Stripe has more than three digits.';

-- isk and ugx have no minor unit in use, yet Stripe keeps taking them in hundredths: exponent 2.
insert into marketplace.currencies (currency, exponent)
select unnest(string_to_array(
  'aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf '
  'cny cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl hrk htg huf idr '
  'ils inr isk jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr '
  'mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos '
  'srd std szl thb tjs top try ttd twd tzs uah ugx usd uyu uzs wst xcd xcg yer zar zmw', ' ')), 2
on conflict on constraint pk_currencies do nothing;

insert into marketplace.currencies (currency, exponent)
select unnest(string_to_array('bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf', ' ')), 0
on conflict on constraint pk_currencies do nothing;

insert into marketplace.currencies (currency, exponent)
select unnest(string_to_array('bhd jod kwd omr tnd', ' ')), 3
on conflict on constraint pk_currencies do nothing;
