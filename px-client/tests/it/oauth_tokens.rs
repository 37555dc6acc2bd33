//! The bank's tokens for Plaid depend on the user's consent: they show the same data, and none is left once
//! the last application is gone.

use crate::plaid_world::{Fate, World, now, sleep};
use px_client::{
    notifier::{CurrentTokenSource as _, Entry},
    portal::{
        BankConsent, Disconnected, MemoryPortalStore, OAuthTokens, Portal, PortalErrorKind,
        PortalStore as _,
    },
};
use px_core::SystemClock;
use px_server::{
    PermittedAccounts, TokenGrant,
    clients::{Client, MemoryClients},
    oauth::{Authorization, MemoryGrantStore, OAuth},
    verify::VerifyError,
};
use px_types::{
    AccessToken, ApplicationId, ClientSecret, TargetApplicationToken, Timestamp, UserId,
    model::application::ConnectedApplication,
    partner::{ApplicationLinkEvent, NewApplicationLinkNotification, TokenResponse},
};
use std::{sync::Arc, time::Duration};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const QUERY: &str = "response_type=code&client_id=plaid&redirect_uri=https%3A%2F%2Fplaid.example%2Fback\
    &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256\
    &scope=accounts%20transactions%20offline_access";

/// A bank with its own OAuth server and portal.
struct Bank {
    world: World,
    oauth: OAuth,
    records: Arc<MemoryPortalStore>,
    portal: Portal,
    tokens: Arc<OAuthTokens>,
    ann: UserId,
}

fn app(name: &str) -> ApplicationId {
    name.parse().unwrap()
}

fn bank() -> Bank {
    let world = World::new();
    let plaid = Client::new("plaid".parse().unwrap(), "Plaid", ["https://plaid.example/back"]);
    let secret = ClientSecret::new("a long random secret of Plaid's");
    let clients = MemoryClients::new().with(plaid, &secret).unwrap();
    let store = Arc::new(MemoryGrantStore::new());
    let oauth = OAuth::builder("https://bank.example", Arc::new(clients), store)
        .clock(Arc::new(SystemClock::starting_at(now())))
        .build()
        .unwrap();
    let tokens = OAuthTokens::new(oauth.clone(), "plaid".parse().unwrap());
    let records = Arc::new(MemoryPortalStore::default());
    let portal =
        Portal::builder(world.client(), records.clone(), "Bank").tokens(tokens.clone()).build();
    Bank { world, oauth, records, portal, tokens, ann: "ann".parse().unwrap() }
}

impl Bank {
    /// Ann consents to one account, and Plaid redeems the code.
    async fn consent(&self) -> TokenResponse {
        let Authorization::Prompt(request) = self.oauth.authorize(QUERY).await else {
            panic!("the request is good");
        };
        let accounts = PermittedAccounts::Only(["a1".parse().unwrap()].into());
        let back = self.oauth.approve(&request, self.ann.clone(), accounts).await.unwrap();
        let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
        let form = format!(
            "grant_type=authorization_code&code={code}&code_verifier={VERIFIER}\
             &redirect_uri=https%3A%2F%2Fplaid.example%2Fback&client_id=plaid\
             &client_secret=a+long+random+secret+of+Plaid%27s"
        );
        let mut headers = http::HeaderMap::new();
        let media = "application/x-www-form-urlencoded".parse().unwrap();
        headers.insert(http::header::CONTENT_TYPE, media);
        self.oauth.token(&headers, form.as_bytes()).await.unwrap()
    }

    /// Ann agrees to share one account on the bank's page.
    fn agrees(&self) -> BankConsent {
        self.tokens.consent(&self.ann, PermittedAccounts::Only(["a1".parse().unwrap()].into()))
    }

    async fn shows(&self, token: &AccessToken) -> Option<Arc<TokenGrant>> {
        match self.oauth.verifier().verify(token).await {
            Ok(grant) => Some(grant),
            Err(VerifyError::Invalid(_)) => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Returns the bank's tokens that Plaid received and that are still valid.
    async fn living(&self) -> usize {
        let mut living = 0;
        for token in self.world.with(|state| state.shown.clone()) {
            living += usize::from(self.shows(&token).await.is_some());
        }
        living
    }

    /// Returns whether a booking makes the bank import the user again.
    async fn booking_imports(&self) -> bool {
        let before = self.world.with(|state| state.imports);
        // As the notifier does when Plaid reports that the token has ended.
        let stored = self.records.token(&self.ann).await.unwrap();
        let gone = || px_types::ItemAccessToken::new("of an Item that is gone");
        let token = stored.unwrap_or_else(gone);
        let since: Timestamp = now().into();
        let entry = Entry::transactions(token, "a1".parse().unwrap(), since).of(self.ann.clone());
        let present = self.portal.current_token(&entry).await.unwrap();
        let imported = self.world.with(|state| state.imports) > before;
        assert_eq!(present.is_some(), imported);
        imported
    }

    fn notification(
        &self,
        application: &str,
        event: ApplicationLinkEvent,
    ) -> NewApplicationLinkNotification {
        let at: Timestamp = SystemTime::at(self).into();
        let application = ConnectedApplication::new(app(application), "App", at);
        let id: px_types::NotificationId =
            format!("{}-{event}", at.utc().timestamp()).parse().unwrap();
        let mut notification =
            NewApplicationLinkNotification::new(id, self.ann.clone(), application, at);
        notification.event = Some(event);
        notification
    }
}

/// Returns the time of the bank.
struct SystemTime;

impl SystemTime {
    fn at(bank: &Bank) -> chrono::DateTime<chrono::Utc> {
        bank.portal.clock().now()
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_shows_what_the_consent_shows_and_ends_with_it() {
    let bank = bank();
    let consent = bank.consent().await;
    bank.world.links(&bank.ann, &app("budget"), 1);
    bank.portal.import(&bank.ann).await.unwrap();
    let token = bank.world.with(|state| state.shown[0].clone());
    let (shown, consented) =
        (bank.shows(&token).await.unwrap(), bank.shows(&consent.access_token).await.unwrap());
    assert_eq!((&shown.accounts, &shown.scopes), (&consented.accounts, &consented.scopes));
    // Long after every access token of the consent has expired.
    sleep(Duration::from_secs(86_400)).await;
    assert!(bank.shows(&token).await.is_some());
    // Plaid revokes the consent.
    bank.oauth.revoke_grant(consented.grant_id.as_deref().unwrap()).await.unwrap();
    assert!(bank.shows(&token).await.is_none());
    assert!(!bank.booking_imports().await);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_disconnect_no_token_lives_and_nothing_imports_again() {
    let bank = bank();
    let consent = bank.consent().await;
    bank.world.links(&bank.ann, &app("budget"), 1);
    bank.world.links(&bank.ann, &app("tax"), 2);
    bank.portal.import(&bank.ann).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let done = bank.portal.disconnect(&bank.ann, &app("tax")).await.unwrap();
    assert_eq!((done, bank.living().await), (Disconnected::Done, 1), "one is left");
    assert!(bank.shows(&consent.access_token).await.is_some());
    let done = bank.portal.disconnect(&bank.ann, &app("budget")).await.unwrap();
    assert_eq!((done, bank.living().await), (Disconnected::Done, 0));
    assert!(bank.shows(&consent.access_token).await.is_none());
    for _ in 0..3 {
        assert!(!bank.booking_imports().await);
        assert!(bank.portal.applications(&bank.ann).await.unwrap().list.is_empty());
        let refused = bank.portal.import(&bank.ann).await.unwrap_err();
        assert_eq!(refused.kind(), PortalErrorKind::NotShared);
    }
    assert!(bank.world.with(|state| state.items.is_empty()));
    // After a new consent the user is imported again.
    sleep(Duration::from_secs(1)).await;
    bank.consent().await;
    bank.portal.import(&bank.ann).await.unwrap();
    assert_eq!(bank.living().await, 1);
}

/// The end is not lost if Plaid fails in the middle of it.
#[tokio::test(start_paused = true)]
async fn a_last_disconnect_that_was_interrupted_ends_the_tokens_too() {
    let bank = bank();
    bank.consent().await;
    bank.world.links(&bank.ann, &app("budget"), 1);
    bank.portal.import(&bank.ann).await.unwrap();
    bank.portal.applications(&bank.ann).await.unwrap();
    for path in ["/item/application/unlink", "/item/application/list"] {
        bank.world.network(move |_, requested| match requested == path {
            true => Fate::NotConnected,
            false => Fate::Arrives,
        });
        let tried = bank.portal.disconnect(&bank.ann, &app("budget")).await.unwrap();
        assert_eq!(tried, Disconnected::Underway, "{path}");
        sleep(Duration::from_secs(1)).await;
    }
    bank.world.network(|_, _| Fate::Arrives);
    let later = bank.portal.clock().now() + chrono::TimeDelta::hours(1);
    assert_eq!(bank.portal.retry_due(later).await.unwrap().done, 1);
    assert_eq!(bank.living().await, 0);
    assert!(!bank.booking_imports().await);
    assert!(bank.world.with(|state| state.items.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn an_unlink_at_plaid_of_the_last_one_ends_the_tokens_too() {
    let bank = bank();
    bank.consent().await;
    bank.world.links(&bank.ann, &app("budget"), 1);
    bank.portal.applications(&bank.ann).await.unwrap();
    assert_eq!(bank.living().await, 1);
    sleep(Duration::from_secs(60)).await;
    bank.world.with(|state| {
        state.items.clear();
        state.tokens.clear();
    });
    let notification = bank.notification("budget", ApplicationLinkEvent::Unlinked);
    bank.portal.application_linked(&notification).await.unwrap();
    assert_eq!(bank.living().await, 0);
    assert!(!bank.booking_imports().await);
}

/// Viewing a page, booking and "Connect" are no consent; selecting accounts on the bank's page is.
#[tokio::test(start_paused = true)]
async fn a_consent_on_the_banks_page_lasts_if_an_application_is_connected() {
    let target = TargetApplicationToken::new("target-1");
    for consents in [false, true] {
        let bank = bank();
        bank.portal.applications(&bank.ann).await.unwrap();
        assert!(!bank.booking_imports().await);
        let refused = bank.portal.connect(&bank.ann, &target, None).await.unwrap_err();
        assert_eq!(
            refused.kind(),
            PortalErrorKind::NotShared,
            "nothing is read before the consent"
        );
        assert_eq!(bank.world.calls(), 0);
        let consent = bank.agrees();
        bank.portal.connect(&bank.ann, &target, None).await.unwrap();
        drop(consent);
        assert_eq!(bank.living().await, 1);
        let token = bank.world.with(|state| state.shown[0].clone());
        let shown = bank.shows(&token).await.unwrap();
        assert_eq!(shown.accounts, PermittedAccounts::Only(["a1".parse().unwrap()].into()));
        if consents {
            bank.world.links(&bank.ann, &app("budget"), 1);
            let notification = bank.notification("budget", ApplicationLinkEvent::Linked);
            bank.portal.application_linked(&notification).await.unwrap();
        }
        sleep(Duration::from_secs(3_601)).await;
        assert_eq!(bank.living().await, usize::from(consents));
        // The window was closed: a connection that was begun is no reason to begin another one.
        bank.world.with(|state| state.tokens.clear());
        assert_eq!(bank.booking_imports().await, consents);
    }
}

/// Notifications arrive in any order: an application is connected that the bank does not know yet.
#[tokio::test(start_paused = true)]
async fn an_unlink_that_overtakes_a_link_ends_nothing() {
    let bank = bank();
    let consent = bank.consent().await;
    bank.world.links(&bank.ann, &app("budget"), 1);
    bank.portal.applications(&bank.ann).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    bank.world.links(&bank.ann, &app("tax"), 2);
    bank.world.with(|state| {
        let shared = state.items.get_mut(&bank.ann).unwrap();
        shared.applications.retain(|one| one.application_id == app("tax"));
    });
    let notification = bank.notification("budget", ApplicationLinkEvent::Unlinked);
    // Plaid is out of reach, so the notification is sent again.
    bank.world.network(|_, _| Fate::NotConnected);
    bank.portal.application_linked(&notification).await.unwrap_err();
    bank.world.network(|_, _| Fate::Arrives);
    bank.portal.application_linked(&notification).await.unwrap();
    assert!(bank.shows(&consent.access_token).await.is_some());
    assert_eq!(bank.living().await, 1);
}

/// The last application is gone, and the Item still exists because of another institution of the bank.
#[tokio::test(start_paused = true)]
async fn what_is_connected_after_the_last_unlink_reads_by_a_token_that_lives() {
    let target = TargetApplicationToken::new("target-1");
    for connects_first in [false, true] {
        let bank = bank();
        bank.consent().await;
        bank.portal.import(&bank.ann).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        let notification = bank.notification("elsewhere", ApplicationLinkEvent::Unlinked);
        sleep(Duration::from_secs(60)).await;
        if connects_first {
            // It depends on a consent that the notification ends.
            bank.consent().await;
            bank.portal.connect(&bank.ann, &target, None).await.unwrap();
        }
        bank.portal.application_linked(&notification).await.unwrap();
        assert_eq!(bank.living().await, 0, "{connects_first}");
        assert_eq!(bank.records.token(&bank.ann).await.unwrap(), None, "{connects_first}");
        let items = bank.world.with(|state| state.items.len());
        assert_eq!(items, usize::from(connects_first), "one that is being connected stays");
        let _consent = bank.agrees();
        bank.portal.connect(&bank.ann, &target, None).await.unwrap();
        assert_eq!(bank.living().await, 1, "{connects_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn giving_up_ends_the_token_at_once() {
    let bank = bank();
    let _agreed = bank.agrees();
    bank.portal.connect(&bank.ann, &TargetApplicationToken::new("t"), None).await.unwrap();
    assert!(bank.portal.cancel_connect(&bank.ann).await.unwrap());
    assert_eq!(bank.living().await, 0);
}

/// The import failed, so Plaid has no Item, but it may have the token.
#[tokio::test(start_paused = true)]
async fn giving_up_ends_the_token_of_an_import_that_failed() {
    let bank = bank();
    let consent = bank.agrees();
    bank.world.network(|_, path| match path == "/item/import" {
        true => Fate::AnswerIsLost,
        false => Fate::Arrives,
    });
    let target = TargetApplicationToken::new("t");
    bank.portal.connect(&bank.ann, &target, None).await.unwrap_err();
    drop(consent);
    assert!(bank.living().await > 0);
    assert!(!bank.portal.cancel_connect(&bank.ann).await.unwrap());
    assert_eq!(bank.living().await, 0);
}

/// The user has consented in another window, and the application is not connected yet.
#[tokio::test(start_paused = true)]
async fn giving_up_ends_no_consent() {
    let bank = bank();
    let _agreed = bank.agrees();
    bank.portal.connect(&bank.ann, &TargetApplicationToken::new("t"), None).await.unwrap();
    let consent = bank.consent().await;
    assert!(bank.portal.cancel_connect(&bank.ann).await.unwrap());
    assert_eq!(bank.living().await, 0);
    assert!(bank.shows(&consent.access_token).await.is_some());
}

/// An import that fails repeatedly leaves one token instead of one for each attempt.
#[tokio::test(start_paused = true)]
async fn imports_that_fail_show_the_same_token() {
    let bank = bank();
    bank.consent().await;
    bank.world.network(|_, path| match path == "/item/import" {
        true => Fate::AnswerIsLost,
        false => Fate::Arrives,
    });
    for _ in 0..5 {
        bank.portal.import(&bank.ann).await.unwrap_err();
    }
    let mut shown = bank.world.with(|state| state.shown.clone());
    shown.dedup();
    assert_eq!(shown.len(), 1);
}
