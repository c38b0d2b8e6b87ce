-- What a trigger names is in the schema of the trigger's own table, never the first of its name in the search path of
-- whoever writes to that table.

-- Exchanged tokens end with their session whoever ends it.
CREATE OR REPLACE FUNCTION "erase_exchanged_tokens"() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('DELETE FROM %I.exchanged_tokens WHERE session_id = $1', TG_TABLE_SCHEMA) USING NEW.id;
    RETURN NULL;
END $$;

ALTER FUNCTION "user_sessions_cookie_hash"() SET search_path = pg_catalog, pg_temp;
