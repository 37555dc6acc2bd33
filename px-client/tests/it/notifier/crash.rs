//! The bank's program is killed at any moment: Plaid is notified of every entry that the notifier has stored.

use super::*;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// A store that outlives the program, like a table.
#[test]
fn killed_at_any_moment_it_loses_nothing_that_was_kept() {
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new();
        world.knows(["t"]);
        world.network(move |number, _| match (number + seed) % 5 {
            0 => Fate::AnswerIsLost,
            1 => Fate::Slow(Duration::from_millis(30)),
            2 => Fate::Response(500, &[], ""),
            _ => Fate::Arrives,
        });
        let disk: Arc<Disk> = Arc::default();
        let stored: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let mut next = 0;
        for _ in 0..3 {
            let sync_state = Duration::from_millis(rng.random_range(0..400));
            let (world, disk, stored) = (world.clone(), disk.clone(), stored.clone());
            // Dropping a runtime drops its tasks at any point.
            runtime().block_on(async {
                let notifier = Notifier::builder(world.client()).store(disk).start();
                let work = async {
                    loop {
                        let account = account(next);
                        next += 1;
                        notifier.transactions(token("t"), account.clone(), ago(0)).await.unwrap();
                        stored.lock().unwrap().insert(account.to_string());
                        sleep(Duration::from_millis(3)).await;
                    }
                };
                tokio::select! { () = work => {}, () = sleep(sync_state) => {} }
                std::mem::forget(notifier);
            });
        }
        runtime().block_on(async {
            let notifier = Notifier::builder(world.client()).store(disk).start();
            assert_eq!(notifier.shutdown(Duration::from_secs(600)).await.unwrap(), 0);
        });
        let notified: BTreeSet<_> = world.notified().into_iter().map(|one| one.account).collect();
        let stored = stored.lock().unwrap();
        assert!(notified.is_superset(&stored), "seed {seed}: {:?}", stored.difference(&notified));
    }
}
