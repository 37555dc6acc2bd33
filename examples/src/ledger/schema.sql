-- The bank's data. Bodies are PX messages as JSON text.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE passwords (n INTEGER PRIMARY KEY, salt BLOB NOT NULL, rounds INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;

-- A generated user has a household (plan, number); an imported one has none.
CREATE TABLE users (
    n INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    username TEXT NOT NULL UNIQUE,
    identity_id TEXT NOT NULL,
    plan TEXT,
    number INTEGER
) STRICT;

CREATE TABLE identities (identity_id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE securities (security_id TEXT PRIMARY KEY, body TEXT NOT NULL, made_up INTEGER NOT NULL) STRICT;

-- opening, posted and held are minor units. user_n and place identify the household of an account.
CREATE TABLE accounts (
    n INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    user_n INTEGER,
    place INTEGER,
    since INTEGER NOT NULL,
    opening INTEGER NOT NULL,
    posted INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The accounts that a user sees, in order.
CREATE TABLE holders (
    user_n INTEGER NOT NULL REFERENCES users (n),
    place INTEGER NOT NULL,
    account_n INTEGER NOT NULL REFERENCES accounts (n),
    PRIMARY KEY (user_n, place)
) STRICT, WITHOUT ROWID;

-- before is the negated sort date, so that the order of pages is the order of the index.
CREATE TABLE transactions (
    n INTEGER PRIMARY KEY,
    account_n INTEGER NOT NULL REFERENCES accounts (n),
    before INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE,
    pending INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX transactions_in_order ON transactions (account_n, before, id);
CREATE INDEX transactions_pending ON transactions (account_n) WHERE pending = 1;

-- The latest change that touched a date of an account. Cursors compare it.
CREATE TABLE touched (
    account_n INTEGER NOT NULL,
    before INTEGER NOT NULL,
    change INTEGER NOT NULL,
    PRIMARY KEY (account_n, before)
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    version INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX grants_of_principal ON grants (principal);
CREATE TABLE grant_digests (
    digest BLOB PRIMARY KEY,
    grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX grant_digests_of_grant ON grant_digests (grant_id);
