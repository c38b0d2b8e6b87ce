-- Nothing has used these since sessions moved to Keycloak. `migrate` refuses to come here while they hold rows.
DROP TABLE IF EXISTS "accounts";
DROP TABLE IF EXISTS "verifications";
