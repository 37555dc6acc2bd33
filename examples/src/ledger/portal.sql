-- What the bank's customers share, and what Plaid has yet to be told. Bodies are JSON text.
-- Laid out at each opening: books from before there was a Plaid get it too.
CREATE TABLE IF NOT EXISTS plaid_tokens (user_id TEXT PRIMARY KEY, token TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS connected_applications (
    user_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    application_id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (user_id, application_id)
) STRICT, WITHOUT ROWID;

-- due is the moment of the next try, and NULL once Plaid has done it.
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

-- A number is never given twice: AUTOINCREMENT.
CREATE TABLE IF NOT EXISTS notifications (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notifications_in_order ON notifications (lane, n);

-- Transactions that were booked and that no notification tells of yet.
CREATE TABLE IF NOT EXISTS booked (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;

-- Customers who consented on the bank's site and were sent to Plaid's page. ends: expiry of the link
-- token, in milliseconds. If no application is connected by then, the tokens made for it are revoked.
CREATE TABLE IF NOT EXISTS pending_links (user_id TEXT PRIMARY KEY, ends INTEGER NOT NULL) STRICT, WITHOUT ROWID;
