//! Entries with a token that was replaced before Plaid accepted them.

use super::*;
use chrono::{DateTime, Utc};
use px_client::{
    notifier::CurrentTokenSource,
    portal::{MemoryPortalStore, MintReason, MintToken, Portal, RemainingGrants},
};
use px_types::{AccessToken, UserId};
use std::collections::HashMap;

/// The bank's tokens by user. For a while they are not available.
#[derive(Debug, Default)]
struct Present {
    tokens: Mutex<HashMap<UserId, String>>,
    away: AtomicBool,
    requested: AtomicUsize,
}

#[async_trait]
impl CurrentTokenSource for Present {
    async fn current_token(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source> {
        self.requested.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err("the bank's records are away".into());
        }
        let user = entry.user_id().expect("each entry names its user");
        Ok(self.tokens.lock().unwrap().get(user).map(|text| token(text)))
    }
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

struct Renewing {
    world: World,
    present: Arc<Present>,
    seen: Arc<Seen>,
    notifier: Notifier,
}

/// Ann's token was replaced, Bob's Item no longer exists, and Cat's token is unchanged.
fn set_up() -> Renewing {
    let (world, present, seen) = (World::new(), Arc::<Present>::default(), Arc::<Seen>::default());
    world.knows(["ann-2", "cat-1"]);
    let tokens = [(user("ann"), "ann-2".into()), (user("cat"), "cat-1".into())];
    *present.tokens.lock().unwrap() = tokens.into();
    let notifier =
        Notifier::builder(world.client()).tokens(present.clone()).observer(seen.clone()).start();
    Renewing { world, present, seen, notifier }
}

impl Renewing {
    async fn tell(&self, name: &str, n: usize) {
        let entry = Entry::transactions(token(&format!("{name}-1")), account(n), ago(0));
        self.notifier.notify(vec![entry.of(user(name))]).await.unwrap();
    }

    /// Returns the notifications that Plaid accepted: token and account.
    fn notified(&self) -> Vec<(String, String)> {
        let notified = self.world.notified().into_iter();
        notified.map(|one| (one.token, one.account)).collect()
    }

    async fn all_notified(&self) {
        sleep(Duration::from_secs(600)).await;
        assert_eq!(self.notifier.waiting().await.unwrap(), 0);
    }
}

fn pair(token: &str, n: usize) -> (String, String) {
    (token.to_owned(), account(n).to_string())
}

/// Also if no call has shown yet that client and address are right.
#[tokio::test(start_paused = true)]
async fn an_entry_with_a_replaced_token_is_sent_once_with_the_new_one() {
    let set = set_up();
    set.tell("ann", 0).await;
    set.all_notified().await;
    assert_eq!(set.notified(), [pair("ann-2", 0)]);
    assert!(set.seen.refused().is_empty() && set.seen.stalls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn entries_without_an_item_are_removed_beside_them() {
    let set = set_up();
    for (n, name) in ["ann", "bob", "cat", "ann"].into_iter().enumerate() {
        set.tell(name, n).await;
    }
    set.all_notified().await;
    let mut notified = set.notified();
    notified.sort();
    assert_eq!(notified, [pair("ann-2", 0), pair("ann-2", 3), pair("cat-1", 2)]);
    assert_eq!(set.seen.refused(), ["bob-1"]);
}

/// One refusal applies to all entries of an Item, whether Plaid names the entry or not.
#[tokio::test(start_paused = true)]
async fn many_entries_of_one_item_are_renewed_together() {
    for silent in [false, true] {
        let set = set_up();
        set.world.with(|state| state.silent = silent);
        let entries = (0..2000)
            .map(|n| Entry::transactions(token("ann-1"), account(n), ago(0)).of(user("ann")));
        set.notifier.notify(entries.collect()).await.unwrap();
        set.all_notified().await;
        assert_eq!(set.notified().len(), 2000);
        assert_eq!(set.present.requested.load(Ordering::SeqCst), 1);
        assert!(set.world.calls() <= if silent { 30 } else { 2 }, "{}", set.world.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_bank_cannot_say_just_now_waits_and_holds_nobody_up() {
    let set = set_up();
    set.present.away.store(true, Ordering::SeqCst);
    set.tell("ann", 0).await;
    set.tell("cat", 1).await;
    sleep(Duration::from_secs(60)).await;
    set.tell("cat", 2).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(set.notified(), [pair("cat-1", 1), pair("cat-1", 2)]);
    assert_eq!(set.notifier.waiting().await.unwrap(), 1);
    assert!(set.seen.refused().is_empty());
    set.present.away.store(false, Ordering::SeqCst);
    set.all_notified().await;
    assert_eq!(set.notified().last(), Some(&pair("ann-2", 0)));
    assert_eq!(set.notified().len(), 3);
}

/// The bank's OAuth server. Every user shares.
#[derive(Debug)]
struct Shares;

#[async_trait]
impl MintToken for Shares {
    async fn mint(&self, user: &UserId, reason: MintReason) -> Result<Option<AccessToken>, Source> {
        assert_eq!(reason, MintReason::Notify);
        Ok(Some(AccessToken::new(format!("oauth-{user}"))))
    }

    async fn connected(&self, _: &UserId) -> Result<(), Source> {
        Ok(())
    }

    async fn end(&self, _: &UserId, _: DateTime<Utc>) -> Result<RemainingGrants, Source> {
        Ok(RemainingGrants::None)
    }
}

#[tokio::test(start_paused = true)]
async fn the_portal_knows_the_current_token_and_imports_again_if_it_has_ended() {
    let (world, store, ann) = (World::new(), Arc::<MemoryPortalStore>::default(), user("ann"));
    let portal = Portal::builder(world.client(), store, "Bank").tokens(Arc::new(Shares)).build();
    let before = portal.import(&ann).await.unwrap();
    let notifier = Notifier::builder(world.client()).tokens(Arc::new(portal.clone())).start();
    // Another process imports: the stored token has ended.
    world.with(|state| {
        state.tokens.clear();
        state.known.clear();
    });
    for n in 0..3 {
        let entry = Entry::transactions(before.clone(), account(n), ago(0)).of(ann.clone());
        notifier.notify(vec![entry]).await.unwrap();
        sleep(Duration::from_secs(10)).await;
    }
    let notified: Vec<_> =
        world.notified().into_iter().map(|one| (one.token, one.account)).collect();
    assert_eq!(notified, [0, 1, 2].map(|n| pair("access-ann-2", n)));
    assert_eq!(world.with(|state| state.imports), 2, "the second and third find the new one");
    assert_eq!(portal.import(&ann).await.unwrap(), token("access-ann-2"));
}
