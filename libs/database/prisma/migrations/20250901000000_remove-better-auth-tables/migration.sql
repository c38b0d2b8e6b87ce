-- Nothing has used these tables since sessions moved to Keycloak. Lock, count and drop are one transaction, so that a row
-- that somebody writes meanwhile is counted. Only tables of Better-Auth's shape in the schema of user_sessions are
-- touched: another application may have tables of these names, in this schema or in another one of the search path.
DO $$
DECLARE
  home CONSTANT oid := (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('user_sessions'));
  legacy record;
  shape text[];
  held bigint;
BEGIN
  FOR legacy IN
    SELECT c.oid AS id, c.relname::text AS name, format('%I.%I', n.nspname, c.relname) AS path
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relnamespace = home AND c.relname IN ('accounts', 'verifications') AND c.relkind IN ('r', 'p')
    ORDER BY c.relname
  LOOP
    SELECT array_agg(replace(lower(attname), '_', '')) INTO shape FROM pg_attribute
    WHERE attrelid = legacy.id AND attnum > 0 AND NOT attisdropped;
    CONTINUE WHEN NOT shape @> CASE legacy.name
      WHEN 'accounts' THEN ARRAY['id', 'accountid', 'providerid', 'userid']
      ELSE ARRAY['id', 'identifier', 'value', 'expiresat'] END;
    EXECUTE 'LOCK TABLE ' || legacy.path || ' IN ACCESS EXCLUSIVE MODE';
    -- What is to be dropped whatever it holds need not be counted.
    IF current_setting('session_gateway.drop_data', true) IS DISTINCT FROM 'on' THEN
      IF row_security_active(legacy.id) THEN
        RAISE EXCEPTION 'row-level security hides rows of % from this role, so that they cannot be counted', legacy.name
          USING ERRCODE = 'SG001';
      END IF;
      EXECUTE 'SELECT count(*) FROM ' || legacy.path INTO held;
      IF held > 0 THEN
        RAISE EXCEPTION '% has % row%', legacy.name, held, CASE held WHEN 1 THEN '' ELSE 's' END USING ERRCODE = 'SG001';
      END IF;
    END IF;
    EXECUTE 'DROP TABLE ' || legacy.path;
  END LOOP;
END $$;
