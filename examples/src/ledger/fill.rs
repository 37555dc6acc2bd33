//! The initial, generated customers of a bank.

use super::{Ledger, Result, meta, set_meta, today, write};
use crate::{
    password,
    scenario::SCENARIOS,
    seed::{
        Day, HISTORY_DAYS,
        account::Sums,
        date_of,
        event::State,
        household::{Household, Plan, id},
        rng::label,
    },
};
use sqlx::SqliteConnection;

/// The settings of the generated customers.
#[derive(Clone, Copy, Debug)]
pub struct FillOptions {
    /// The seed. The same seed on the same date gives the same data.
    pub seed: u64,
    /// The number of generated users beside the scenario users.
    pub users: u32,
    /// Whether `user_busy` is created. Its 100,000 transactions are most of the work.
    pub busy: bool,
}

impl Default for FillOptions {
    fn default() -> Self {
        Self { seed: 1, users: 6, busy: true }
    }
}

impl Ledger {
    /// Fills the database if that was not done before. Returns `true` if this call filled it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn fill(&self, fill_options: FillOptions) -> Result<bool> {
        let mut tx = self.write().await?;
        if meta(&mut tx, "seed").await?.is_some() {
            return Ok(false);
        }
        let start = today(&mut tx).await?;
        set_meta(&mut tx, "seed", &fill_options.seed.to_string()).await?;
        set_meta(&mut tx, "filled on", &start.to_string()).await?;
        for security in Household::securities(start) {
            let sql =
                "INSERT OR IGNORE INTO securities (security_id, body, made_up) VALUES (?, ?, 1)";
            let query = sqlx::query(sql).bind(security.id.as_str()).bind(write::text(&security));
            query.execute(&mut *tx).await?;
        }
        let named = SCENARIOS.iter().map(|scenario| (scenario.username.to_owned(), scenario.plan));
        let others = (0..fill_options.users).map(|n| (format!("user_{:03}", n + 1), Plan::Mixed));
        for (number, (username, plan)) in named.chain(others).enumerate() {
            if plan == Plan::Busy && !fill_options.busy {
                continue;
            }
            add(&mut tx, fill_options.seed, number as u64, &username, plan, start).await?;
        }
        password::store(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}

async fn add(
    connection: &mut SqliteConnection,
    seed: u64,
    number: u64,
    username: &str,
    plan: Plan,
    start: Day,
) -> Result<()> {
    let household = Household::new(seed, number, plan, start);
    let user_id = id("usr", &[seed, label("user"), number]);
    let sql = "INSERT OR IGNORE INTO users (user_id, username, identity_id, plan, number) VALUES (?, ?, ?, ?, ?)";
    let query = sqlx::query(sql)
        .bind(&user_id)
        .bind(username)
        .bind(&household.people[0].id)
        .bind(plan.name())
        .bind(number as i64);
    let added = query.execute(&mut *connection).await?;
    if added.rows_affected() == 0 {
        // An imported user has that name, and keeps it.
        return Ok(());
    }
    let user_n = added.last_insert_rowid();
    for identity in household.identities(&format!("{username}@mail.example")) {
        let query = sqlx::query("INSERT INTO identities (identity_id, body) VALUES (?, ?)");
        let query = query.bind(identity.id.as_str()).bind(write::text(&identity));
        query.execute(&mut *connection).await?;
    }
    let mut rows = Vec::new();
    let mut history = Vec::new();
    let mut sums = vec![Sums::default(); household.accounts.len()];
    let mut latest = vec![None; household.accounts.len()];
    for day in start - (HISTORY_DAYS - 1)..=start {
        for event in household.events(day) {
            let state = event.state(start);
            let Some(transaction) = household.transaction(&event, state) else {
                continue;
            };
            match state {
                State::Posted(day, minor) => {
                    sums[event.account].posted += minor;
                    history.push((event.account, day, minor));
                }
                State::Pending(minor) => sums[event.account].held += minor.max(0),
                State::Absent => {}
            }
            latest[event.account] = latest[event.account].max(Some(transaction.date()));
            rows.push((event.account, transaction));
        }
    }
    for (sums, opening) in sums.iter_mut().zip(household.openings(&history)) {
        sums.opening = opening;
    }
    let mut numbers = Vec::new();
    for (place, spec) in household.accounts.iter().enumerate() {
        let Some(mut account) = household.account(place, start, sums[place]) else {
            continue;
        };
        account.last_activity_at = Some(latest[place].unwrap_or(date_of(spec.opened)).into());
        let sql =
            "INSERT INTO accounts (account_id, body, user_n, place, since, opening, posted, held)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let query = sqlx::query(sql)
            .bind(&spec.id)
            .bind(write::text(&account))
            .bind(user_n)
            .bind(place as i64)
            .bind(start)
            .bind(sums[place].opening)
            .bind(sums[place].posted)
            .bind(sums[place].held);
        let account_n = query.execute(&mut *connection).await?.last_insert_rowid();
        numbers.push(account_n);
        let query = sqlx::query("INSERT INTO holders (user_n, place, account_n) VALUES (?, ?, ?)");
        query.bind(user_n).bind(place as i64).bind(account_n).execute(&mut *connection).await?;
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|(place, transaction)| write::Row::new(numbers[*place], transaction))
        .collect();
    write::put(connection, &rows).await
}
