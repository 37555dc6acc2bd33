SELECT 1 FROM items WHERE item_id = $1 AND fence = $2 AND leased_until IS NOT NULL FOR UPDATE
---
SELECT account_id FROM accounts WHERE item_id = $1 AND standing <> $2
---
UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, access_mac = NULL, refresh_mac = NULL WHERE item_id = $1 AND version = $2
---
SELECT body FROM connections WHERE item_id = $1 ORDER BY application_id
---
INSERT INTO connections (item_id, application_id, body) VALUES ($1, $2, $3) ON CONFLICT (item_id, application_id) DO UPDATE SET body = excluded.body
---
SELECT key_id, count(*) AS rows FROM tokens WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT item_id AS name, 0::bigint AS id, key_id, sealed FROM tokens WHERE sealed IS NOT NULL AND item_id > $1 AND $2::bigint IS NOT NULL ORDER BY item_id LIMIT $3
---
UPDATE tokens q SET key_id = new.key_id, sealed = new.sealed FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[]) AS new (name, id, old, key_id, sealed) WHERE q.item_id = new.name AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM revocations WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT item_id AS name, id AS id, key_id, sealed FROM revocations WHERE sealed IS NOT NULL AND (item_id, id) > ($1, $2) AND $2::bigint IS NOT NULL ORDER BY item_id, id LIMIT $3
---
UPDATE revocations q SET key_id = new.key_id, sealed = new.sealed FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[]) AS new (name, id, old, key_id, sealed) WHERE q.item_id = new.name AND q.id = new.id AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM outbox WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT item_id AS name, id AS id, key_id, sealed FROM outbox WHERE sealed IS NOT NULL AND (item_id, id) > ($1, $2) AND $2::bigint IS NOT NULL ORDER BY item_id, id LIMIT $3
---
UPDATE outbox q SET key_id = new.key_id, sealed = new.sealed FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[]) AS new (name, id, old, key_id, sealed) WHERE q.item_id = new.name AND q.id = new.id AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM tickets WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT encode(digest, 'hex') AS name, 0::bigint AS id, key_id, sealed FROM tickets WHERE sealed IS NOT NULL AND digest > decode($1, 'hex') AND $2::bigint IS NOT NULL ORDER BY digest LIMIT $3
---
UPDATE tickets q SET key_id = new.key_id, sealed = new.sealed FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[]) AS new (name, id, old, key_id, sealed) WHERE q.digest = decode(new.name, 'hex') AND q.sealed = new.old
---
SELECT key_id, count(*) AS rows FROM secrets WHERE sealed IS NOT NULL GROUP BY key_id
---
SELECT name AS name, 0::bigint AS id, key_id, sealed FROM secrets WHERE sealed IS NOT NULL AND name > $1 AND $2::bigint IS NOT NULL ORDER BY name LIMIT $3
---
UPDATE secrets q SET key_id = new.key_id, sealed = new.sealed FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[]) AS new (name, id, old, key_id, sealed) WHERE q.name = new.name AND q.sealed = new.old
---
DELETE FROM access WHERE item_id = $1
---
DELETE FROM connections WHERE item_id = $1
---
DELETE FROM tokens WHERE item_id = $1
---
DELETE FROM outbox WHERE item_id = $1 AND institution_id IS NULL
---
DELETE FROM activities WHERE item_id = $1
---
DELETE FROM reads WHERE item_id = $1
---
DELETE FROM reviews WHERE item_id = $1
---
DELETE FROM moved WHERE item_id = $1
---
DELETE FROM accounts WHERE item_id = $1
---
DELETE FROM identities WHERE item_id = $1
---
DELETE FROM securities WHERE item_id = $1
---
INSERT INTO items (item_id, institution_id, user_id, created_at, state, life, due_at, epochs, needs_transactions) VALUES ($1, $2, $3, $4, $5, $6, $4, $7, $8)
---
UPDATE items SET cycle_tokens = false, refresh_begun_at = NULL WHERE item_id = $1
---
-- types: text, text, bigint, boolean, boolean, timestamptz
UPDATE items SET state = $2, epochs = epochs + $3, needs_transactions = $4, notified = notified + $5::int, due_at = CASE WHEN $5 AND leased_until IS NULL THEN least(due_at, greatest($6, not_before)) ELSE due_at END WHERE item_id = $1
---
SELECT 1 FROM items i JOIN item_keys k ON k.institution_id = i.institution_id AND k.user_id = i.user_id WHERE i.item_id = $1 FOR UPDATE OF k
---
UPDATE items SET needs_transactions = $2 WHERE item_id = $1
---
DELETE FROM outbox WHERE item_id = $1 AND application_id = $2 AND institution_id IS NULL
---
DELETE FROM item_keys k USING items i WHERE i.item_id = $1 AND k.institution_id = i.institution_id AND k.user_id = i.user_id
---
DELETE FROM items WHERE item_id = $1
---
SELECT item_id FROM access WHERE digest = $1
---
WITH old AS (DELETE FROM access WHERE digest = $1 RETURNING item_id, institution_id, application_id) INSERT INTO access (digest, item_id, institution_id, application_id) SELECT $2, * FROM old
---
INSERT INTO item_keys (institution_id, user_id, item_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
---
SELECT item_id FROM item_keys WHERE institution_id = $1 AND user_id = $2 FOR UPDATE
---
SELECT institution_id, user_id, state, life, epochs FROM items WHERE item_id = $1 FOR UPDATE
---
SELECT partner_id, standing, body FROM accounts WHERE item_id = $1 ORDER BY account_id
---
DELETE FROM connections WHERE item_id = $1 AND application_id = $2
---
SELECT 1 FROM access WHERE item_id = $1 AND application_id IS NULL
---
SELECT count(*) FROM connections WHERE item_id = $1
---
SELECT institution_id FROM items WHERE item_id = $1 FOR UPDATE
---
SELECT 1 FROM connections WHERE item_id = $1 AND application_id = $2
---
INSERT INTO access (digest, item_id, institution_id, application_id) VALUES ($1, $2, $3, $4)
---
DELETE FROM access WHERE item_id = $1 AND application_id IS NOT DISTINCT FROM $2
---
SELECT account_id, count(*) AS rows FROM transactions WHERE item_id = $1 AND removed_at IS NULL GROUP BY account_id
---
INSERT INTO activities (item_id, number, activity_id, body)
SELECT $1, coalesce(max(number), 0) + 1, $2, $3 FROM activities WHERE item_id = $1
---
SELECT body FROM activities WHERE item_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3
---
WITH held AS (
    SELECT item_id FROM items WHERE item_id = ANY ($1) ORDER BY item_id FOR KEY SHARE
)
INSERT INTO reads (item_id, application_id, kind, read_at)
SELECT given.item_id, given.application_id, given.kind, max(given.read_at)
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    AS given (item_id, application_id, kind, read_at) JOIN held USING (item_id)
GROUP BY given.item_id, given.application_id, given.kind
ORDER BY given.item_id, given.application_id, given.kind
ON CONFLICT (item_id, application_id, kind)
    DO UPDATE SET read_at = greatest(reads.read_at, excluded.read_at)
---
SELECT number FROM activities WHERE item_id = $1 AND activity_id = $2
---
SELECT application_id, kind, read_at FROM reads WHERE item_id = $1 ORDER BY application_id, kind
---
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::date[], $3::boolean[], $4::boolean[])
        AS asked (item_id, since, cycle, revoked)
), locked AS (
    SELECT item_id FROM items WHERE item_id = ANY ($1) ORDER BY item_id FOR UPDATE
), applied AS (
    UPDATE items i SET
        notified = i.notified + 1,
        notified_since = least(i.notified_since, asked.since),
        -- One that lost its authorization has no tokens.
        cycle_tokens = i.cycle_tokens OR (asked.cycle AND i.state <> ALL ($6)),
        due_at = CASE
            WHEN i.leased_until IS NULL AND i.state <> ALL ($6)
            THEN least(i.due_at, greatest($5, i.not_before)) ELSE i.due_at
        END
    FROM locked JOIN asked ON locked.item_id = asked.item_id
    WHERE i.item_id = locked.item_id AND NOT asked.revoked
)
SELECT count(*) AS locked FROM locked
---
UPDATE items i SET state = move.after, fence = $5, leased_until = NULL, due_at = NULL,
    cycle_tokens = false, refresh_begun_at = NULL
FROM unnest($2::text[], $3::text[]) AS move (before, after)
WHERE i.item_id = ANY ($1) AND i.state = move.before AND i.state <> ALL ($4)
RETURNING i.item_id
---
UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, access_mac = NULL, refresh_mac = NULL WHERE item_id = ANY ($1)
---
SELECT digest, item_id FROM access WHERE digest = ANY ($1) AND institution_id = $2
---
SELECT item_id, body FROM connections WHERE item_id = ANY ($1) ORDER BY item_id, application_id
---
SELECT state FROM partners WHERE institution_id = $1 FOR UPDATE
---
WITH others AS (
    SELECT coalesce(sum(permits), 0)::bigint AS held FROM partner_permits
    WHERE institution_id = $1 AND holder <> $2 AND leased_until > $3::timestamptz
),
share AS (SELECT held, least($5::bigint, greatest($6::bigint - held, 0)) AS granted FROM others),
ended AS (
    DELETE FROM partner_permits USING share
    WHERE institution_id = $1
        AND ((holder <> $2 AND leased_until <= $3) OR (holder = $2 AND granted = 0))
),
leased AS (
    INSERT INTO partner_permits (institution_id, holder, permits, leased_until)
    SELECT $1::text, $2::text, granted, $4::timestamptz FROM share WHERE granted > 0
    ON CONFLICT (institution_id, holder)
    DO UPDATE SET permits = excluded.permits, leased_until = excluded.leased_until
)
SELECT held, granted FROM share
---
UPDATE partners SET state = $2 WHERE institution_id = $1
---
INSERT INTO partners (institution_id) VALUES ($1) ON CONFLICT DO NOTHING
---
DELETE FROM transactions WHERE item_id = $1 AND transaction_id IN (
    SELECT transaction_id FROM transactions WHERE item_id = $1 LIMIT $2
)
---
DELETE FROM transactions t USING (
    SELECT item_id, transaction_id FROM transactions
    WHERE removed_at < $1 ORDER BY removed_at LIMIT $2 FOR UPDATE SKIP LOCKED
) gone
WHERE t.item_id = gone.item_id AND t.transaction_id = gone.transaction_id
---
SELECT item_id FROM leftovers ORDER BY item_id LIMIT 1
---
DELETE FROM leftovers WHERE item_id = $1
---
INSERT INTO leftovers (item_id) VALUES ($1) ON CONFLICT DO NOTHING
---
DELETE FROM transactions WHERE item_id = $1
---
INSERT INTO outbox (
    item_id, application_id, url, institution_id, body, key_id, sealed, created_at, due_at
)
SELECT item_id, application_id, url, institution_id, body, key_id, sealed, $8, $8
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[]
) WITH ORDINALITY
    AS waiting (item_id, application_id, url, institution_id, body, key_id, sealed, place)
ORDER BY place
---
SELECT o.id, o.item_id, o.application_id, o.url, o.body
FROM outbox o JOIN (
    SELECT DISTINCT item_id, application_id, url
    FROM unnest($1::text[], $2::text[], $3::text[]) AS new (item_id, application_id, url)
) AS new USING (item_id, application_id, url)
WHERE o.attempt = 0 AND o.body IS NOT NULL
ORDER BY o.item_id, o.id FOR UPDATE OF o SKIP LOCKED
---
UPDATE outbox o SET body = new.body
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS new (item_id, id, body)
WHERE o.item_id = new.item_id AND o.id = new.id
---
WITH due AS (
    SELECT item_id, id, due_at FROM outbox WHERE due_at <= $1
    ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET attempt = attempt + 1, due_at = $2
FROM due WHERE o.item_id = due.item_id AND o.id = due.id
RETURNING o.id, o.item_id, o.application_id, o.url, o.institution_id, o.body, o.key_id, o.sealed,
    o.created_at, o.attempt, due.due_at AS was_due_at
---
WITH taken AS (
                SELECT q.item_id, q.id, given.due_at
                FROM outbox q JOIN unnest($1::text[], $2::bigint[], $3::integer[], $4::timestamptz[])
                    AS given (item_id, id, attempt, due_at)
                    ON q.item_id = given.item_id AND q.id = given.id
                WHERE q.attempt = given.attempt
                ORDER BY q.item_id, q.id FOR UPDATE OF q
            )
            UPDATE outbox q SET attempt = attempt - 1, due_at = taken.due_at
            FROM taken WHERE q.item_id = taken.item_id AND q.id = taken.id
---
WITH taken AS (
                SELECT q.item_id, q.id, given.due_at
                FROM revocations q JOIN unnest($1::text[], $2::bigint[], $3::integer[], $4::timestamptz[])
                    AS given (item_id, id, attempt, due_at)
                    ON q.item_id = given.item_id AND q.id = given.id
                WHERE q.attempt = given.attempt
                ORDER BY q.item_id, q.id FOR UPDATE OF q
            )
            UPDATE revocations q SET attempt = attempt - 1, due_at = taken.due_at
            FROM taken WHERE q.item_id = taken.item_id AND q.id = taken.id
---
WITH taken AS (
    SELECT o.item_id, o.id, given.again_at
    FROM outbox o JOIN unnest($1::text[], $2::bigint[], $3::integer[], $4::timestamptz[])
        AS given (item_id, id, attempt, again_at) ON o.item_id = given.item_id AND o.id = given.id
    WHERE o.attempt = given.attempt
    ORDER BY o.item_id, o.id FOR UPDATE OF o
), ended AS (
    DELETE FROM outbox o USING taken
    WHERE o.item_id = taken.item_id AND o.id = taken.id AND taken.again_at IS NULL
)
UPDATE outbox o SET due_at = taken.again_at
FROM taken WHERE o.item_id = taken.item_id AND o.id = taken.id AND taken.again_at IS NOT NULL
---
WITH due AS (
    SELECT item_id, id, due_at FROM revocations WHERE due_at <= $1
    ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE revocations r SET attempt = attempt + 1, due_at = $2
FROM due WHERE r.item_id = due.item_id AND r.id = due.id
RETURNING r.id, r.item_id, r.institution_id, r.user_id, r.key_id, r.sealed, r.created_at, r.attempt,
    due.due_at AS was_due_at
---
UPDATE revocations SET due_at = $4, sent_until = NULL, whole_grant = false WHERE item_id = $1 AND id = $2 AND attempt = $3
---
DELETE FROM revocations WHERE item_id = $1 AND id = $2 AND attempt = $3 AND $4::timestamptz IS NULL
---
WITH total AS (
    SELECT count(*) AS total FROM transactions
    WHERE $8 AND item_id = $1 AND removed_at IS NULL AND date BETWEEN $2 AND $3
        AND ($4::text[] IS NULL OR account_id = ANY ($4))
), page AS (
    SELECT date, transaction_id, body FROM transactions
    WHERE item_id = $1 AND removed_at IS NULL AND date BETWEEN $2 AND least($3, $5)
        AND ($4::text[] IS NULL OR account_id = ANY ($4))
        AND ($5::date IS NULL OR date < $5 OR transaction_id > $6)
    ORDER BY date DESC, transaction_id LIMIT $7
)
SELECT total.total, page.body FROM total LEFT JOIN page ON true
ORDER BY page.date DESC, page.transaction_id
---
SELECT i.change_seq, t.transaction_id, t.account_id, t.first_seq, t.added_seq, t.changed_seq, t.body
FROM items i LEFT JOIN LATERAL (
    SELECT * FROM transactions
    WHERE item_id = i.item_id AND (changed_seq, transaction_id) > ($2, $3)
        AND ($4::text[] IS NULL OR account_id = ANY ($4))
        -- What came and went since the base is nothing to the reader.
        AND (removed_at IS NULL OR first_seq <= $6)
    ORDER BY changed_seq, transaction_id LIMIT $5
) t ON true
WHERE i.item_id = $1
ORDER BY t.changed_seq, t.transaction_id
---
SELECT min(created_at) AS since FROM outbox
---
SELECT item_id, institution_id, application_id FROM access WHERE digest = $1
---
SELECT i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id AND t.settled IS NULL AND t.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.item_id = t.item_id AND a.account_id = t.account_id AND a.standing = 'closed')) AS oldest_pending FROM items i WHERE i.item_id = $1
---
SELECT i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id AND t.settled IS NULL AND t.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.item_id = t.item_id AND a.account_id = t.account_id AND a.standing = 'closed')) AS oldest_pending FROM items i WHERE i.item_id > $1 ORDER BY i.item_id LIMIT $2
---
SELECT item_id FROM item_keys WHERE institution_id = $1 AND user_id = $2
---
SELECT user_identity_id, body FROM identities WHERE item_id = $1
---
SELECT body FROM securities WHERE item_id = $1 ORDER BY security_id
---
SELECT state, count(*) AS items FROM items GROUP BY state
---
SELECT count(*) AS items, min(wake_at) AS since FROM items WHERE wake_at <= $1
---
SELECT count(*) AS webhooks FROM outbox
---
INSERT INTO reviews (item_id, number, institution_id, is_evidence, body)
SELECT $1, given.number - 1, $2, given.is_evidence, given.body
FROM unnest($3::boolean[], $4::text[]) WITH ORDINALITY AS given (is_evidence, body, number)
---
INSERT INTO moved (item_id, transaction_id, partner_id)
SELECT $1, given.transaction_id, given.partner_id
FROM unnest($2::text[], $3::text[]) AS given (transaction_id, partner_id)
ON CONFLICT (item_id, transaction_id) DO NOTHING
---
UPDATE transactions t SET partner_id = moved.partner_id FROM moved
WHERE moved.item_id = $1 AND t.item_id = $1 AND t.transaction_id = moved.transaction_id
---
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE item_id > $1 ORDER BY item_id LIMIT $2
) ORDER BY item_id, number
---
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE item_id > $1 AND institution_id = $3
    ORDER BY item_id LIMIT $2
) ORDER BY item_id, number
---
SELECT
    (SELECT count(DISTINCT item_id) FROM reviews WHERE institution_id = $1 AND is_evidence)
        AS items_on_hold,
    (SELECT coalesce(sum(updates), 0)::bigint FROM updates WHERE institution_id = $1 AND hour > $2)
        AS reads_since,
    (SELECT coalesce(sum(updates), 0)::bigint FROM updates
        WHERE institution_id = $1 AND hour > $2 - $3 AND hour <= $2) AS reads_before
---
INSERT INTO updates (institution_id, hour, updates) VALUES ($1, $2, $3)
ON CONFLICT (institution_id, hour) DO UPDATE SET updates = updates.updates + excluded.updates
---
DELETE FROM updates WHERE institution_id = $1 AND hour < $2
---
INSERT INTO rulings (institution_id, body) VALUES ($1, $2) ON CONFLICT (institution_id) DO UPDATE SET body = excluded.body
---
SELECT body FROM rulings WHERE institution_id = $1
---
DELETE FROM rulings WHERE institution_id = $1
---
SELECT oldest FROM compatibility
---
UPDATE compatibility SET environment = $1 WHERE environment IS NULL
---
SELECT environment FROM compatibility
---
SELECT expires_at, key_id, sealed FROM tickets
WHERE digest = $1 AND kind = $2 AND expires_at > $3
---
DELETE FROM tickets WHERE digest = $1 AND kind = $2 AND expires_at > $3
RETURNING expires_at, key_id, sealed
---
DELETE FROM tickets WHERE digest IN (
    SELECT digest FROM tickets WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
    FOR UPDATE SKIP LOCKED
)
---
INSERT INTO tickets (digest, kind, expires_at, key_id, sealed) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (digest) DO UPDATE SET kind = excluded.kind, expires_at = excluded.expires_at, key_id = excluded.key_id, sealed = excluded.sealed
---
UPDATE items SET cycle_tokens = false, refresh_begun_at = NULL WHERE item_id = $1 RETURNING institution_id
---
UPDATE tokens SET version = version + 1, key_id = $3, sealed = $4, access_mac = $5, refresh_mac = $6 WHERE item_id = $1 AND version = $2 AND sealed IS NOT NULL
---
UPDATE items SET refresh_begun_at = CASE WHEN $3::timestamptz IS NULL THEN NULL ELSE coalesce(refresh_begun_at, $3) END WHERE item_id = $1 AND EXISTS (SELECT 1 FROM tokens WHERE item_id = $1 AND version = $2 AND sealed IS NOT NULL)
---
SELECT name, key_id, sealed FROM secrets WHERE name LIKE $1 ORDER BY length(name) DESC, name DESC
---
INSERT INTO secrets (name, key_id, sealed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
---
SELECT access_mac, refresh_mac FROM revocations WHERE item_id = $1 AND id = $2 AND attempt = $3 FOR UPDATE
---
SELECT EXISTS (SELECT 1 FROM tokens WHERE access_mac = $1) OR EXISTS (SELECT 1 FROM tokens WHERE refresh_mac = $2) OR ($3 AND EXISTS (SELECT 1 FROM item_keys k JOIN tokens t ON t.item_id = k.item_id AND t.sealed IS NOT NULL WHERE k.institution_id = $4 AND k.user_id = $5)) AS in_use
---
DELETE FROM revocations WHERE item_id = $1 AND id = $2
---
UPDATE revocations SET sent_until = $3, whole_grant = $4 WHERE item_id = $1 AND id = $2
---
SELECT t.linked_version FROM items i JOIN tokens t ON t.item_id = i.item_id WHERE i.item_id = $1 FOR UPDATE OF i
---
SELECT coalesce(sent_until > $5, false) AS under_way FROM revocations WHERE access_mac = $1 OR refresh_mac = $2 OR (whole_grant AND institution_id = $3 AND user_id = $4) ORDER BY item_id, id FOR UPDATE
---
DELETE FROM revocations WHERE access_mac = $1 OR refresh_mac = $2
---
SELECT version, key_id, sealed FROM tokens WHERE item_id = $1 AND sealed IS NOT NULL
---
INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, access_mac, refresh_mac, created_at, due_at) SELECT item_id, $2, $3, key_id, sealed, access_mac, refresh_mac, $4, $4 FROM tokens WHERE item_id = $1 AND sealed IS NOT NULL
---
INSERT INTO tokens (item_id, version, linked_version, key_id, sealed, access_mac, refresh_mac) VALUES ($1, 1, 1, $2, $3, $4, $5) ON CONFLICT (item_id) DO UPDATE SET version = tokens.version + 1, linked_version = tokens.version + 1, key_id = excluded.key_id, sealed = excluded.sealed, access_mac = excluded.access_mac, refresh_mac = excluded.refresh_mac
---
INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, access_mac, refresh_mac, created_at, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
---
-- types: timestamptz, timestamptz, bigint, text[], text[], bigint, timestamptz
WITH due AS (
    SELECT item_id, wake_at AS since, leased_until IS NOT NULL AS took_over, state
    FROM items WHERE wake_at <= $1
    ORDER BY wake_at, item_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE items i SET
    state = coalesce(move.after, i.state),
    fence = CASE WHEN move.after IS NULL THEN i.fence ELSE $6 END,
    lost_leases = lost_leases + (move.after IS NOT NULL AND due.took_over)::int,
    leased_until = CASE WHEN move.after IS NULL THEN NULL ELSE $2 END,
    due_at = CASE WHEN move.after IS NULL THEN $7 ELSE i.due_at END
FROM due LEFT JOIN unnest($4::text[], $5::text[]) AS move (before, after)
    ON move.before = due.state
WHERE i.item_id = due.item_id
RETURNING i.item_id, due.since, due.took_over, move.after IS NOT NULL AS is_taken
---
WITH due AS (
    SELECT item_id, refresh_begun_at AS since, leased_until IS NOT NULL AS took_over
    FROM items
    WHERE refresh_begun_at IS NOT NULL AND (leased_until IS NULL OR leased_until <= $1)
        AND state = ANY ($4) AND $7::timestamptz IS NOT NULL
    ORDER BY refresh_begun_at, item_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE items i SET state = move.after, fence = $6, leased_until = $2,
    lost_leases = lost_leases + due.took_over::int
FROM due, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = due.item_id AND i.state = move.before
RETURNING i.item_id, due.since, due.took_over, true AS is_taken
---
WITH due AS (
    SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
    WHERE item_id = $1 AND (leased_until IS NULL OR leased_until <= $2) FOR UPDATE
)
UPDATE items i SET state = move.after, fence = $6, leased_until = $3,
    lost_leases = lost_leases + due.took_over::int
FROM due, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = due.item_id AND i.state = move.before
RETURNING i.item_id, due.took_over
---
SELECT i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id AND t.settled IS NULL AND t.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.item_id = t.item_id AND a.account_id = t.account_id AND a.standing = 'closed')) AS oldest_pending FROM items i JOIN unnest($1::text[]) WITH ORDINALITY AS taken (item_id, place) ON i.item_id = taken.item_id WHERE i.fence = $2 ORDER BY taken.place
---
WITH held AS (
    SELECT i.item_id, given.due_at
    FROM items i JOIN unnest($1::text[], $2::bigint[], $3::timestamptz[])
        AS given (item_id, fence, due_at) ON i.item_id = given.item_id
    WHERE i.fence = given.fence AND i.leased_until IS NOT NULL
    ORDER BY i.item_id FOR UPDATE OF i
)
UPDATE items i SET state = move.after, leased_until = NULL, due_at = held.due_at
FROM held, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = held.item_id AND i.state = move.before
---
UPDATE items SET refresh_begun_at = NULL WHERE item_id = ANY ($1) AND refresh_begun_at <= $2
---
SELECT transaction_id, partner_id, account_id, amount, unit, transacted, settled, description, digest, read_at, removed_at FROM transactions WHERE item_id = $1 AND transaction_id IN (
        SELECT transaction_id FROM transactions
        WHERE item_id = $1 AND removed_at IS NULL AND date BETWEEN $2 AND $3
        UNION SELECT transaction_id FROM transactions
        WHERE item_id = $1 AND transaction_id = ANY ($4)
        UNION SELECT transaction_id FROM transactions
        WHERE item_id = $1 AND partner_id = ANY ($4) AND partner_id <> transaction_id
    ) ORDER BY transaction_id
---
UPDATE items SET leased_until = $3 WHERE item_id = $1 AND fence = $2 AND leased_until IS NOT NULL
---
SELECT clock_timestamp() AS now
---
SELECT unnest(ARRAY[current_setting('default_transaction_isolation'), current_setting('synchronous_commit'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), current_setting('jit')])
---
WITH held AS (
    UPDATE items SET
        state = $3,
        life = $4,
        change_seq = change_seq + $5,
        cycle_tokens = cycle_tokens AND NOT $6,
        refresh_begun_at = CASE WHEN $6 THEN NULL ELSE refresh_begun_at END,
        lost_leases = 0,
        leased_until = $7,
        -- $8: the lease ends. $9 when it is due, $10 not before, $11 the notifications seen,
        -- $12 whether it rests whatever was notified, $13 now.
        not_before = CASE WHEN $8 THEN $10 ELSE not_before END,
        notified_since = CASE WHEN $8 AND notified <= $11 THEN NULL ELSE notified_since END,
        due_at = CASE
            WHEN NOT $8 THEN due_at
            WHEN $12 THEN NULL
            WHEN notified > $11 THEN least($9, greatest($13, $10))
            ELSE $9
        END
    WHERE item_id = $1 AND fence = $2 AND leased_until IS NOT NULL
    RETURNING item_id, change_seq
),
forgotten AS (
    DELETE FROM accounts USING held
    WHERE accounts.item_id = held.item_id AND account_id = ANY ($14)
),
written_accounts AS (
    INSERT INTO accounts (item_id, account_id, partner_id, standing, body)
    SELECT held.item_id, account.*
    FROM held, unnest($15::text[], $16::text[], $17::text[], $18::text[]) AS account
    ON CONFLICT (item_id, account_id) DO UPDATE SET
        partner_id = excluded.partner_id, standing = excluded.standing, body = excluded.body
),
written_identities AS (
    INSERT INTO identities (item_id, user_identity_id, body)
    SELECT held.item_id, $19, $20 FROM held WHERE $19::text IS NOT NULL
    ON CONFLICT (item_id) DO UPDATE SET
        user_identity_id = excluded.user_identity_id, body = excluded.body
),
written_securities AS (
    INSERT INTO securities (item_id, security_id, body)
    SELECT held.item_id, security.* FROM held, unnest($21::text[], $22::text[]) AS security
    ON CONFLICT (item_id, security_id) DO UPDATE SET body = excluded.body
),
removed AS (
    UPDATE transactions SET
        removed_at = $13, body = NULL, changed_seq = held.change_seq
    FROM held
    WHERE transactions.item_id = held.item_id AND transaction_id = ANY ($23)
        AND removed_at IS NULL
),
written AS (
    INSERT INTO transactions AS old (
        item_id, transaction_id, partner_id, account_id, amount, unit, transacted, settled,
        description, digest, read_at, body, first_seq, added_seq, changed_seq
    )
    SELECT held.item_id, row.*, held.change_seq, held.change_seq, held.change_seq
    FROM held, unnest(
        $24::text[], $25::text[], $26::text[], $27::text[], $28::bytea[], $29::date[], $30::date[],
        $31::bytea[], $32::bytea[], $33::timestamptz[], $34::text[]
    ) AS row
    ON CONFLICT (item_id, transaction_id) DO UPDATE SET
        partner_id = excluded.partner_id,
        account_id = excluded.account_id,
        amount = excluded.amount,
        unit = excluded.unit,
        transacted = excluded.transacted,
        settled = excluded.settled,
        description = excluded.description,
        digest = excluded.digest,
        read_at = excluded.read_at,
        body = excluded.body,
        removed_at = NULL,
        -- One that was gone is added again.
        added_seq = CASE WHEN old.removed_at IS NULL THEN old.added_seq ELSE excluded.added_seq END,
        -- Another id of the partner's is no change of what applications read.
        changed_seq = CASE WHEN old.removed_at IS NULL AND old.digest = excluded.digest
            THEN old.changed_seq ELSE excluded.changed_seq END
)
SELECT change_seq FROM held
