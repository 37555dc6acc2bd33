-- Items, and all that is theirs. Every table of an Item's data is keyed by the Item first.
--
-- Times are microseconds since 1970, dates are days since 1970-01-01, bodies are JSON.
-- Ids are compared byte by byte.

-- The newest migration that a program must know to work on this schema. A migration that takes away
-- what an earlier version uses raises it.
-- `environment` is the one that the database was opened for first; it is never opened for another.
CREATE TABLE compatibility (oldest INTEGER NOT NULL, environment TEXT) STRICT;
INSERT INTO compatibility (oldest) VALUES (1);

-- The schedule is this table: a worker takes the Items whose `wake_at` has come.
CREATE TABLE items (
    item_id            TEXT    NOT NULL PRIMARY KEY,
    institution_id     TEXT    NOT NULL,
    user_id            TEXT    NOT NULL,
    created_at         INTEGER NOT NULL,
    state              TEXT    NOT NULL,
    -- Written by the holder of the lease alone.
    life               TEXT    NOT NULL,
    -- The fencing token: random, drawn again by each claim; a commit of an earlier one is refused.
    fence              INTEGER NOT NULL,
    due_at             INTEGER,
    leased_until       INTEGER,
    -- When a worker may take it: when it is due, or when the lease runs out.
    wake_at            INTEGER AS (coalesce(leased_until, due_at)) VIRTUAL,
    not_before         INTEGER,
    notified           INTEGER NOT NULL,
    notified_since     INTEGER,
    change_seq         INTEGER NOT NULL,
    -- How many epochs its connections have used.
    epochs             INTEGER NOT NULL,
    needs_transactions INTEGER NOT NULL,
    cycle_tokens       INTEGER NOT NULL,
    -- A refresh of the tokens began then, and its outcome is not known.
    refresh_begun_at   INTEGER,
    -- Leases that ran out since the last commit.
    lost_leases        INTEGER NOT NULL DEFAULT 0,
    -- An Item without authorization rests.
    CHECK (state NOT IN ('created_login_required', 'idle_login_required')
        OR (due_at IS NULL AND leased_until IS NULL))
) STRICT;

-- `state` is in it so that counting the states reads the index alone.
CREATE INDEX items_by_wake ON items (wake_at, item_id, state);

-- A few rows at most: refreshes that are under way, or whose worker stopped.
CREATE INDEX items_by_refresh ON items (refresh_begun_at, item_id)
    WHERE refresh_begun_at IS NOT NULL;

-- What all processes know of a partner.
CREATE TABLE partners (
    institution_id TEXT PRIMARY KEY,
    state          TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Permits that processes hold: the Items of a partner that each may work on at once.
CREATE TABLE partner_permits (
    institution_id TEXT    NOT NULL,
    holder         TEXT    NOT NULL,
    permits        INTEGER NOT NULL,
    leased_until   INTEGER NOT NULL,
    PRIMARY KEY (institution_id, holder)
) STRICT, WITHOUT ROWID;

-- Which Item is a user's.
CREATE TABLE item_keys (
    institution_id TEXT NOT NULL,
    user_id        TEXT NOT NULL,
    item_id        TEXT NOT NULL,
    PRIMARY KEY (institution_id, user_id)
) STRICT, WITHOUT ROWID;

-- Whose an access token is; no application means the partner itself.
CREATE TABLE access (
    digest         BLOB NOT NULL PRIMARY KEY,
    item_id        TEXT NOT NULL,
    institution_id TEXT NOT NULL,
    application_id TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX access_by_item ON access (item_id);

CREATE TABLE connections (
    item_id        TEXT NOT NULL,
    application_id TEXT NOT NULL,
    body           TEXT NOT NULL,
    PRIMARY KEY (item_id, application_id)
) STRICT, WITHOUT ROWID;

-- The partner's tokens, sealed; null once they are refused. The version never goes back.
CREATE TABLE tokens (
    item_id TEXT    NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    -- The version that the last authorization had; higher ones were refreshed from it.
    linked_version INTEGER NOT NULL,
    key_id  TEXT,
    sealed  BLOB,
    -- Keyed digests of the access token and the refresh token, each with the institution.
    access_mac  BLOB,
    refresh_mac BLOB
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_by_access ON tokens (access_mac) WHERE access_mac IS NOT NULL;
CREATE INDEX tokens_by_refresh ON tokens (refresh_mac) WHERE refresh_mac IS NOT NULL;

-- Secrets of the store itself, sealed like every other one, each for its name. `token-digests` is
-- the key of the digests of tokens: it stays the same whatever it is sealed under.
CREATE TABLE secrets (
    name   TEXT NOT NULL PRIMARY KEY,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Tokens to be revoked at the partner. The Item may be gone.
CREATE TABLE revocations (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    item_id        TEXT    NOT NULL,
    institution_id TEXT    NOT NULL,
    user_id        TEXT    NOT NULL,
    key_id         TEXT    NOT NULL,
    sealed         BLOB    NOT NULL,
    access_mac     BLOB    NOT NULL,
    refresh_mac    BLOB,
    attempt        INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    due_at         INTEGER NOT NULL,
    -- While the request is on the wire: until when it can take effect at the partner, and whether it
    -- ends the user's whole grant there.
    sent_until     INTEGER,
    whole_grant    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX revocations_by_due ON revocations (due_at, id);
CREATE INDEX revocations_by_access ON revocations (access_mac);
CREATE INDEX revocations_by_refresh ON revocations (refresh_mac) WHERE refresh_mac IS NOT NULL;
CREATE INDEX revocations_by_user ON revocations (institution_id, user_id) WHERE whole_grant;

-- What is to be sent: webhooks to applications, and what partners are told of applications. A
-- number is never used twice: what settles one late must not meet another.
CREATE TABLE outbox (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    item_id        TEXT    NOT NULL,
    -- Who is told, or of whom a partner is told.
    application_id TEXT    NOT NULL,
    -- Where to: an application's address, or a partner. The latter outlives the Item.
    url            TEXT,
    institution_id TEXT,
    -- A body with a token in it is sealed.
    body           TEXT,
    key_id         TEXT,
    sealed         BLOB,
    attempt        INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    due_at         INTEGER NOT NULL,
    CHECK ((url IS NULL) <> (institution_id IS NULL)),
    CHECK ((body IS NULL) <> (sealed IS NULL))
) STRICT;

CREATE INDEX outbox_by_due ON outbox (due_at, id);
-- How long the oldest one waits.
CREATE INDEX outbox_by_age ON outbox (created_at);
CREATE INDEX outbox_by_item ON outbox (item_id);

-- What was done with the consent to an Item; the number is the order.
CREATE TABLE activities (
    item_id     TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    activity_id TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    PRIMARY KEY (item_id, number)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX activities_by_id ON activities (item_id, activity_id);

-- When an application last read each kind of data, to the minute.
CREATE TABLE reads (
    item_id        TEXT    NOT NULL,
    application_id TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    read_at        INTEGER NOT NULL,
    PRIMARY KEY (item_id, application_id, kind)
) STRICT, WITHOUT ROWID;

-- One-time tokens, by digest; what they stand for is sealed.
CREATE TABLE tickets (
    digest     BLOB    NOT NULL PRIMARY KEY,
    kind       TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    key_id     TEXT    NOT NULL,
    sealed     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tickets_by_end ON tickets (expires_at);

CREATE TABLE accounts (
    item_id    TEXT NOT NULL,
    account_id TEXT NOT NULL,
    partner_id TEXT NOT NULL,
    standing   TEXT NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (item_id, account_id)
) STRICT, WITHOUT ROWID;

-- All identities of an Item in one row: they are read and replaced together.
CREATE TABLE identities (
    item_id          TEXT NOT NULL PRIMARY KEY,
    user_identity_id TEXT NOT NULL,
    body             TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE securities (
    item_id     TEXT NOT NULL,
    security_id TEXT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (item_id, security_id)
) STRICT, WITHOUT ROWID;

-- A table with row numbers on purpose: rows that are stored together lie together, and an
-- update touches few pages.
CREATE TABLE transactions (
    item_id        TEXT    NOT NULL,
    transaction_id TEXT    NOT NULL,
    partner_id     TEXT    NOT NULL,
    account_id     TEXT    NOT NULL,
    -- By which windows and pages sort: `settled`, else `transacted`.
    date           INTEGER NOT NULL,
    transacted     INTEGER NOT NULL,
    settled        INTEGER,
    amount         TEXT    NOT NULL,
    -- UTF-8; a partner's text may have a NUL, at which a text in SQLite's JSON ends.
    unit           BLOB    NOT NULL,
    description    BLOB,
    digest         BLOB    NOT NULL,
    read_at        INTEGER NOT NULL,
    removed_at     INTEGER,
    -- The Item's `change_seq` when it came for the first time, when it came last, and when it
    -- last changed in any way.
    first_seq      INTEGER NOT NULL,
    added_seq      INTEGER NOT NULL,
    changed_seq    INTEGER NOT NULL,
    -- Null once it is gone.
    body           TEXT,
    PRIMARY KEY (item_id, transaction_id)
) STRICT;

-- Pages and windows, and their counts for some accounts without reading a row. Only with
-- `removed_at` in it, though it is null, does SQLite see that the index alone will do.
CREATE INDEX transactions_by_date
    ON transactions (item_id, date DESC, transaction_id, account_id, removed_at)
    WHERE removed_at IS NULL;
CREATE INDEX transactions_by_change ON transactions (item_id, changed_seq, transaction_id);
-- Not unique: a partner's id may come back as another transaction.
CREATE INDEX transactions_by_partner ON transactions (item_id, partner_id);
CREATE INDEX transactions_pending
    ON transactions (item_id, transacted, settled, removed_at, account_id)
    WHERE settled IS NULL AND removed_at IS NULL;
-- Those that are removed, by age, for their deletion.
CREATE INDEX transactions_removed ON transactions (removed_at) WHERE removed_at IS NOT NULL;

-- Removed Items whose transactions are not all deleted yet.
CREATE TABLE leftovers (item_id TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;

-- What waits for a decision, and what was decided and can be taken back; `number` is the order.
CREATE TABLE reviews (
    item_id        TEXT    NOT NULL,
    number         INTEGER NOT NULL,
    institution_id TEXT    NOT NULL,
    -- Whether it is a question of transaction ids that is open: many Items at once are a migration.
    is_evidence    INTEGER NOT NULL,
    body           TEXT    NOT NULL,
    PRIMARY KEY (item_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX reviews_by_institution ON reviews (institution_id, item_id);

-- The partner's ids that a decision replaced, so that it can be taken back.
CREATE TABLE moved (
    item_id        TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    partner_id     TEXT NOT NULL,
    PRIMARY KEY (item_id, transaction_id)
) STRICT, WITHOUT ROWID;

-- An operator's decision for all Items of an institution.
CREATE TABLE rulings (
    institution_id TEXT NOT NULL PRIMARY KEY,
    body           TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Updates of an institution's Items by the hour, counted from 1970; of the last eight days.
CREATE TABLE updates (
    institution_id TEXT    NOT NULL,
    hour           INTEGER NOT NULL,
    updates        INTEGER NOT NULL,
    PRIMARY KEY (institution_id, hour)
) STRICT, WITHOUT ROWID;
