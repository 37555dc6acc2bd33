-- Data that the bank's customers share, and pending notifications to Plaid. Bodies are JSON text.
-- The tables are created at each opening, because a database may be older than they are.
CREATE TABLE IF NOT EXISTS plaid_tokens (user_id TEXT PRIMARY KEY, token TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS connected_applications (
    user_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    application_id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (user_id, application_id)
) STRICT, WITHOUT ROWID;

-- due is the time of the next attempt, and NULL once Plaid has ended the access.
CREATE TABLE IF NOT EXISTS disconnections (
    user_id TEXT NOT NULL,
    application_id TEXT NOT NULL,
    due INTEGER,
    body TEXT NOT NULL,
    PRIMARY KEY (user_id, application_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS disconnections_due ON disconnections (due) WHERE due IS NOT NULL;

CREATE TABLE IF NOT EXISTS notices (
    notification_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    occurred INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS notices_of_user ON notices (user_id, occurred);

-- AUTOINCREMENT, because a number must never be used twice.
CREATE TABLE IF NOT EXISTS notifications (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notifications_in_order ON notifications (lane, n);

-- Booked transactions that are not yet in a notification.
CREATE TABLE IF NOT EXISTS booked (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;

-- Customers who consented on the bank's site and were sent to Plaid's page. ends: expiry of the link
-- token, in milliseconds. If no application is connected by then, the tokens made for it are revoked.
CREATE TABLE IF NOT EXISTS pending_links (user_id TEXT PRIMARY KEY, ends INTEGER NOT NULL) STRICT, WITHOUT ROWID;
