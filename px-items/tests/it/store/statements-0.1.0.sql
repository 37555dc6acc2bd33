UPDATE items SET
    state = ?3,
    life = ?4,
    change_seq = change_seq + ?5,
    cycle_tokens = cycle_tokens AND NOT ?12,
    refresh_begun_at = iif(?12, NULL, refresh_begun_at),
    lost_leases = 0,
    leased_until = ?6,
    not_before = CASE WHEN ?6 IS NULL THEN ?8 ELSE not_before END,
    notified_since = CASE WHEN ?6 IS NULL AND notified <= ?9 THEN NULL ELSE notified_since END,
    due_at = CASE
        WHEN ?6 IS NOT NULL THEN due_at
        WHEN ?10 THEN NULL
        WHEN notified > ?9
        THEN min(ifnull(?7, max(?11, ifnull(?8, ?11))), max(?11, ifnull(?8, ?11)))
        ELSE ?7
    END
WHERE item_id = ?1 AND fence = ?2 AND leased_until IS NOT NULL
RETURNING change_seq
---
DELETE FROM accounts WHERE item_id = ?1 AND account_id IN (SELECT value FROM json_each(?2))
---
INSERT INTO accounts (item_id, account_id, partner_id, standing, body)
SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?2) WHERE true
ON CONFLICT (item_id, account_id) DO UPDATE SET
    partner_id = excluded.partner_id, standing = excluded.standing, body = excluded.body
---
INSERT INTO identities (item_id, user_identity_id, body) VALUES (?1, ?2, ?3)
ON CONFLICT (item_id) DO UPDATE SET
    user_identity_id = excluded.user_identity_id, body = excluded.body
---
INSERT INTO securities (item_id, security_id, body)
SELECT ?1, key, value FROM json_each(?2) WHERE true
ON CONFLICT (item_id, security_id) DO UPDATE SET body = excluded.body
---
UPDATE transactions SET removed_at = ?3, body = NULL, changed_seq = ?4
WHERE item_id = ?1 AND transaction_id IN (SELECT value FROM json_each(?2))
    AND +removed_at IS NULL
---
INSERT INTO transactions (
    item_id, transaction_id, partner_id, account_id, amount, unit, transacted, settled, date,
    description, digest, read_at, body, first_seq, added_seq, changed_seq
)
SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5,
    value ->> 6, ifnull(value ->> 6, value ->> 5), unhex(value ->> 7), unhex(value ->> 8),
    value ->> 9, value ->> 10, ?3, ?3, ?3
FROM json_each(?2) WHERE true
ON CONFLICT (item_id, transaction_id) DO UPDATE SET
    partner_id = excluded.partner_id,
    account_id = excluded.account_id,
    amount = excluded.amount,
    unit = excluded.unit,
    transacted = excluded.transacted,
    settled = excluded.settled,
    date = excluded.date,
    description = excluded.description,
    digest = excluded.digest,
    read_at = excluded.read_at,
    body = excluded.body,
    removed_at = NULL,
    -- One that was gone is added again.
    added_seq = iif(removed_at IS NULL, added_seq, excluded.added_seq),
    -- Another id of the partner's is no change of what applications read.
    changed_seq = iif(removed_at IS NULL AND digest = excluded.digest, changed_seq,
        excluded.changed_seq)
---
SELECT account_id FROM accounts WHERE item_id = ?1 AND standing <> ?2
---
UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, access_mac = NULL, refresh_mac = NULL WHERE item_id = ?1 AND version = ?2
---
SELECT body FROM connections WHERE item_id = ?1 ORDER BY application_id
---
INSERT INTO connections (item_id, application_id, body) VALUES (?1, ?2, ?3) ON CONFLICT (item_id, application_id) DO UPDATE SET body = excluded.body
---
SELECT key_id, count(*) AS rows FROM tokens WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT item_id AS name, 0 AS id, key_id, sealed FROM tokens WHERE sealed IS NOT NULL AND item_id > ?1 AND ?2 IS NOT NULL ORDER BY item_id LIMIT ?3
---
UPDATE tokens AS q SET key_id = new.key_id, sealed = new.sealed FROM (SELECT value ->> 0 AS name, value ->> 1 AS id, unhex(value ->> 2) AS old, value ->> 3 AS key_id, unhex(value ->> 4) AS sealed FROM json_each(?1)) AS new WHERE q.item_id = new.name AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM revocations WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT item_id AS name, id AS id, key_id, sealed FROM revocations WHERE sealed IS NOT NULL AND ?1 IS NOT NULL AND id > ?2 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3
---
UPDATE revocations AS q SET key_id = new.key_id, sealed = new.sealed FROM (SELECT value ->> 0 AS name, value ->> 1 AS id, unhex(value ->> 2) AS old, value ->> 3 AS key_id, unhex(value ->> 4) AS sealed FROM json_each(?1)) AS new WHERE q.id = new.id AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM outbox WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT item_id AS name, id AS id, key_id, sealed FROM outbox WHERE sealed IS NOT NULL AND ?1 IS NOT NULL AND id > ?2 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3
---
UPDATE outbox AS q SET key_id = new.key_id, sealed = new.sealed FROM (SELECT value ->> 0 AS name, value ->> 1 AS id, unhex(value ->> 2) AS old, value ->> 3 AS key_id, unhex(value ->> 4) AS sealed FROM json_each(?1)) AS new WHERE q.id = new.id AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM tickets WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT lower(hex(digest)) AS name, 0 AS id, key_id, sealed FROM tickets WHERE sealed IS NOT NULL AND digest > unhex(?1) AND ?2 IS NOT NULL ORDER BY digest LIMIT ?3
---
UPDATE tickets AS q SET key_id = new.key_id, sealed = new.sealed FROM (SELECT value ->> 0 AS name, value ->> 1 AS id, unhex(value ->> 2) AS old, value ->> 3 AS key_id, unhex(value ->> 4) AS sealed FROM json_each(?1)) AS new WHERE q.digest = unhex(new.name) AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM secrets WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT name AS name, 0 AS id, key_id, sealed FROM secrets WHERE sealed IS NOT NULL AND name > ?1 AND ?2 IS NOT NULL ORDER BY name LIMIT ?3
---
UPDATE secrets AS q SET key_id = new.key_id, sealed = new.sealed FROM (SELECT value ->> 0 AS name, value ->> 1 AS id, unhex(value ->> 2) AS old, value ->> 3 AS key_id, unhex(value ->> 4) AS sealed FROM json_each(?1)) AS new WHERE q.name = new.name AND q.sealed = new.old
---
DELETE FROM access WHERE item_id = ?1
---
DELETE FROM connections WHERE item_id = ?1
---
DELETE FROM tokens WHERE item_id = ?1
---
DELETE FROM outbox WHERE item_id = ?1 AND institution_id IS NULL
---
DELETE FROM activities WHERE item_id = ?1
---
DELETE FROM reads WHERE item_id = ?1
---
DELETE FROM reviews WHERE item_id = ?1
---
DELETE FROM moved WHERE item_id = ?1
---
DELETE FROM accounts WHERE item_id = ?1
---
DELETE FROM identities WHERE item_id = ?1
---
DELETE FROM securities WHERE item_id = ?1
---
INSERT INTO items (item_id, institution_id, user_id, created_at, state, life, fence, due_at, notified, change_seq, epochs, needs_transactions, cycle_tokens) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?4, 0, 0, ?7, ?8, 0)
---
UPDATE items SET cycle_tokens = 0, refresh_begun_at = NULL WHERE item_id = ?1
---
UPDATE items SET state = ?2, epochs = epochs + ?3, needs_transactions = ?4, notified = notified + ?5, due_at = CASE WHEN ?5 AND leased_until IS NULL THEN min(ifnull(due_at, max(?6, ifnull(not_before, ?6))), max(?6, ifnull(not_before, ?6))) ELSE due_at END WHERE item_id = ?1
---
UPDATE items SET needs_transactions = ?2 WHERE item_id = ?1
---
DELETE FROM outbox WHERE item_id = ?1 AND application_id = ?2 AND institution_id IS NULL
---
DELETE FROM item_keys WHERE (institution_id, user_id) = (SELECT institution_id, user_id FROM items WHERE item_id = ?1)
---
DELETE FROM items WHERE item_id = ?1
---
UPDATE access SET digest = ?2 WHERE digest = ?1
---
INSERT INTO item_keys (institution_id, user_id, item_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING
---
SELECT item_id FROM item_keys WHERE institution_id = ?1 AND user_id = ?2
---
SELECT institution_id, user_id, state, life, epochs FROM items WHERE item_id = ?1
---
SELECT partner_id, standing, body FROM accounts WHERE item_id = ?1 ORDER BY account_id
---
DELETE FROM connections WHERE item_id = ?1 AND application_id = ?2
---
SELECT 1 FROM access WHERE item_id = ?1 AND application_id IS NULL
---
SELECT count(*) FROM connections WHERE item_id = ?1
---
SELECT institution_id FROM items i WHERE item_id = ?1 AND (?2 IS NULL OR EXISTS (SELECT 1 FROM connections c WHERE c.item_id = ?1 AND c.application_id = ?2))
---
INSERT INTO access (digest, item_id, institution_id, application_id) VALUES (?1, ?2, ?3, ?4)
---
DELETE FROM access WHERE item_id = ?1 AND application_id IS ?2
---
SELECT account_id, count(*) AS rows FROM transactions WHERE item_id = ?1 AND removed_at IS NULL GROUP BY account_id
---
INSERT INTO activities (item_id, number, activity_id, body)
SELECT ?1, ifnull(max(number), 0) + 1, ?2, ?3 FROM activities WHERE item_id = ?1
---
SELECT body FROM activities WHERE item_id = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3
---
INSERT INTO reads (item_id, application_id, kind, read_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1)
WHERE EXISTS (SELECT 1 FROM items WHERE item_id = value ->> 0)
ON CONFLICT (item_id, application_id, kind)
    DO UPDATE SET read_at = max(read_at, excluded.read_at)
---
SELECT number FROM activities WHERE item_id = ?1 AND activity_id = ?2
---
SELECT application_id, kind, read_at FROM reads WHERE item_id = ?1 ORDER BY application_id, kind
---
DELETE FROM partner_permits WHERE institution_id = ?1 AND leased_until <= ?2
---
SELECT coalesce(sum(permits), 0) FROM partner_permits WHERE institution_id = ?1 AND holder <> ?2
---
DELETE FROM partner_permits WHERE institution_id = ?1 AND holder = ?2
---
INSERT INTO partner_permits (institution_id, holder, permits, leased_until) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (institution_id, holder) DO UPDATE SET permits = excluded.permits, leased_until = excluded.leased_until
---
INSERT INTO partners (institution_id, state) VALUES (?1, ?2) ON CONFLICT (institution_id) DO UPDATE SET state = excluded.state
---
SELECT state FROM partners WHERE institution_id = ?1
---
DELETE FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions WHERE item_id = ?1 LIMIT ?2
)
---
DELETE FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions WHERE removed_at < ?1 ORDER BY removed_at LIMIT ?2
)
---
SELECT item_id FROM leftovers ORDER BY item_id LIMIT 1
---
SELECT 1 FROM transactions WHERE removed_at < ?1 LIMIT 1
---
DELETE FROM leftovers WHERE item_id = ?1
---
INSERT OR IGNORE INTO leftovers (item_id) VALUES (?1)
---
DELETE FROM transactions WHERE item_id = ?1
---
INSERT INTO outbox (
    item_id, application_id, url, institution_id, body, key_id, sealed, attempt, created_at, due_at
)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
    unhex(value ->> 6), 0, ?2, ?2
FROM json_each(?1) ORDER BY key
---
SELECT o.id, o.item_id, o.application_id, o.url, o.body
FROM json_each(?1) AS new CROSS JOIN outbox o
WHERE o.item_id = new.value ->> 0 AND o.application_id = new.value ->> 1
    AND o.url = new.value ->> 2 AND o.attempt = 0 AND o.body IS NOT NULL
---
UPDATE outbox SET body = new.value ->> 1
FROM json_each(?1) AS new WHERE outbox.id = new.value ->> 0
---
SELECT id, item_id, application_id, url, institution_id, body, key_id, sealed, created_at,
    attempt + 1 AS attempt
FROM outbox WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2
---
UPDATE outbox SET attempt = attempt + 1, due_at = ?2
WHERE id IN (SELECT value FROM json_each(?1))
---
UPDATE outbox AS q SET attempt = q.attempt - 1, due_at = given.due_at
            FROM (SELECT value ->> 0 AS id, value ->> 1 AS attempt, value ->> 2 AS due_at
                FROM json_each(?1)) AS given
            WHERE q.id = given.id AND q.attempt = given.attempt
---
UPDATE revocations AS q SET attempt = q.attempt - 1, due_at = given.due_at
            FROM (SELECT value ->> 0 AS id, value ->> 1 AS attempt, value ->> 2 AS due_at
                FROM json_each(?1)) AS given
            WHERE q.id = given.id AND q.attempt = given.attempt
---
UPDATE outbox SET due_at = given.due_at
FROM (SELECT value ->> 0 AS id, value ->> 1 AS attempt, value ->> 2 AS due_at
    FROM json_each(?1)) AS given
WHERE outbox.id = given.id AND outbox.attempt = given.attempt
---
DELETE FROM outbox
WHERE (id, attempt) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
---
SELECT id, item_id, institution_id, user_id, key_id, sealed, created_at, attempt + 1 AS attempt
FROM revocations WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2
---
UPDATE revocations SET attempt = attempt + 1, due_at = ?2
WHERE id IN (SELECT value FROM json_each(?1))
---
UPDATE revocations SET due_at = ?3, sent_until = NULL, whole_grant = 0 WHERE id = ?1 AND attempt = ?2
---
DELETE FROM revocations WHERE id = ?1 AND attempt = ?2 AND ?3 IS NULL
---
SELECT count(*) AS total FROM transactions
WHERE item_id = ?1 AND removed_at IS NULL AND date BETWEEN ?2 AND ?3
    AND (?4 IS NULL OR account_id IN (SELECT value FROM json_each(?4)))
---
SELECT body FROM transactions
WHERE item_id = ?1 AND removed_at IS NULL AND date BETWEEN ?2 AND min(?3, ifnull(?5, ?3))
    AND (?4 IS NULL OR account_id IN (SELECT value FROM json_each(?4)))
    AND (?5 IS NULL OR date < ?5 OR transaction_id > ?6)
ORDER BY date DESC, transaction_id LIMIT ?7
---
SELECT transaction_id, account_id, first_seq, added_seq, changed_seq, body FROM transactions
WHERE item_id = ?1 AND (changed_seq, transaction_id) > (?2, ?3)
    AND (?4 IS NULL OR account_id IN (SELECT value FROM json_each(?4)))
    -- What came and went since the base is nothing to the reader.
    AND (removed_at IS NULL OR first_seq <= ?6)
ORDER BY changed_seq, transaction_id LIMIT ?5
---
SELECT min(created_at) AS since FROM outbox
---
SELECT item_id, institution_id, application_id FROM access WHERE digest = ?1
---
SELECT i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id AND t.settled IS NULL AND t.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.item_id = t.item_id AND a.account_id = t.account_id AND a.standing = 'closed')) AS oldest_pending FROM items i WHERE i.item_id = ?1
---
SELECT i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id AND t.settled IS NULL AND t.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.item_id = t.item_id AND a.account_id = t.account_id AND a.standing = 'closed')) AS oldest_pending FROM items i WHERE i.item_id > ?1 ORDER BY i.item_id LIMIT ?2
---
SELECT user_identity_id, body FROM identities WHERE item_id = ?1
---
SELECT body FROM securities WHERE item_id = ?1 ORDER BY security_id
---
SELECT change_seq FROM items WHERE item_id = ?1
---
SELECT state, count(*) AS items FROM items GROUP BY state
---
SELECT count(*) AS items, min(wake_at) AS since FROM items WHERE wake_at <= ?1
---
SELECT count(*) AS webhooks FROM outbox
---
INSERT INTO reviews (item_id, number, institution_id, is_evidence, body)
SELECT ?1, key, ?2, value ->> 0, value ->> 1 FROM json_each(?3)
---
INSERT INTO moved (item_id, transaction_id, partner_id)
SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE true
ON CONFLICT (item_id, transaction_id) DO NOTHING
---
UPDATE transactions SET partner_id = moved.partner_id FROM moved
WHERE moved.item_id = ?1 AND transactions.item_id = ?1
    AND transactions.transaction_id = moved.transaction_id
---
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE item_id > ?2 ORDER BY item_id LIMIT ?3
) AND ?1 IS NULL ORDER BY item_id, number
---
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE institution_id = ?1 AND item_id > ?2
    ORDER BY item_id LIMIT ?3
) ORDER BY item_id, number
---
SELECT
    (SELECT count(DISTINCT item_id) FROM reviews WHERE institution_id = ?1 AND is_evidence)
        AS items_on_hold,
    (SELECT ifnull(sum(updates), 0) FROM updates WHERE institution_id = ?1 AND hour > ?2) AS reads_since,
    (SELECT ifnull(sum(updates), 0) FROM updates
        WHERE institution_id = ?1 AND hour > ?2 - ?3 AND hour <= ?2) AS reads_before
---
INSERT INTO updates (institution_id, hour, updates) VALUES (?1, ?2, ?3)
ON CONFLICT (institution_id, hour) DO UPDATE SET updates = updates + excluded.updates
---
DELETE FROM updates WHERE institution_id = ?1 AND hour < ?2
---
INSERT INTO rulings (institution_id, body) VALUES (?1, ?2) ON CONFLICT (institution_id) DO UPDATE SET body = excluded.body
---
SELECT body FROM rulings WHERE institution_id = ?1
---
DELETE FROM rulings WHERE institution_id = ?1
---
SELECT expires_at, key_id, sealed FROM tickets
WHERE digest = ?1 AND kind = ?2 AND expires_at > ?3
---
DELETE FROM tickets WHERE digest = ?1 AND kind = ?2 AND expires_at > ?3
RETURNING expires_at, key_id, sealed
---
DELETE FROM tickets WHERE digest IN (
    SELECT digest FROM tickets WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)
---
SELECT 1 FROM tickets WHERE expires_at <= ?1 LIMIT 1
---
INSERT OR REPLACE INTO tickets (digest, kind, expires_at, key_id, sealed) VALUES (?1, ?2, ?3, ?4, ?5)
---
UPDATE items SET refresh_begun_at = CASE WHEN ?3 IS NULL THEN NULL ELSE ifnull(refresh_begun_at, ?3) END WHERE item_id = ?1 AND EXISTS (SELECT 1 FROM tokens WHERE item_id = ?1 AND version = ?2 AND sealed IS NOT NULL)
---
SELECT name, key_id, sealed FROM secrets WHERE name LIKE ?1 ORDER BY length(name) DESC, name DESC
---
INSERT INTO secrets (name, key_id, sealed) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING
---
SELECT access_mac, refresh_mac FROM revocations WHERE id = ?1 AND attempt = ?2
---
SELECT EXISTS (SELECT 1 FROM tokens WHERE access_mac = ?1) OR EXISTS (SELECT 1 FROM tokens WHERE refresh_mac = ?2) OR (?3 AND EXISTS (SELECT 1 FROM item_keys k JOIN tokens t ON t.item_id = k.item_id AND t.sealed IS NOT NULL WHERE k.institution_id = ?4 AND k.user_id = ?5)) AS in_use
---
DELETE FROM revocations WHERE id = ?1
---
UPDATE revocations SET sent_until = ?2, whole_grant = ?3 WHERE id = ?1
---
SELECT linked_version FROM tokens WHERE item_id = ?1
---
SELECT ifnull(sent_until > ?5, 0) AS under_way FROM revocations WHERE access_mac = ?1 OR refresh_mac = ?2 OR (whole_grant AND institution_id = ?3 AND user_id = ?4)
---
DELETE FROM revocations WHERE access_mac = ?1 OR refresh_mac = ?2
---
SELECT institution_id FROM items WHERE item_id = ?1
---
UPDATE tokens SET version = version + 1, key_id = ?3, sealed = ?4, access_mac = ?5, refresh_mac = ?6 WHERE item_id = ?1 AND version = ?2 AND sealed IS NOT NULL
---
SELECT version, key_id, sealed FROM tokens WHERE item_id = ?1 AND sealed IS NOT NULL
---
INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, access_mac, refresh_mac, attempt, created_at, due_at) SELECT item_id, ?2, ?3, key_id, sealed, access_mac, refresh_mac, 0, ?4, ?4 FROM tokens WHERE item_id = ?1 AND sealed IS NOT NULL
---
INSERT INTO tokens (item_id, version, linked_version, key_id, sealed, access_mac, refresh_mac) VALUES (?1, 1, 1, ?2, ?3, ?4, ?5) ON CONFLICT (item_id) DO UPDATE SET version = version + 1, linked_version = version + 1, key_id = excluded.key_id, sealed = excluded.sealed, access_mac = excluded.access_mac, refresh_mac = excluded.refresh_mac
---
UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, access_mac = NULL, refresh_mac = NULL WHERE item_id IN (SELECT value FROM json_each(?1))
---
INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, access_mac, refresh_mac, attempt, created_at, due_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?8)
---
SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
WHERE wake_at <= ?1 AND ?3 IS NOT NULL
ORDER BY wake_at, item_id LIMIT ?2
---
SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
WHERE refresh_begun_at IS NOT NULL AND (leased_until IS NULL OR leased_until <= ?1)
    AND state IN (SELECT key FROM json_each(?3))
ORDER BY refresh_begun_at, item_id LIMIT ?2
---
UPDATE items SET
    state = ifnull((SELECT value FROM json_each(?2) WHERE key = state), state),
    fence = iif(state IN (SELECT key FROM json_each(?2)), ?4, fence),
    lost_leases = lost_leases
        + (leased_until IS NOT NULL AND state IN (SELECT key FROM json_each(?2))),
    leased_until = iif(state IN (SELECT key FROM json_each(?2)), ?3, NULL),
    due_at = iif(state IN (SELECT key FROM json_each(?2)), due_at, ?5)
WHERE item_id IN (SELECT value FROM json_each(?1))
---
SELECT i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id AND t.settled IS NULL AND t.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.item_id = t.item_id AND a.account_id = t.account_id AND a.standing = 'closed')) AS oldest_pending FROM json_each(?1) AS taken CROSS JOIN items i ON i.item_id = taken.value WHERE i.fence = ?2 AND i.leased_until IS NOT NULL ORDER BY taken.key
---
SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
WHERE item_id = ?1 AND (leased_until IS NULL OR leased_until <= ?2)
    AND state IN (SELECT key FROM json_each(?3))
---
UPDATE items SET state = (SELECT value FROM json_each(?2) WHERE key = state), leased_until = NULL,
    due_at = given.due_at
FROM (SELECT value ->> 0 AS item_id, value ->> 1 AS fence, value ->> 2 AS due_at
    FROM json_each(?1)) AS given
WHERE items.item_id = given.item_id AND items.fence = given.fence
    AND items.leased_until IS NOT NULL AND state IN (SELECT key FROM json_each(?2))
---
UPDATE items SET refresh_begun_at = NULL
WHERE item_id IN (SELECT value FROM json_each(?1)) AND refresh_begun_at <= ?2
---
SELECT transaction_id, partner_id, account_id, amount, unit, transacted, settled, description,
    digest, read_at, removed_at
FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions
    WHERE item_id = ?1 AND removed_at IS NULL AND date BETWEEN ?2 AND ?3
    UNION SELECT t.rowid FROM json_each(?4) AS id
    CROSS JOIN transactions AS t ON t.item_id = ?1 AND t.transaction_id = id.value
    UNION SELECT t.rowid FROM json_each(?4) AS id
    CROSS JOIN transactions AS t ON t.item_id = ?1 AND t.partner_id = id.value
) ORDER BY transaction_id
---
UPDATE items SET
    notified = notified + 1,
    notified_since = coalesce(min(notified_since, asked.since), notified_since, asked.since),
    -- One that lost its authorization has no tokens.
    cycle_tokens = cycle_tokens OR (asked.cycle AND state NOT IN (SELECT value FROM json_each(?3))),
    due_at = CASE
        WHEN leased_until IS NULL AND state NOT IN (SELECT value FROM json_each(?3))
        THEN min(ifnull(due_at, max(?2, ifnull(not_before, ?2))), max(?2, ifnull(not_before, ?2)))
        ELSE due_at
    END
FROM (SELECT value ->> 0 AS item_id, value ->> 1 AS since, value ->> 2 AS cycle
    FROM json_each(?1)) AS asked
WHERE items.item_id = asked.item_id
---
UPDATE items SET state = (SELECT value FROM json_each(?2) WHERE key = state), fence = ?4,
    leased_until = NULL, due_at = NULL, cycle_tokens = 0, refresh_begun_at = NULL
WHERE item_id IN (SELECT value FROM json_each(?1))
    AND state NOT IN (SELECT value FROM json_each(?3))
    AND state IN (SELECT key FROM json_each(?2))
RETURNING item_id
---
SELECT item_id, body FROM json_each(?1) AS named CROSS JOIN connections
    ON connections.item_id = named.value
ORDER BY item_id, application_id
---
UPDATE items SET leased_until = ?3 WHERE item_id = ?1 AND fence = ?2 AND leased_until IS NOT NULL
---
SELECT digest, item_id FROM json_each(?1) AS named CROSS JOIN access ON access.digest = unhex(named.value) WHERE institution_id = ?2
