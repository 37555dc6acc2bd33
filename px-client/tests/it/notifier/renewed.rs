//! Entries whose token was replaced before Plaid heard of them.

use super::*;
use chrono::{DateTime, Utc};
use px_client::{
    notifier::PresentToken,
    portal::{Left, MemoryPortalStore, MintReason, MintToken, Portal},
};
use px_types::{AccessToken, UserId};
use std::collections::HashMap;

/// The bank's tokens by user; for a while it cannot say.
#[derive(Debug, Default)]
struct Present {
    tokens: Mutex<HashMap<UserId, String>>,
    away: AtomicBool,
    asked: AtomicUsize,
}

#[async_trait]
impl PresentToken for Present {
    async fn present(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err("the bank's records are away".into());
        }
        let user = entry.user_id().expect("each says whose it is");
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

/// Ann's token was replaced; Bob's Item is gone; Cat's token is as it was.
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

    /// What Plaid was told, token and account.
    fn told(&self) -> Vec<(String, String)> {
        let told = self.world.told().into_iter();
        told.map(|told| (told.token, told.account)).collect()
    }

    async fn all_told(&self) {
        sleep(Duration::from_secs(600)).await;
        assert_eq!(self.notifier.waiting().await.unwrap(), 0);
    }
}

fn pair(token: &str, n: usize) -> (String, String) {
    (token.to_owned(), account(n).to_string())
}

/// Also when nothing has shown yet that client and address are right.
#[tokio::test(start_paused = true)]
async fn an_entry_whose_token_was_replaced_is_told_once_under_the_new_one() {
    let set = set_up();
    set.tell("ann", 0).await;
    set.all_told().await;
    assert_eq!(set.told(), [pair("ann-2", 0)]);
    assert!(set.seen.taken_out().is_empty() && set.seen.stalls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_item_any_more_is_taken_out_beside_them() {
    let set = set_up();
    for (n, name) in ["ann", "bob", "cat", "ann"].into_iter().enumerate() {
        set.tell(name, n).await;
    }
    set.all_told().await;
    let mut told = set.told();
    told.sort();
    assert_eq!(told, [pair("ann-2", 0), pair("ann-2", 3), pair("cat-1", 2)]);
    assert_eq!(set.seen.taken_out(), ["bob-1"]);
}

/// One refusal tells of all entries of an Item, whether Plaid names the entry or not.
#[tokio::test(start_paused = true)]
async fn many_entries_of_one_item_are_renewed_together() {
    for silent in [false, true] {
        let set = set_up();
        set.world.with(|state| state.silent = silent);
        let entries = (0..2000)
            .map(|n| Entry::transactions(token("ann-1"), account(n), ago(0)).of(user("ann")));
        set.notifier.notify(entries.collect()).await.unwrap();
        set.all_told().await;
        assert_eq!(set.told().len(), 2000);
        assert_eq!(set.present.asked.load(Ordering::SeqCst), 1);
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
    assert_eq!(set.told(), [pair("cat-1", 1), pair("cat-1", 2)]);
    assert_eq!(set.notifier.waiting().await.unwrap(), 1);
    assert!(set.seen.taken_out().is_empty());
    set.present.away.store(false, Ordering::SeqCst);
    set.all_told().await;
    assert_eq!(set.told().last(), Some(&pair("ann-2", 0)));
    assert_eq!(set.told().len(), 3);
}

/// The bank's OAuth server: everybody shares.
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

    async fn end(&self, _: &UserId, _: DateTime<Utc>) -> Result<Left, Source> {
        Ok(Left::Nothing)
    }
}

#[tokio::test(start_paused = true)]
async fn the_portal_knows_the_present_token_and_imports_anew_where_it_is_dead() {
    let (world, store, ann) = (World::new(), Arc::<MemoryPortalStore>::default(), user("ann"));
    let portal = Portal::builder(world.client(), store, "Bank").tokens(Arc::new(Shares)).build();
    let before = portal.import(&ann).await.unwrap();
    let notifier = Notifier::builder(world.client()).tokens(Arc::new(portal.clone())).start();
    // Another process imports: the kept token is dead.
    world.with(|state| {
        state.tokens.clear();
        state.known.clear();
    });
    for n in 0..3 {
        let entry = Entry::transactions(before.clone(), account(n), ago(0)).of(ann.clone());
        notifier.notify(vec![entry]).await.unwrap();
        sleep(Duration::from_secs(10)).await;
    }
    let told: Vec<_> = world.told().into_iter().map(|told| (told.token, told.account)).collect();
    assert_eq!(told, [0, 1, 2].map(|n| pair("access-ann-2", n)));
    assert_eq!(world.with(|state| state.imports), 2, "the second and third find the new one");
    assert_eq!(portal.import(&ann).await.unwrap(), token("access-ann-2"));
}
