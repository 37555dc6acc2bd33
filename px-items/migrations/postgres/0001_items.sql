-- Items and everything that is theirs, keyed by Item first, so that one key can shard it all.
--
-- No foreign keys: every change of an Item's rows begins with a lock on the row in `items`, so
-- nothing can be left behind, and no insert has to look at another table.
-- Ids are compared by bytes (collation "C"), whatever the language of the database is.
-- Messages are kept as JSON text and not as jsonb: nothing is asked of their insides, and a
-- number in them stays as the partner wrote it.

-- The newest migration that a program must know to work on this schema. A migration that takes away
-- what an earlier version uses raises it.
-- `environment` is the one that the database was opened for first; it is never opened for another.
CREATE TABLE compatibility (oldest bigint NOT NULL, environment text);
INSERT INTO compatibility (oldest) VALUES (1);

CREATE TABLE items (
    item_id text COLLATE "C" PRIMARY KEY,
    institution_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    state text COLLATE "C" NOT NULL,
    life text NOT NULL,
    -- The fencing token: random, drawn again by each claim and by whatever else ends a lease.
    fence bigint NOT NULL DEFAULT 0,
    due_at timestamptz,
    leased_until timestamptz,
    -- When a worker may take it: the schedule is this column.
    wake_at timestamptz GENERATED ALWAYS AS (coalesce(leased_until, due_at)) STORED,
    not_before timestamptz,
    notified bigint NOT NULL DEFAULT 0,
    notified_since date,
    change_seq bigint NOT NULL DEFAULT 0,
    -- How many epochs its connections have used.
    epochs bigint NOT NULL DEFAULT 0,
    needs_transactions boolean NOT NULL,
    cycle_tokens boolean NOT NULL DEFAULT false,
    -- A refresh of the tokens began then, and its outcome is not known.
    refresh_begun_at timestamptz,
    -- Leases that ran out since the last commit.
    lost_leases integer NOT NULL DEFAULT 0,
    -- An Item without authorization rests.
    CHECK (state NOT IN ('created_login_required', 'idle_login_required')
        OR (due_at IS NULL AND leased_until IS NULL))
)
-- Each claim and each commit writes a row anew. Room on the page and a vacuum that comes early
-- keep the old versions from piling up where claims look.
WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- `state` is in it so that counting the states reads the index alone.
CREATE INDEX items_by_wake ON items (wake_at, item_id) INCLUDE (state);

-- A few rows at most: refreshes that are under way, or whose worker stopped.
CREATE INDEX items_by_refresh ON items (refresh_begun_at, item_id)
    WHERE refresh_begun_at IS NOT NULL;

-- What all processes know of a partner. Locked by whoever leases permits of it.
CREATE TABLE partners (
    institution_id text COLLATE "C" PRIMARY KEY,
    state text
);

-- Permits that processes hold: the Items of a partner that each may work on at once.
CREATE TABLE partner_permits (
    institution_id text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    permits integer NOT NULL,
    leased_until timestamptz NOT NULL,
    PRIMARY KEY (institution_id, holder)
)
WITH (fillfactor = 70);

-- The Item of a user. A table of its own, because it is looked for by another key than the
-- Item's; that it is unique is what keeps two links at once from making two Items.
CREATE TABLE item_keys (
    institution_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (institution_id, user_id)
);

-- Whose an access token is; looked for by its digest, for the same reason a table of its own.
CREATE TABLE access (
    digest bytea PRIMARY KEY,
    item_id text COLLATE "C" NOT NULL,
    institution_id text COLLATE "C" NOT NULL,
    -- NULL is the partner itself.
    application_id text COLLATE "C"
);

CREATE INDEX access_by_item ON access (item_id);

CREATE TABLE connections (
    item_id text COLLATE "C" NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (item_id, application_id)
);

CREATE TABLE tokens (
    item_id text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    -- The version that the last authorization had; higher ones were refreshed from it.
    linked_version bigint NOT NULL,
    -- All NULL once the partner refused the tokens.
    key_id text,
    sealed bytea,
    -- Keyed digests of the access token and the refresh token, each with the institution.
    access_mac bytea,
    refresh_mac bytea
);

CREATE INDEX tokens_by_access ON tokens (access_mac) WHERE access_mac IS NOT NULL;
CREATE INDEX tokens_by_refresh ON tokens (refresh_mac) WHERE refresh_mac IS NOT NULL;

-- Secrets of the store itself, sealed like every other one, each for its name. `token-digests` is
-- the key of the digests of tokens: it stays the same whatever it is sealed under.
CREATE TABLE secrets (
    name text COLLATE "C" PRIMARY KEY,
    key_id text NOT NULL,
    sealed bytea NOT NULL
);

CREATE TABLE accounts (
    item_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    partner_id text COLLATE "C" NOT NULL,
    standing text NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (item_id, account_id)
);

CREATE TABLE identities (
    item_id text COLLATE "C" PRIMARY KEY,
    user_identity_id text COLLATE "C" NOT NULL,
    body text NOT NULL
);

CREATE TABLE securities (
    item_id text COLLATE "C" NOT NULL,
    security_id text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (item_id, security_id)
);

CREATE TABLE transactions (
    item_id text COLLATE "C" NOT NULL,
    -- The Item's own id, and the partner's present one.
    transaction_id text COLLATE "C" NOT NULL,
    partner_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    amount text NOT NULL,
    -- UTF-8; a partner's text may have a NUL, which `text` does not take.
    unit bytea NOT NULL,
    transacted date NOT NULL,
    settled date,
    -- The date that windows and pages sort by.
    date date GENERATED ALWAYS AS (coalesce(settled, transacted)) STORED,
    description bytea,
    digest bytea NOT NULL,
    read_at timestamptz NOT NULL,
    removed_at timestamptz,
    -- The changes that added it first, that added it last, and that touched it last.
    first_seq bigint NOT NULL,
    added_seq bigint NOT NULL,
    changed_seq bigint NOT NULL,
    -- NULL once it is gone.
    body text,
    PRIMARY KEY (item_id, transaction_id)
);

CREATE INDEX transactions_by_date ON transactions (item_id, date DESC, transaction_id)
    INCLUDE (account_id) WHERE removed_at IS NULL;

CREATE INDEX transactions_by_change ON transactions (item_id, changed_seq, transaction_id);

CREATE INDEX transactions_pending ON transactions (item_id, transacted, account_id)
    WHERE settled IS NULL AND removed_at IS NULL;

-- Those that are removed, by age, for their deletion.
CREATE INDEX transactions_removed ON transactions (removed_at) WHERE removed_at IS NOT NULL;

-- Nearly every transaction keeps the partner's first id; only the others need a way of their own.
CREATE INDEX transactions_by_partner ON transactions (item_id, partner_id)
    WHERE partner_id <> transaction_id;

-- Removed Items whose transactions are not all deleted yet.
CREATE TABLE leftovers (item_id text COLLATE "C" PRIMARY KEY);

-- What is to be sent: webhooks to applications, and what partners are told of applications. The
-- number tells rows of one Item apart and keeps their order; whoever settles one names its Item
-- too.
CREATE TABLE outbox (
    item_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- Who is told, or of whom a partner is told.
    application_id text COLLATE "C" NOT NULL,
    -- Where to: an application's address, or a partner. The latter outlives the Item.
    url text,
    institution_id text COLLATE "C",
    -- A body with a token in it is sealed.
    body text,
    key_id text,
    sealed bytea,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    PRIMARY KEY (item_id, id),
    CHECK ((url IS NULL) <> (institution_id IS NULL)),
    CHECK ((body IS NULL) <> (sealed IS NULL))
)
WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX outbox_by_due ON outbox (due_at, id);
-- How long the oldest one waits.
CREATE INDEX outbox_by_age ON outbox (created_at);

-- Tokens that wait to be revoked; their Item may be gone.
CREATE TABLE revocations (
    item_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    institution_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    key_id text NOT NULL,
    sealed bytea NOT NULL,
    access_mac bytea NOT NULL,
    refresh_mac bytea,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    -- While the request is on the wire: until when it can take effect at the partner, and whether it
    -- ends the user's whole grant there.
    sent_until timestamptz,
    whole_grant boolean NOT NULL DEFAULT false,
    PRIMARY KEY (item_id, id)
);

CREATE INDEX revocations_by_due ON revocations (due_at, id);
CREATE INDEX revocations_by_access ON revocations (access_mac);
CREATE INDEX revocations_by_refresh ON revocations (refresh_mac) WHERE refresh_mac IS NOT NULL;
CREATE INDEX revocations_by_user ON revocations (institution_id, user_id) WHERE whole_grant;

-- What was done with the consent to an Item; the number is the order.
CREATE TABLE activities (
    item_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    activity_id text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (item_id, number)
);

CREATE UNIQUE INDEX activities_by_id ON activities (item_id, activity_id);

-- When an application last read each kind of data, to the minute.
CREATE TABLE reads (
    item_id text COLLATE "C" NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (item_id, application_id, kind)
)
WITH (fillfactor = 80);

-- One-time tokens, by digest; what they stand for is sealed.
CREATE TABLE tickets (
    digest bytea PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    key_id text NOT NULL,
    sealed bytea NOT NULL
);

CREATE INDEX tickets_by_end ON tickets (expires_at);

-- What waits for a decision, and what was decided and can be taken back; `number` is the order.
CREATE TABLE reviews (
    item_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    institution_id text COLLATE "C" NOT NULL,
    -- Whether it is a question of transaction ids that is open: many Items at once are a migration.
    is_evidence boolean NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (item_id, number)
);

CREATE INDEX reviews_by_institution ON reviews (institution_id, item_id);

-- The partner's ids that a decision replaced, so that it can be taken back.
CREATE TABLE moved (
    item_id text COLLATE "C" NOT NULL,
    transaction_id text COLLATE "C" NOT NULL,
    partner_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (item_id, transaction_id)
);

-- An operator's decision for all Items of an institution.
CREATE TABLE rulings (
    institution_id text COLLATE "C" PRIMARY KEY,
    body text NOT NULL
);

-- Updates of an institution's Items by the hour, counted from 1970; of the last eight days.
CREATE TABLE updates (
    institution_id text COLLATE "C" NOT NULL,
    hour bigint NOT NULL,
    updates bigint NOT NULL,
    PRIMARY KEY (institution_id, hour)
);
