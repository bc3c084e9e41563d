//! Projections on real databases: every case runs on SQLite and on PostgreSQL.

#[path = "projections/aged.rs"]
mod aged;
#[path = "projections/audit.rs"]
mod audit;
#[path = "projections/comparison.rs"]
mod comparison;
#[path = "projections/deliveries.rs"]
mod deliveries;
#[path = "projections/endings.rs"]
mod endings;
#[path = "projections/history.rs"]
mod history;
#[path = "projections/kills.rs"]
mod kills;
#[path = "projections/pauses.rs"]
mod pauses;
#[path = "projections/permissions.rs"]
mod permissions;
#[path = "projections/queries.rs"]
mod queries;
#[path = "projections/rebuild.rs"]
mod rebuild;
#[path = "projections/series.rs"]
mod series;
#[path = "projections/tenancy.rs"]
mod tenancy;
#[path = "projections/tree.rs"]
mod tree;
#[path = "projections/trouble.rs"]
mod trouble;
#[path = "projections/world.rs"]
mod world;

use std::time::{Duration, Instant};

use history::Dice;
use projections::Stale;
use world::{ALL, PATIENCE, Store, World, tenant, user_id};

macro_rules! on_both {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() -> anyhow::Result<()> {
                super::$module::$case(super::Store::Sqlite).await
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() -> anyhow::Result<()> {
                super::$module::$case(super::Store::Postgres).await
            })*
        }
    };
}

on_both! {
    cases::two_projectors_fold_each_record_once,
    cases::killed_at_any_moment_the_tables_are_the_fold,
    cases::a_reader_waits_for_its_own_write,
    queries::tenants_and_users,
    queries::endpoints_until_they_are_removed,
    queries::messages_and_figures,
    queries::pages_continue_and_foreign_cursors_are_refused,
    deliveries::deliveries_by_status,
    deliveries::attempts_and_dead_letters,
    deliveries::deliveries_are_forgotten_by_age,
    permissions::holders_are_those_whom_the_evaluation_allows,
    series::records_are_counted_in_their_buckets,
    series::only_so_many_types_have_series_of_their_own,
    series::batches_do_not_matter,
    audit::the_trail_is_searched,
    tree::every_record_is_a_leaf,
    tree::whatever_was_in_the_tree_can_be_proved,
    audit::what_is_past_its_retention_is_removed,
    audit::a_page_looks_only_so_far,
    trouble::a_bad_record_parks_one_tenant,
    trouble::a_parked_tenant_goes_on_once_its_records_can_be_read,
    trouble::a_value_that_the_database_refuses_parks_one_tenant,
    trouble::a_value_that_the_database_refuses_parks_one_tenant_of_a_copy,
    trouble::a_gap_in_the_log_stops_the_projection,
    trouble::a_log_that_went_backwards_stops_the_projection,
    trouble::each_version_of_a_fold_has_rows_of_its_own,
    rebuild::all_are_rebuilt_while_the_log_grows,
    rebuild::what_was_changed_by_hand_is_found_and_mended,
    kills::killed_at_any_moment_a_rebuild_goes_on,
    kills::killed_between_two_switches_a_rebuild_goes_on,
    rebuild::one_tenant_is_rebuilt_alone,
    rebuild::a_copy_shows_a_past_position,
    rebuild::what_was_switched_is_rolled_back,
    rebuild::a_cancelled_rebuild_leaves_nothing,
    rebuild::poison_parks_in_a_copy_too,
    comparison::each_is_compared_where_it_stands,
    comparison::what_was_not_compared_is_told,
    comparison::a_live_model_that_stays_behind_is_told,
    comparison::what_was_found_outlives_a_kill,
    aged::what_a_log_has_forgotten_is_not_lost,
    aged::what_a_log_still_has_is_made_again,
    aged::one_tenant_keeps_what_a_log_has_forgotten,
    aged::a_rollback_past_forgotten_records_is_refused,
    aged::an_end_that_is_only_a_number_is_not_waited_for,
    endings::what_has_begun_to_be_switched_is_not_cancelled,
    endings::a_failure_between_two_switches_leaves_what_is_live,
    endings::another_programs_copy_is_not_gone_on_with,
    endings::another_programs_copy_is_not_gone_back_to,
    endings::two_processes_roll_back_once,
    endings::a_generation_that_is_gone_back_to_is_not_dropped,
    endings::a_copy_that_was_dropped_is_no_switch,
    endings::an_older_versions_generation_is_dropped,
    pauses::a_paused_projection_is_not_switched,
    pauses::one_tenant_is_exchanged_where_the_live_model_stands,
}

mod cases {
    use projections::{AuditFilter, Page, Projectors, ReadModels};
    use tokio_util::sync::CancellationToken;

    use super::{ALL, Dice, Duration, Instant, PATIENCE, Stale, Store, World, tenant, user_id};

    /// Two processes' projectors at once, while the log grows.
    pub(super) async fn two_projectors_fold_each_record_once(store: Store) -> anyhow::Result<()> {
        let mut world = World::new(store).await?;
        let (one, other) = (world.open().await?, world.open().await?);
        let (first, stop_first) = world.start(&one);
        let (second, stop_second) = world.start(&other);
        world.live(&mut Dice::new(7), 400).await?;
        world.settled(&one).await?;
        world.assert_folded(&other).await?;
        stop_first.cancel();
        world.live(&mut Dice::new(8), 100).await?;
        world.assert_folded(&other).await?;
        stop_second.cancel();
        first.join().await;
        second.join().await;
        Ok(())
    }

    /// Projectors dropped wherever they are, again and again, while the log grows.
    pub(super) async fn killed_at_any_moment_the_tables_are_the_fold(store: Store) -> anyhow::Result<()> {
        let mut world = World::new(store).await?;
        let (mut moments, mut chance) = (Dice::new(11), Dice::new(12));
        let (read_models, logs) = (world.open().await?, world.logs());
        let (mut kills, deadline) = (0, Instant::now() + PATIENCE);
        // On until they have been killed often, and have come some way nevertheless.
        while kills < 30 || reached(&read_models).await? == 0 {
            assert!(
                Instant::now() < deadline,
                "killed {kills} times, they never got anywhere"
            );
            let projectors = Projectors::follow(
                &read_models,
                logs.clone(),
                &projections::Control::default(),
                &CancellationToken::new(),
            );
            world.live(&mut chance, moments.roll(8)).await?;
            // Mostly at once, sometimes after they have got going: connecting alone takes a while, on a busy machine longer.
            let longest = if moments.roll(3) == 0 {
                400_000 * (1 + kills / 30)
            } else {
                10_000
            };
            tokio::time::sleep(Duration::from_micros(u64::from(moments.roll(longest)))).await;
            drop(projectors);
            kills += 1;
        }
        let (projectors, stop) = world.start(&read_models);
        world.assert_folded(&read_models).await?;
        stop.cancel();
        projectors.join().await;
        Ok(())
    }

    async fn reached(read_models: &ReadModels) -> anyhow::Result<u64> {
        let page = Page::default();
        let tenant = tenant(1);
        let audit = read_models
            .audit(&tenant)
            .list(&AuditFilter::default(), &page)
            .await?;
        Ok(audit.positions.first().map_or(0, |position| position.sequence))
    }

    /// Through projectors of the same process, and of another.
    pub(super) async fn a_reader_waits_for_its_own_write(store: Store) -> anyhow::Result<()> {
        let mut world = World::new(store).await?;
        let (here, elsewhere) = (world.open().await?, world.open().await?);
        let sequence = world.register(&tenant(1), 1).await?;
        let mut written = world.ends().await?;
        written.truncate(1);
        assert_eq!(written[0].sequence, sequence);
        let soon = Instant::now() + Duration::from_millis(50);
        let stale = here.wait_for(&["users"], &written, soon).await;
        assert!(matches!(stale, Err(Stale::Behind { .. })), "{stale:?}");
        let of_another_log = ["m0-9".parse()?];
        here.wait_for(&["users"], &of_another_log, soon).await?;

        let (projectors, stop) = world.start(&here);
        let deadline = Instant::now() + PATIENCE;
        for reader in [&here, &elsewhere] {
            reader.wait_for(ALL, &written, deadline).await?;
            let tenant = tenant(1);
            let answer = reader.users(&tenant).get(&user_id(1).parse()?).await?;
            assert!(answer.data.is_some());
            assert_eq!(answer.positions, written);
        }
        stop.cancel();
        projectors.join().await;
        Ok(())
    }
}
