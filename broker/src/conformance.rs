//! The conformance suite: the ports' contracts in executable form.
//!
//! Every case is written once, against a [`Harness`] that stands for an adapter and the storage behind it.
//! [`conformance_suite!`](crate::conformance_suite) expands all of them into named tests for one adapter, so a case
//! cannot be run on one and forgotten on another; [`CASES`] lists their names.
//!
//! A case that finds the contract broken panics, as a test does.

use std::sync::Arc;

use async_trait::async_trait;

use crate::layout::{Layout, Log};
use crate::{AppendError, Appended, Engine, NewRecord};

pub mod append;
pub mod dead_letters;
pub mod due;
mod embedded;
pub mod expiry;
pub mod follow;
pub mod kv;
pub mod queue;
pub mod read;
pub mod repeat;
mod support;

pub use embedded::EmbeddedHarness;

/// One installation of one adapter, with the storage behind it, for one case.
#[async_trait]
pub trait Harness: Send + Sync + std::fmt::Debug {
    /// Opens the installation. The first call finds it empty; a later call closes the engine opened before and
    /// opens the same installation again, as a restart of our process does, perhaps with another lease time in
    /// the layout.
    async fn open(&self, layout: Layout) -> Arc<dyn Engine>;

    /// Stops the storage as a crash would and starts it again, and returns when it answers. Where
    /// [`Harness::survives_restart`] is false the engine opened before is of no use afterwards: open again.
    async fn restart(&self);

    /// Whether an engine opened before [`Harness::restart`] goes on working after it: so where the storage is a
    /// server apart from this process.
    fn survives_restart(&self) -> bool;

    /// Appends to a log of the engine opened last, in such a way that the storage stores the records but its
    /// acknowledgement is lost on the way; returns after they have been stored.
    ///
    /// Answers what the caller of `append` saw in the end; `None` where its future was dropped.
    async fn append_unacknowledged(
        &self,
        log: Log,
        records: Vec<NewRecord>,
    ) -> Option<Result<Vec<Appended>, AppendError>>;
}

/// The names of all cases, as `queue::due_times_are_kept`.
pub const CASES: &[&str] = crate::conformance_cases!(names);

/// Expands every case of the suite to a test for one adapter, in a module of the name given.
///
/// The expression makes the [`Harness`](crate::conformance::Harness) of one case; it may await. The crate that uses
/// this needs `tokio` with its macros.
///
/// ```ignore
/// broker::conformance_suite!(embedded, broker::conformance::EmbeddedHarness::start().await);
/// ```
#[macro_export]
macro_rules! conformance_suite {
    ($adapter:ident, $harness:expr) => {
        $crate::conformance_cases!(suite $adapter, $harness);
    };
}

/// The list of all cases, the only one, and what can be made of it: `names`, or the tests of a `suite`.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($($what:tt)+) => {
        $crate::conformance_expand! {
            [$($what)+]
            append:
                sequences_are_contiguous_from_one
                expecting_an_empty_subject
                a_stale_expectation_conflicts
                no_expectation_always_holds
                one_of_many_racing_writers_wins
                racing_writers_succeed_by_loading_again
                writers_on_many_subjects_do_not_conflict
                records_of_one_append_stay_together
                one_failed_expectation_stores_nothing
                a_subject_may_come_twice_in_an_append
                the_largest_append_is_stored_whole
                malformed_appends_are_refused
                the_largest_record_of_every_engine_is_stored
                an_oversized_record_is_refused
                what_finds_no_room_is_refused_and_not_stored
                a_stale_append_among_many_fails_alone
                logs_are_apart;
            repeat:
                a_repeated_record_keeps_its_place
                a_repeated_conditional_append_succeeds
                a_repeated_append_succeeds_though_overtaken_by_others
                an_append_known_in_part_stores_the_rest
                a_conditional_append_known_in_part_conflicts
                a_lost_acknowledgement_is_made_up_for
                a_lost_acknowledgement_of_several_records_is_made_up_for
                dropped_appends_do_no_harm;
            read:
                pages_of_a_log
                the_record_at_a_sequence
                filters_select_records
                beyond_the_end_is_nothing
                the_last_record_on_a_subject
                the_bounds_of_a_log
                a_large_payload_comes_back
                payloads_are_kept_verbatim
                records_know_when_they_were_stored
                a_log_survives_our_restart
                a_log_survives_a_crash_of_the_storage;
            follow:
                history_then_live_without_gap_or_repeat
                from_the_end_only_what_comes
                a_filter_selects_what_is_followed
                followers_agree_on_the_order
                a_long_history_comes_whole
                a_history_of_large_records_comes_whole
                following_resumes_after_our_restart
                following_survives_a_crash_of_the_storage;
            queue:
                a_job_comes_once_and_is_done
                an_id_is_enqueued_once
                an_expired_lease_comes_back
                a_lost_lease_changes_nothing
                a_settled_lease_is_over
                an_extended_lease_keeps_the_job
                many_workers_share_many_jobs
                jobs_survive_our_restart
                jobs_survive_a_crash_of_the_storage
                an_oversized_payload_is_refused;
            due:
                an_id_that_waits_is_enqueued_once
                a_job_comes_again_when_due
                a_job_comes_again_at_once
                a_job_that_waits_can_be_hastened
                due_times_are_kept
                waiting_ends_with_a_job_or_empty;
            dead_letters:
                a_job_given_up_is_listed
                a_redriven_letter_is_a_job_again
                a_redriven_letter_waits_for_its_time
                a_discarded_letter_is_gone
                an_unknown_letter_is_no_error
                letters_are_listed_by_tenant_lane_and_page
                letters_survive_our_restart;
            kv:
                what_is_put_can_be_got
                a_key_is_created_once
                one_of_many_racing_creators_wins
                a_stale_revision_conflicts
                compare_and_set_loses_nothing
                a_deleted_key_can_be_created_again
                a_deletion_respects_its_expectation
                a_scan_selects_by_prefix_in_order
                buckets_are_apart
                an_oversized_value_is_refused;
            expiry:
                a_key_expires
                a_rewrite_sets_a_new_time_to_live
                keys_survive_our_restart;
        }
    };
}

/// Expands the list of cases.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_expand {
    ([names] $($group:ident: $($case:ident)+;)+) => {
        &[$($(concat!(stringify!($group), "::", stringify!($case))),+),+]
    };
    ([suite $adapter:ident, $harness:expr] $($group:ident: $($case:ident)+;)+) => {
        // A function and a module may have the same name.
        async fn $adapter() -> impl $crate::conformance::Harness {
            $harness
        }

        mod $adapter {
            $(mod $group {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let harness = super::super::$adapter().await;
                    $crate::conformance::$group::$case(&harness).await;
                })+
            })+
        }
    };
}

#[cfg(test)]
mod tests {
    use super::CASES;

    /// A case that is written but not listed would run nowhere.
    #[test]
    fn every_case_is_listed() {
        let groups = [
            ("append", include_str!("conformance/append.rs")),
            ("dead_letters", include_str!("conformance/dead_letters.rs")),
            ("due", include_str!("conformance/due.rs")),
            ("expiry", include_str!("conformance/expiry.rs")),
            ("follow", include_str!("conformance/follow.rs")),
            ("kv", include_str!("conformance/kv.rs")),
            ("queue", include_str!("conformance/queue.rs")),
            ("read", include_str!("conformance/read.rs")),
            ("repeat", include_str!("conformance/repeat.rs")),
        ];
        let mut written = Vec::new();
        for (group, source) in groups {
            let names = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "));
            written.extend(
                names
                    .filter_map(|rest| rest.split('(').next())
                    .map(|name| format!("{group}::{name}")),
            );
        }
        let mut listed = CASES.to_vec();
        written.sort();
        listed.sort_unstable();
        assert_eq!(listed, written);
    }
}
