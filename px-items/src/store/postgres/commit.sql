-- A commit in one statement. It begins by locking and updating the Item's row. If the fencing token
-- is outdated, `held` is empty, and nothing below has an effect.
WITH held AS (
    UPDATE items SET
        state = $3,
        life = $4,
        change_seq = change_seq + $5,
        cycle_tokens = cycle_tokens AND NOT $6,
        refresh_begun_at = CASE WHEN $6 THEN NULL ELSE refresh_begun_at END,
        lost_leases = 0,
        leased_until = $7,
        -- $8: the lease ends. $9 is the due time, $10 the earliest time of the next update, $11 the
        -- number of notifications seen, $12 whether it is never due, $13 the present time.
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
-- Accounts: no account is both deleted and written.
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
-- Transactions: no row is both written and removed, because a statement can change it only once.
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
        -- A removed row is added again.
        added_seq = CASE WHEN old.removed_at IS NULL THEN old.added_seq ELSE excluded.added_seq END,
        -- A change of the partner's id does not change what applications read.
        changed_seq = CASE WHEN old.removed_at IS NULL AND old.digest = excluded.digest
            THEN old.changed_seq ELSE excluded.changed_seq END
)
SELECT change_seq FROM held
