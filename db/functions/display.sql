-- How amounts and long texts are shown to people. Programs read minor units and texts as they are.

create or replace function marketplace.format_amount(p_amount bigint, p_currency text)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_exponent integer := (select c.exponent from marketplace.currencies as c where c.currency = p_currency);
begin
  -- By digits, not by division: a text that somebody may type again must not depend on a setting.
  return case v_exponent
    when 0 then p_amount::text
    else case when p_amount < 0 then '-' else '' end
      || (abs(p_amount) / (10 ^ v_exponent)::bigint)::text || '.'
      || lpad((abs(p_amount) % (10 ^ v_exponent)::bigint)::text, v_exponent, '0')
  end || ' ' || upper(p_currency);
end
$$;

comment on function marketplace.format_amount(bigint, text) is
  'An amount in minor units as people write it: 1234 usd is 12.34 USD, 500 jpy is 500 JPY, 1234 kwd is 1.234 KWD. Null for a currency that marketplace.currencies does not know.';

create or replace function marketplace._wrapped(p_text text, p_width integer, p_limit integer)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_text text := case when length(p_text) > p_limit then left(p_text, p_limit - 1) || '…' else p_text end;
  v_word text;
  v_line text;
  v_lines text[] := '{}'::text[];
begin
  foreach v_word in array coalesce(string_to_array(v_text, ' '), '{}') loop
    if length(v_line) + 1 + length(v_word) <= p_width then
      v_line := v_line || ' ' || v_word;
      continue;
    end if;
    v_lines := v_lines || v_line;
    while length(v_word) > p_width loop
      v_lines := v_lines || left(v_word, p_width);
      v_word := substr(v_word, p_width + 1);
    end loop;
    v_line := v_word;
  end loop;
  return array_to_string(v_lines || v_line, chr(10));
end
$$;

comment on function marketplace._wrapped(text, integer, integer) is
  'The text in lines of at most p_width characters, broken between words where that can be, and cut after p_limit characters: for psql at 120 columns.';
