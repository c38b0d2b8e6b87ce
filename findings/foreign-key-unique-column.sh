#!/usr/bin/env bash
# PostgreSQL 18. sessions.user_id refers to users.id; users.email is UNIQUE as well.
# Guess: changing a person's e-mail address holds up no insert into sessions, as changing the name does not: the key that
# they refer to stays as it is (FOR NO KEY UPDATE).
# Seen: a column of any unique index counts as a key. The insert waits until the change of the address has ended.
. "$(dirname "$0")/lib/setup.sh"
install pg@8.23.0 embedded-postgres@18.4.0-beta.17
cat >run.mjs <<'EOF'
import { seen, within } from './check.mjs';
import { startPostgres } from './postgres.mjs';

const postgres = await startPostgres();
await postgres.query(`
  CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, name text);
  CREATE TABLE sessions (id serial, user_id int REFERENCES users);
  INSERT INTO users VALUES (1, 'a@example.com', 'A')`);
const [one, two] = [await postgres.connect(), await postgres.connect()];
const insertDuring = async (change) => {
  await one.query(`BEGIN; UPDATE users SET ${change} WHERE id = 1`);
  const insert = two.query('INSERT INTO sessions (user_id) VALUES (1)').then(() => 'inserted');
  const meanwhile = await within(1_000, insert);
  await one.query('COMMIT');
  return [meanwhile, await insert];
};
seen('beside a new name', await insertDuring(`name = 'B'`), ['inserted', 'inserted']);
seen('beside a new address', await insertDuring(`email = 'b@example.com'`), ['still waiting', 'inserted']);
seen('beside the same address', await insertDuring(`email = email`), ['inserted', 'inserted']);
process.exit();
EOF
node run.mjs
