//! Conformance tests of stores: one check for each guarantee of [`Store`].
//!
//! [`conformance!`](crate::conformance) turns each check into a test:
//!
//! ```ignore
//! px_items::conformance!(memory, async {
//!     let store = MemoryStore::new(Environment::Sandbox);
//!     Some(Fixture::new(Arc::new(store)))
//! });
//! ```
//!
//! Details of a particular store (its file, its indexes) have their own tests.

#![allow(clippy::unwrap_used, reason = "tests, which other crates run too: a failure is a panic")]

mod audit;
mod claims;
mod clock;
mod commits;
mod faults;
mod links;
mod notifications;
mod outbox;
mod permits;
mod reads;
mod reviews;
mod tickets;
mod tokens;
mod tools;
mod world;

pub use tools::{LosableKeys, RawSql, SharedCalendar, StepClock};

use super::Store;
use std::{any::Any, fmt, sync::Arc};
use tools::Bench;

/// An empty store for one check, with its tools and resources.
pub struct Fixture {
    store: Arc<dyn Store>,
    sql: Option<Arc<dyn RawSql>>,
    keys: Option<Arc<LosableKeys>>,
    clock: Option<StepClock>,
    calendar: Option<SharedCalendar>,
    resources: Vec<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// Creates a fixture from an empty store. The store's environment must be the sandbox.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, sql: None, keys: None, clock: None, calendar: None, resources: Vec::new() }
    }

    /// Adds direct access to the store's database, for the checks of unreadable rows.
    #[must_use]
    pub fn sql(mut self, sql: Arc<dyn RawSql>) -> Self {
        self.sql = Some(sql);
        self
    }

    /// Adds the keys that the store seals with, for the checks of lost keys.
    #[must_use]
    pub fn keys(mut self, keys: Arc<LosableKeys>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Adds the clock that measures the store's time limits, for the checks of a database that does
    /// not respond.
    #[must_use]
    pub fn clock(mut self, clock: StepClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Adds the store's own time, for the checks of clocks that are ahead. The store extrapolates
    /// it by its [`clock`](Self::clock).
    #[must_use]
    pub fn calendar(mut self, calendar: SharedCalendar) -> Self {
        self.calendar = Some(calendar);
        self
    }

    /// Keeps a resource alive for the duration of the check, for example a folder or a server.
    #[must_use]
    pub fn keeping(mut self, what: impl Any + Send + Sync) -> Self {
        self.resources.push(Box::new(what));
        self
    }
}

impl From<&Fixture> for Arc<dyn Store> {
    fn from(fixture: &Fixture) -> Self {
        Self::clone(&fixture.store)
    }
}

impl From<&Fixture> for Bench {
    fn from(fixture: &Fixture) -> Self {
        let Fixture { store, sql, keys, clock, calendar, .. } = fixture;
        let (sql, keys, clock) = (sql.clone(), keys.clone(), clock.clone());
        let calendar = calendar.clone();
        Self { store: Arc::clone(store), sql, keys, clock, calendar }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Generates [`check`] and the macro `conformance!` from one list of checks.
macro_rules! checks {
    (($d:tt) $($area:ident: $($name:ident)+;)+) => {
        /// Runs one check by its name.
        ///
        /// # Panics
        /// If the store violates the guarantee, or there is no check with this name.
        pub async fn check(name: &str, fixture: Fixture) {
            match name {
                $($(stringify!($name) => $area::$name((&fixture).into()).await,)+)+
                unknown => panic!("there is no check {unknown}"),
            }
            drop(fixture);
        }

        /// Generates a module with a test for each guarantee of a [store](crate::store::Store).
        ///
        /// `$make` is a future of an `Option<Fixture>`. If it returns `None`, the test is skipped.
        #[macro_export]
        macro_rules! conformance {
            ($d module:ident, $d make:expr) => {
                mod $d module {
                    #[allow(unused_imports, reason = "what makes the store comes from there")]
                    use super::*;
                    $($(
                        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                        async fn $name() {
                            let fixture: Option<$d crate::store::conformance::Fixture> = $d make.await;
                            if let Some(fixture) = fixture {
                                $d crate::store::conformance::check(stringify!($name), fixture).await;
                            }
                        }
                    )+)+
                }
            };
        }
    };
}

checks! { ($)
    links:
        a_link_makes_an_item
        an_application_joins_without_a_second_fetch
        the_first_application_that_needs_transactions_makes_it_due
        an_application_that_joins_a_complete_item_is_notified
        a_new_connection_never_has_an_epoch_of_before
        a_connection_is_changed
        who_joins_without_later_accounts_has_a_list_from_then_on
        a_repeated_link_keeps_the_creation_time_and_what_was_switched_off
        links_of_one_user_at_once_make_one_item
        unlinking_one_leaves_the_others
        unlinking_the_last_takes_everything
        a_large_item_is_removed_completely
        the_partner_holds_an_item_that_nobody_uses
        access_is_replaced;
    tokens:
        tokens_are_replaced_by_version
        old_tokens_are_revoked_unless_they_are_the_new_ones
        an_item_keeps_the_authorization_that_shows_more
        case_33_a_new_authorization_beats_a_refusal
        a_refusal_ends_the_tokens_and_a_link_repairs
        revocations_are_taken_and_settled
        cycling_is_asked_for_until_the_tokens_are_replaced
        a_link_takes_out_a_revocation_of_its_tokens
        a_link_waits_for_a_revocation_on_the_wire
        tokens_in_use_are_not_revoked
        a_revocation_that_ends_the_grant_waits_for_no_item
        a_refreshed_pair_that_lost_is_revoked;
    claims:
        the_longest_due_is_claimed_first
        claims_move_the_state
        case_32_nobody_claims_an_item_twice
        case_35_a_lease_that_ran_out_is_taken_over
        a_lease_is_renewed_by_its_holder_alone
        one_item_is_claimed_by_name
        a_refresh_that_was_cut_off_is_claimed_first
        the_record_of_a_refresh_ends_with_its_tokens
        leases_that_run_out_are_counted_until_a_commit
        fencing_tokens_are_no_counter
        items_are_handed_back
        an_item_that_rests_is_never_due;
    faults:
        an_item_that_cannot_be_read_stops_no_other
        an_item_of_an_unknown_state_stops_no_other
        a_refresh_of_an_item_that_cannot_be_read_stops_no_other
        what_a_later_version_stored_survives_a_commit
        a_connection_that_cannot_be_read_hides_no_other
        a_lost_key_holds_up_no_other_revocation
        a_lost_key_holds_up_no_other_webhook
        a_lost_key_takes_no_ticket
        a_lost_key_keeps_nobody_from_linking_or_leaving
        rows_are_sealed_again_under_the_present_key
        calls_end_in_time_while_the_database_hangs
        half_a_batch_is_handed_back
        dropped_calls_lose_nothing
        a_unit_may_have_any_character;
    clock:
        times_of_a_worker_that_is_ahead_are_capped
        times_before_a_step_back_are_capped
        stored_times_that_lie_ahead_count_as_old;
    permits:
        permits_are_shared_by_all_processes
        permits_leased_at_once_are_never_too_many
        the_state_of_a_partner_is_shared_by_all_processes
        a_partner_with_an_unreadable_state_is_called;
    notifications:
        a_notification_makes_due
        case_32_notifications_during_a_lease_cause_one_more
        case_45_a_notification_waits_for_the_partners_retry_after
        a_batch_is_applied_whole_or_not_at_all
        a_batch_of_two_thousand_is_applied
        entries_of_one_item_count_together
        a_revocation_by_the_partner_ends_the_access;
    commits:
        case_36_a_late_commit_changes_nothing
        case_24_a_commit_happens_whole
        a_long_fetch_is_stored_part_by_part
        a_commit_leaves_alone_what_others_write
        accounts_are_written_and_forgotten
        connections_take_in_new_accounts
        an_answer_without_accounts_is_the_first_one
        identities_and_securities_are_written
        a_commit_of_a_removed_item_is_refused;
    reads:
        transactions_are_paged_by_date_and_id
        a_page_never_shifts
        case_10_ids_are_compared_byte_by_byte
        changes_are_given_relative_to_a_base
        another_id_of_the_partners_is_no_change
        changes_are_paged
        a_transaction_that_came_back_can_be_removed_again
        changes_of_some_accounts_only
        known_rows_are_those_a_window_may_change
        case_31_what_is_written_is_read_back
        the_oldest_pending_is_known
        the_oldest_pending_is_of_accounts_that_are_not_closed
        the_overview_counts
        items_are_listed;
    outbox:
        case_38_webhooks_come_with_the_commit
        webhooks_are_sent_to_applications_connected_at_the_time
        webhooks_are_taken_and_settled
        webhooks_of_one_code_that_wait_become_one
        an_error_after_a_repair_is_sent_after_it
        a_webhook_that_was_taken_again_is_not_settled_by_the_first
        a_webhook_that_is_handed_back_was_not_taken
        webhooks_are_settled_together
        a_commit_raises_the_signals_of_its_work
        nobody_takes_a_webhook_twice;
    audit:
        the_log_tells_what_was_done
        the_partner_is_notified_of_joins_and_leaves
        scopes_are_changed
        a_new_address_for_webhooks_is_notified
        an_application_joins_without_new_tokens
        access_is_given_to_who_is_connected
        the_last_reads_are_kept
        of_two_unlinks_at_once_one_takes_it;
    reviews:
        entries_are_listed_by_item_and_replaced
        a_late_commit_changes_no_entries
        a_commit_writes_the_log_of_decisions
        ids_that_a_decision_replaced_are_put_back
        items_of_an_institution_give_evidence
        a_ruling_is_for_an_institution;
    tickets:
        a_ticket_works_once_and_for_a_time
        of_two_who_take_a_ticket_one_gets_it
        old_tickets_are_cleared_away
        a_public_token_is_exchanged_by_its_application_once
        a_public_token_is_sent_to_its_application;
}
