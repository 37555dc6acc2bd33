//! Plays Plaid: connects a user by OAuth and reads the bank.

use crate::{
    browser::{Browser, Place},
    report::{self, say},
    update::{self, Changes},
};
use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use px_client::{
    HttpTransport, MemoryTokenStore, PartnerClient, RefreshingTokens,
    oauth::{AuthorizationRequest, TokenSet},
    transport::ReqwestTransport,
};
use px_types::{
    ClientId, ClientSecret, Date, TransactionId, UserId, model::transaction::Transaction,
    partner::UserAccountInfoResponse,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use url::Url;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where Plaid has users sent back to. Nobody listens there: the demo reads the redirect.
pub(crate) const REDIRECT_URI: &str = "https://cdn.plaid.com/link/v2/stable/oauth.html";
/// How Plaid is known at the bank.
pub(crate) const CLIENT_ID: &str = "plaid";
/// The days of history that a new Item has.
const HISTORY_DAYS: u64 = 730;

/// Plaid's side of the demo.
pub(crate) struct Plaid {
    transport: Arc<dyn HttpTransport>,
    bank: PartnerClient,
}

/// A user who connected.
pub(crate) struct Connected {
    bank: PartnerClient,
    pub(crate) user_id: UserId,
    pub(crate) transactions: BTreeMap<TransactionId, Transaction>,
}

impl Plaid {
    pub(crate) fn new(base_url: &str, secret: ClientSecret) -> Result<Self, Failure> {
        let transport: Arc<dyn HttpTransport> = Arc::new(ReqwestTransport::new()?);
        let client_id = ClientId::new(CLIENT_ID)?;
        let bank = PartnerClient::builder(base_url, transport.clone())
            .client(client_id, secret)
            .build()?;
        Ok(Self { transport, bank })
    }

    /// OAuth with PKCE, the user's part of it included.
    pub(crate) async fn connect(
        &self,
        issuer: &str,
        username: &str,
        password: &str,
    ) -> Result<Connected, Failure> {
        let mut request = AuthorizationRequest::new(REDIRECT_URI);
        request.issuer = Some(issuer.to_owned());
        request.application_id = Some("budget-app".parse()?);
        request.application_name = Some("Budget App".to_owned());
        let (url, pending) = self.bank.begin_authorization(request, &mut rand::rng())?;
        say!("   Plaid sends the user to {}…", url.as_str().split('?').next().unwrap_or_default());
        let answer = self.browse(url, username, password).await?;
        let tokens: TokenSet =
            self.bank.exchange_code(pending.check_callback(answer.as_str())?).await?;
        let user_id = tokens.user_id.clone().ok_or("the bank did not say who the user is")?;
        say!("   The code is exchanged: the token is {user_id}'s, for {}", scopes(&tokens));
        let store = Arc::new(MemoryTokenStore::new(tokens));
        let tokens = RefreshingTokens::new(self.bank.clone(), store);
        let bank = self.bank.with_tokens(Arc::new(tokens));
        Ok(Connected { bank, user_id, transactions: BTreeMap::new() })
    }

    /// What the user does: signs in, ticks every account, consents.
    async fn browse(&self, url: Url, username: &str, password: &str) -> Result<Url, Failure> {
        let mut browser = Browser::new(self.transport.clone());
        let mut place = browser.open(url, REDIRECT_URI).await?;
        for _ in 0..5 {
            let page = match place {
                Place::Back(url) => return Ok(url),
                Place::Page(page) => page,
            };
            let accounts = page.checkboxes("account_id");
            place = if accounts.is_empty() {
                say!("   The user signs in as {username}");
                let typed = [("username", username), ("password", password)];
                browser.submit(&page, &typed, REDIRECT_URI).await?
            } else {
                say!("   The user picks {} accounts and consents", accounts.len());
                let mut typed: Vec<_> =
                    accounts.iter().map(|id| ("account_id", id.as_str())).collect();
                typed.push(("decision", "allow"));
                browser.submit(&page, &typed, REDIRECT_URI).await?
            };
        }
        Err(format!("the bank's pages did not let {username} through").into())
    }
}

fn scopes(tokens: &TokenSet) -> String {
    let list = tokens.scope.iter().flat_map(|scopes| scopes.iter());
    list.map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

impl Connected {
    /// Accounts, holders and balances.
    pub(crate) async fn user(&self) -> Result<UserAccountInfoResponse, Failure> {
        Ok(self.bank.user(&self.user_id).await?)
    }

    /// Asks for somebody else with this user's token, and says what the bank answered.
    pub(crate) async fn try_another(&self, other: &UserId) -> Result<String, Failure> {
        match self.bank.user(other).await {
            Err(error) if error.status().is_some_and(|status| status == 403) => {
                Ok(error.to_string())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Err("the bank showed one user's accounts to another".into()),
        }
    }

    /// How many transactions are pending.
    pub(crate) fn pending(&self) -> usize {
        self.transactions.values().filter(|row| row.is_pending()).count()
    }

    /// The latest transactions, newest first.
    pub(crate) fn latest(&self, most: usize) -> Vec<&Transaction> {
        let mut rows: Vec<_> = self.transactions.values().collect();
        rows.sort_by(|a, b| b.date().cmp(&a.date()).then_with(|| a.id.cmp(&b.id)));
        rows.truncate(most);
        rows
    }

    /// The first fetch: two years, with a progress bar.
    pub(crate) async fn read_history(&mut self, today: Date) -> Result<(), Failure> {
        let rows = self.read(today.minus_days(HISTORY_DAYS), today).await?;
        self.transactions = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        Ok(())
    }

    /// An update: the window of the contract, merged.
    pub(crate) async fn update(
        &mut self,
        last: Date,
        today: Date,
    ) -> Result<(Date, Changes), Failure> {
        let start = update::first_date(today, last, &self.transactions);
        let rows = self.read(start, today).await?;
        Ok((start, update::merge(&mut self.transactions, rows, start, today)))
    }

    async fn read(&self, start: Date, end: Date) -> Result<Vec<Transaction>, Failure> {
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template(
            "   {bar:40} {pos}/{len} transactions  {per_sec}",
        )?);
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut stream = self.bank.transactions(&self.user_id, start, end);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            if rows.is_empty() {
                bar.set_length(stream.total().unwrap_or_default());
            }
            rows.push(row);
            bar.set_position(rows.len() as u64);
        }
        bar.finish_and_clear();
        Ok(rows)
    }
}

/// Prints what an update found.
pub(crate) fn tell(changes: &Changes, user: &UserAccountInfoResponse) {
    const MOST: usize = 5;
    say!(
        "   {} new, {} changed, {} gone",
        changes.new.len(),
        changes.changed.len(),
        changes.gone.len()
    );
    if !changes.new.is_empty() {
        say!("\n   The latest of the new ones:");
        report::transactions(changes.new.iter().take(MOST), user);
    }
    for (before, after) in changes.changed.iter().take(MOST) {
        say!("   changed  {}", report::change(before, after));
    }
    for row in changes.gone.iter().take(MOST) {
        say!("   gone     {}  {}", row.date(), row.description.as_deref().unwrap_or("–"));
    }
}
