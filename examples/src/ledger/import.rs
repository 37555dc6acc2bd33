//! The import of a ledger: NDJSON, plain or gzip, one message per line.
//!
//! Every line is read and every reference checked before anything is written, and everything is
//! written in one transaction. A ledger with an invalid line changes nothing.

use super::{Ledger, LedgerError, Result, next_change, today, write};
use crate::{
    password,
    seed::{Day, money},
};
use flate2::bufread::MultiGzDecoder;
use px_types::{
    AccountId, IdentityId, SecurityId, UserId,
    model::{
        account::Account,
        identity::Identity,
        security::{Security, SecurityType},
        transaction::Transaction,
    },
    partner::{TransactionsResponse, UserAccountInfoResponse},
    validate::{PageContext, Report, UserContext, rule},
    wire::decode,
};
use rust_decimal::Decimal;
use serde::Deserialize;
use sqlx::SqliteConnection;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// Maximum number of faults that a report lists.
const MAX_LISTED_FAULTS: usize = 20;
/// Maximum number of accounts of a user. A page is one statement over all of them.
const MAX_ACCOUNTS_PER_USER: usize = 200;
/// Maximum length of a line, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The numbers of imported objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportCounts {
    /// The number of users.
    pub users: u64,
    /// The number of identities.
    pub identities: u64,
    /// The number of accounts.
    pub accounts: u64,
    /// The number of securities.
    pub securities: u64,
    /// The number of transactions.
    pub transactions: u64,
}

/// The faults of a ledger that was not imported.
#[derive(Clone, Debug, Default)]
pub struct ImportReport {
    faults: Vec<Fault>,
    more: u64,
}

/// An invalid line: its number, the path in it and the reason. Never contains the value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fault {
    /// The line number, from 1.
    pub line: u64,
    /// The path in the line, such as `transaction.amount`.
    pub path: String,
    /// The reason.
    pub reason: String,
}

impl ImportReport {
    /// Returns the listed faults.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Returns the number of all faults.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.faults.len() as u64 + self.more
    }

    fn add(&mut self, line: u64, path: impl Into<String>, reason: impl Into<String>) {
        if self.faults.len() < MAX_LISTED_FAULTS {
            self.faults.push(Fault { line, path: path.into(), reason: reason.into() });
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = if self.count() == 1 { "fault" } else { "faults" };
        write!(f, "{} {faults}; nothing was imported", self.count())?;
        for fault in &self.faults {
            write!(f, "\n  line {}: {}: {}", fault.line, fault.path, fault.reason)?;
        }
        if self.more > 0 {
            write!(f, "\n  … and {} more", self.more)?;
        }
        Ok(())
    }
}

/// The progress of an import.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// Reading and checking. The value is the number of bytes read of the file.
    Reading(u64),
    /// Writing. The values are the numbers of written and of all transactions.
    Writing(u64, u64),
}

/// A line of a ledger: an object with exactly one key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LedgerLine {
    User(UserLine),
    Identity(Box<Identity>),
    Account(Box<Account>),
    Security(Box<Security>),
    Transaction(Box<Transaction>),
}

const KEYS: [&str; 5] = ["user", "identity", "account", "security", "transaction"];

#[derive(Debug, Deserialize)]
struct UserLine {
    user_id: UserId,
    username: String,
    identity_id: IdentityId,
    account_ids: Vec<AccountId>,
}

/// A parsed ledger, not yet checked. Each message has its line number.
#[derive(Debug, Default)]
struct Parsed {
    users: Vec<(u64, UserLine)>,
    identities: Vec<(u64, Identity)>,
    accounts: Vec<(u64, Account)>,
    securities: Vec<(u64, Security)>,
    transactions: Vec<(u64, Transaction)>,
}

impl Ledger {
    /// Imports a file. The imported users sign in with the common password.
    ///
    /// # Errors
    /// [`LedgerError::Import`] lists the invalid lines; then nothing was imported. Other variants
    /// if the file cannot be read or the database fails.
    pub async fn import(
        &self,
        file: &Path,
        mut progress: impl FnMut(Progress),
    ) -> Result<ImportCounts> {
        let file = std::fs::File::open(file)?;
        let mut counted = CountingReader { inner: file, read: 0 };
        let mut report = ImportReport::default();
        let parsed = read(&mut counted, &mut report, &mut progress)?;
        let mut tx = self.write().await?;
        let known = KnownIds::load(&mut tx).await?;
        check(&parsed, &known, &mut report);
        rules(&parsed, &mut report);
        report.faults.sort_by_key(|fault| fault.line);
        if report.count() > 0 {
            return Err(LedgerError::Import(report));
        }
        let imported = store(&mut tx, &parsed, known, &mut progress).await?;
        password::store(&mut tx).await?;
        tx.commit().await?;
        Ok(imported)
    }
}

/// A reader that counts the bytes read of the file itself, before decompression.
struct CountingReader<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

/// A reader of lines that knows how much of the file was read.
trait LedgerReader: BufRead {
    fn bytes_read(&self) -> u64;
}

impl<R: Read> LedgerReader for BufReader<&mut CountingReader<R>> {
    fn bytes_read(&self) -> u64 {
        self.get_ref().read
    }
}

impl<R: Read> LedgerReader for BufReader<MultiGzDecoder<BufReader<&mut CountingReader<R>>>> {
    fn bytes_read(&self) -> u64 {
        self.get_ref().get_ref().get_ref().read
    }
}

fn read<R: Read>(
    file: &mut CountingReader<R>,
    report: &mut ImportReport,
    progress: &mut impl FnMut(Progress),
) -> Result<Parsed> {
    let mut start = BufReader::new(file);
    let gzip = start.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let mut lines: Box<dyn LedgerReader + '_> =
        if gzip { Box::new(BufReader::new(MultiGzDecoder::new(start))) } else { Box::new(start) };
    let mut parsed = Parsed::default();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if (&mut lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.len() as u64 == MAX_LINE_BYTES && bytes.last() != Some(&b'\n') {
            report.add(number, ".", "the line is longer than 1 MiB");
            return Ok(parsed);
        }
        let text = bytes.trim_ascii();
        // A byte order mark at the beginning is valid.
        let text =
            if number == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
        if text.is_empty() {
            continue;
        }
        match decode::<LedgerLine>(text) {
            Ok(line) => parsed.add(number, line),
            Err(error) => match wrong_keys(text) {
                Some(reason) => report.add(number, ".", reason),
                None => report.add(number, error.path(), error.reason()),
            },
        }
        if number % 1_000 == 0 {
            progress(Progress::Reading(lines.bytes_read()));
        }
    }
    progress(Progress::Reading(lines.bytes_read()));
    Ok(parsed)
}

/// Returns the fault in the keys of a line. Returns `None` if the keys are valid.
fn wrong_keys(text: &[u8]) -> Option<String> {
    let keys = KEYS.join("`, `");
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(text) else {
        return None;
    };
    match value.as_object() {
        None => Some("not a JSON object".to_owned()),
        Some(object) if object.len() != 1 => {
            Some(format!("{} keys; a line has exactly one of `{keys}`", object.len()))
        }
        Some(object) if !object.keys().all(|key| KEYS.contains(&key.as_str())) => {
            Some(format!("an unknown key; a line has exactly one of `{keys}`"))
        }
        Some(_) => None,
    }
}

impl Parsed {
    fn add(&mut self, number: u64, line: LedgerLine) {
        match line {
            LedgerLine::User(user) => self.users.push((number, user)),
            LedgerLine::Identity(identity) => self.identities.push((number, *identity)),
            LedgerLine::Account(account) => self.accounts.push((number, *account)),
            LedgerLine::Security(security) => self.securities.push((number, *security)),
            LedgerLine::Transaction(transaction) => self.transactions.push((number, *transaction)),
        }
    }
}

/// The ids that the database contains.
#[derive(Debug, Default)]
struct KnownIds {
    users: HashSet<String>,
    usernames: HashSet<String>,
    identities: HashSet<String>,
    securities: HashSet<String>,
    transactions: HashSet<String>,
    /// The number and the type of each account.
    accounts: HashMap<String, (i64, String)>,
}

impl KnownIds {
    async fn load(connection: &mut SqliteConnection) -> Result<Self> {
        async fn set(
            connection: &mut SqliteConnection,
            sql: &'static str,
        ) -> Result<HashSet<String>> {
            let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(connection).await?;
            Ok(rows.into_iter().collect())
        }
        let sql = "SELECT account_id, n, body ->> 'type' FROM accounts";
        let accounts: Vec<(String, i64, String)> =
            sqlx::query_as(sql).fetch_all(&mut *connection).await?;
        Ok(Self {
            users: set(connection, "SELECT user_id FROM users").await?,
            usernames: set(connection, "SELECT username FROM users").await?,
            identities: set(connection, "SELECT identity_id FROM identities").await?,
            securities: set(connection, "SELECT security_id FROM securities").await?,
            transactions: set(connection, "SELECT id FROM transactions").await?,
            accounts: accounts.into_iter().map(|(id, n, kind)| (id, (n, kind))).collect(),
        })
    }
}

/// Reports ids that occur twice, in the file or in the file and the database.
struct UniqueIds<'a> {
    seen: HashMap<&'a str, u64>,
}

impl<'a> UniqueIds<'a> {
    fn new() -> Self {
        Self { seen: HashMap::new() }
    }

    fn check(
        &mut self,
        line: u64,
        id: &'a str,
        path: &str,
        known: bool,
        report: &mut ImportReport,
    ) {
        if known {
            report.add(line, path, "the bank has this id already");
        } else if let Some(first) = self.seen.insert(id, line) {
            report.add(line, path, format!("the same id as in line {first}"));
        }
    }
}

fn check(parsed: &Parsed, known: &KnownIds, report: &mut ImportReport) {
    let mut identities = UniqueIds::new();
    for (line, identity) in &parsed.identities {
        let id = identity.id.as_str();
        identities.check(*line, id, "identity.id", known.identities.contains(id), report);
    }
    let mut securities = UniqueIds::new();
    for (line, security) in &parsed.securities {
        let id = security.id.as_str();
        securities.check(*line, id, "security.id", known.securities.contains(id), report);
        if !security.kind.is_known() {
            report.add(*line, "security.type", "not a type of security");
        }
    }
    let has_identity = |id: &str| known.identities.contains(id) || identities.seen.contains_key(id);
    let has_security = |id: &str| known.securities.contains(id) || securities.seen.contains_key(id);
    let mut accounts = UniqueIds::new();
    let mut types = HashMap::new();
    for (line, account) in &parsed.accounts {
        let id = account.id.as_str();
        accounts.check(*line, id, "account.id", known.accounts.contains_key(id), report);
        types.insert(id, account.account_type());
        if !account.account_type().is_known() {
            report.add(*line, "account.type", "not a type of account");
        }
        if account.owner_identity_ids.is_empty() {
            report.add(
                *line,
                "account.owner_identity_ids",
                "empty: an account has at least one owner",
            );
        }
        let owners = account.owner_identity_ids.iter().map(|id| ("owner_identity_ids", id));
        let others = account.non_owner_identity_ids.iter().map(|id| ("non_owner_identity_ids", id));
        for (n, (field, identity)) in owners.enumerate().chain(others.enumerate()) {
            if !has_identity(identity.as_str()) {
                report.add(*line, format!("account.{field}[{n}]"), "no such identity");
            }
        }
        for (n, security) in super::read::held_securities(account).iter().enumerate() {
            if !has_security(security) {
                report.add(*line, format!("account.holdings[{n}].security_id"), "no such security");
            }
        }
    }
    let has_account = |id: &str| known.accounts.contains_key(id) || types.contains_key(id);
    let (mut users, mut usernames) = (UniqueIds::new(), UniqueIds::new());
    for (line, user) in &parsed.users {
        let (id, name) = (user.user_id.as_str(), user.username.as_str());
        users.check(*line, id, "user.user_id", known.users.contains(id), report);
        usernames.check(*line, name, "user.username", known.usernames.contains(name), report);
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            report.add(*line, "user.username", "1 to 255 bytes without control characters");
        }
        if !has_identity(user.identity_id.as_str()) {
            report.add(*line, "user.identity_id", "no such identity");
        }
        if user.account_ids.len() > MAX_ACCOUNTS_PER_USER {
            report.add(
                *line,
                "user.account_ids",
                format!("more than {MAX_ACCOUNTS_PER_USER} accounts"),
            );
        }
        let mut named = HashSet::new();
        for (n, account) in user.account_ids.iter().enumerate() {
            let path = format!("user.account_ids[{n}]");
            if !has_account(account.as_str()) {
                report.add(*line, path, "no such account");
            } else if !named.insert(account) {
                report.add(*line, path, "named twice");
            }
        }
    }
    let mut transactions = UniqueIds::new();
    for (line, transaction) in &parsed.transactions {
        let id = transaction.id.as_str();
        transactions.check(*line, id, "transaction.id", known.transactions.contains(id), report);
        let account = transaction.account_id.as_str();
        let known = known.accounts.get(account).map(|(_, kind)| kind.as_str());
        match types.get(account).map(|kind| kind.as_str()).or(known) {
            None => report.add(*line, "transaction.account_id", "no such account"),
            Some(kind) if kind != transaction.kind.as_str() => {
                report.add(*line, "transaction.type", "not the type of its account");
            }
            Some(_) => {}
        }
        let details = transaction.investment.as_ref();
        if let Some(security) = details.and_then(|details| details.security_id.as_ref())
            && !has_security(security.as_str())
        {
            report.add(*line, "transaction.investment.security_id", "no such security");
        }
    }
}

/// Checks the rules within each message: checksums, digits, fields that belong together.
///
/// Each message is validated alone in a response, because references are checked already.
fn rules(parsed: &Parsed, report: &mut ImportReport) {
    let mut add = |line: u64, from: &str, to: &str, found: &Report| {
        for breach in found.errors().filter(|breach| breach.path.starts_with(from)) {
            // Real ledgers contain accounts that no payment network reaches.
            if breach.rule != rule::TRANSFER_CODES_PRESENT {
                report.add(line, breach.path.replacen(from, to, 1), breach.text.clone());
            }
        }
    };
    let owner_id = IdentityId::new("anyone").ok();
    let Some(owner_id) = owner_id else { return };
    let context = UserContext::full();
    for (line, identity) in &parsed.identities {
        let response =
            UserAccountInfoResponse::new(identity.id.clone(), vec![identity.clone()], [], []);
        add(*line, "identities[0]", "identity", &response.validate(&context));
    }
    for (line, security) in &parsed.securities {
        let owner = vec![Identity::new(owner_id.clone(), "")];
        let response =
            UserAccountInfoResponse::new(owner_id.clone(), owner, vec![security.clone()], []);
        add(*line, "securities[0]", "security", &response.validate(&context));
    }
    for (line, account) in &parsed.accounts {
        let people = account.identity_ids().map(|id| Identity::new(id.clone(), ""));
        let held = super::read::held_securities(account).into_iter().collect::<HashSet<_>>();
        let held = held.iter().filter_map(|id| {
            let id = SecurityId::new(id).ok()?;
            Some(Security::new(id, SecurityType::Other, account.unit.clone()))
        });
        let (people, held) = (people.collect::<Vec<_>>(), held.collect::<Vec<_>>());
        let response =
            UserAccountInfoResponse::new(owner_id.clone(), people, held, vec![account.clone()]);
        add(*line, "accounts[0]", "account", &response.validate(&context));
    }
    for (line, transaction) in &parsed.transactions {
        let response = TransactionsResponse::new(1_u64, vec![transaction.clone()]);
        let found = response.validate(&PageContext::new());
        add(*line, "transactions[0]", "transaction", &found);
    }
}

async fn store(
    connection: &mut SqliteConnection,
    parsed: &Parsed,
    known: KnownIds,
    progress: &mut impl FnMut(Progress),
) -> Result<ImportCounts> {
    let since = today(connection).await?;
    for (_, identity) in &parsed.identities {
        let query = sqlx::query("INSERT INTO identities (identity_id, body) VALUES (?, ?)");
        let query = query.bind(identity.id.as_str()).bind(write::text(identity));
        query.execute(&mut *connection).await?;
    }
    for (_, security) in &parsed.securities {
        let query =
            sqlx::query("INSERT INTO securities (security_id, body, made_up) VALUES (?, ?, 0)");
        let query = query.bind(security.id.as_str()).bind(write::text(security));
        query.execute(&mut *connection).await?;
    }
    let mut numbers: HashMap<&str, i64> = HashMap::new();
    for (_, account) in &parsed.accounts {
        let sql = "INSERT INTO accounts (account_id, body, since, opening) VALUES (?, ?, ?, ?)";
        let query = sqlx::query(sql)
            .bind(account.id.as_str())
            .bind(write::text(account))
            .bind(since)
            .bind(minor_units(account));
        let added = query.execute(&mut *connection).await?;
        numbers.insert(account.id.as_str(), added.last_insert_rowid());
    }
    let number = |id: &str| {
        let old = || known.accounts.get(id).map(|(n, _)| *n);
        numbers.get(id).copied().or_else(old).ok_or(LedgerError::NotABank)
    };
    for (_, user) in &parsed.users {
        let query =
            sqlx::query("INSERT INTO users (user_id, username, identity_id) VALUES (?, ?, ?)")
                .bind(user.user_id.as_str())
                .bind(&user.username)
                .bind(user.identity_id.as_str());
        let user_n = query.execute(&mut *connection).await?.last_insert_rowid();
        for (place, account) in user.account_ids.iter().enumerate() {
            let query =
                sqlx::query("INSERT INTO holders (user_n, place, account_n) VALUES (?, ?, ?)");
            let query = query.bind(user_n).bind(place as i64).bind(number(account.as_str())?);
            query.execute(&mut *connection).await?;
        }
    }
    let total = parsed.transactions.len() as u64;
    let mut touched: HashSet<(i64, Day)> = HashSet::new();
    for (n, some) in parsed.transactions.chunks(5_000).enumerate() {
        progress(Progress::Writing(n as u64 * 5_000, total));
        let rows = some.iter().map(|(_, transaction)| {
            let account = transaction.account_id.as_str();
            let row = write::Row::new(number(account)?, transaction);
            // Only an account that existed before can have cursors.
            if known.accounts.contains_key(account) {
                touched.insert((row.account_n, row.before));
            }
            Ok(row)
        });
        write::put(connection, &rows.collect::<Result<Vec<_>>>()?).await?;
    }
    progress(Progress::Writing(total, total));
    let change = next_change(connection).await?;
    write::touch(connection, change, touched).await?;
    Ok(ImportCounts {
        users: parsed.users.len() as u64,
        identities: parsed.identities.len() as u64,
        accounts: parsed.accounts.len() as u64,
        securities: parsed.securities.len() as u64,
        transactions: total,
    })
}

/// Returns the balance in minor units. It scales later generated amounts; it is not used as money.
fn minor_units(account: &Account) -> i64 {
    let scale = money::scale_of(&account.unit);
    let factor = Decimal::from(10_u64.pow(scale));
    let minor = account.current_balance.decimal().checked_mul(factor);
    minor.and_then(|minor| i64::try_from(minor.trunc().mantissa()).ok()).unwrap_or(1_000_000)
}
