//! `tidings restore`: what was lost comes back from the archive, and is proved to be the same.

use std::time::Duration;

use anyhow::{Context, ensure};
use broker::layout::Log;
use projections::verify;
use tests::for_each_engine;
use tests::service::Engine;

use crate::faults;
use crate::world::{Archived, World};

impl World {
    /// `tidings restore` succeeds; answers what it said.
    async fn restore(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let arguments = [&["restore"], arguments].concat();
        let (status, output) = self.service.run(&arguments).await?;
        ensure!(status.success(), "{status}: {output}");
        Ok(output)
    }

    /// `tidings restore` is refused; answers why.
    async fn restore_refused(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let arguments = [&["restore"], arguments].concat();
        let (status, output) = self.service.run(&arguments).await?;
        ensure!(status.code() == Some(1), "{status}: {output}");
        Ok(output)
    }

    /// The log is what it was before, the service goes on, and every read model is a fold of the log.
    async fn assert_goes_on(&mut self, before: &[Archived]) -> anyhow::Result<()> {
        let timeless = |records: &[Archived]| records.iter().map(Archived::timeless).collect::<Vec<_>>();
        let log = self.service.events().await?;
        let log: Vec<_> = log.iter().map(Archived::of).collect();
        ensure!(timeless(&log) == timeless(before), "the log is another: {log:?}");
        self.service.restart().await?;
        let key_lost = self.kind == Engine::Embedded && self.api()?.get("/v1/users").await?.status == 401;
        if key_lost {
            // What proves a key was in the same file as the log.
            self.issue_key().await?;
        }
        self.grow(2).await?;
        ensure!(self.listed().await? == self.users(), "the users are not there");
        self.service.terminate().await?;
        self.assert_folded().await
    }

    /// Kills restores ever later, until one was left the time to end; answers where the log ended after each.
    async fn kill_restores(&mut self, whole: usize) -> anyhow::Result<Vec<usize>> {
        let mut ends = Vec::new();
        let mut after = Duration::from_millis(50);
        while ends.last() != Some(&whole) {
            self.service.run_and_kill(&["restore"], after).await?;
            ends.push(self.service.events().await?.len());
            after += Duration::from_millis(20);
        }
        Ok(ends)
    }

    pub(crate) async fn assert_folded(&self) -> anyhow::Result<()> {
        let engine = self.service.engine().await?;
        let logs = engine
            .layout()
            .logs()
            .into_iter()
            .map(|log| (log, engine.log(log)));
        let logs = logs.filter(|(log, _)| matches!(log, Log::Events(_))).collect();
        let read_models = self.read_models().await?;
        let scratch = tempfile::tempdir()?;
        let differences = verify::compare(&read_models, &logs, scratch.path()).await?;
        read_models.close().await;
        engine.close().await;
        ensure!(differences.is_empty(), "not a fold of the log: {differences:#?}");
        Ok(())
    }
}

/// The SHA-256 that a proof line names.
fn proved(output: &str) -> anyhow::Result<&str> {
    let (_, digest) = output.split_once("SHA-256 over all ").context("no proof line")?;
    digest.split_whitespace().next().context("no digest")
}

for_each_engine! {
    async fn a_log_that_was_lost_comes_back(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        let before = world.archive().await?;
        let sound = world.restore(&["--check"]).await?;
        faults::lose(&mut world).await?;
        world.assert_does_not_start().await?;
        let refused = world.restore_refused(&["--check"]).await?;
        ensure!(refused.contains("the log ends at 0"), "{refused}");

        let restored = world.restore(&[]).await?;
        assert_eq!(proved(&restored)?, proved(&sound)?, "{restored}");
        world.assert_goes_on(&before).await?;
        Ok(())
    }

    async fn a_log_that_was_cut_off_is_continued(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        let before = world.archive().await?;
        faults::truncate(&mut world, 7).await?;
        world.restore(&[]).await?;
        world.assert_goes_on(&before).await?;
        Ok(())
    }

    /// Nothing is appended to what is not the beginning of the archive.
    async fn a_damaged_log_is_refused(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        let before = world.archive().await?;
        faults::rewrite(&mut world, 4).await?;
        for arguments in [&["--check"][..], &[]] {
            let refused = world.restore_refused(arguments).await?;
            ensure!(refused.contains("record 4 of the log is not the one in the archive"), "{refused}");
        }
        let engine_says = world.service.run(&["restore", "--set-aside"]).await?;
        match engine {
            Engine::Embedded => ensure!(engine_says.0.success(), "{}", engine_says.1),
            Engine::Cluster => {
                ensure!(engine_says.1.contains("nats stream backup"), "{}", engine_says.1);
                faults::remake(&mut world, 0, None).await?;
                world.restore(&[]).await?;
            }
        }
        world.assert_goes_on(&before).await?;
        Ok(())
    }

    async fn an_archive_with_a_gap_is_refused(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        faults::lose(&mut world).await?;
        world.forget_archived(6).await?;
        let refused = world.restore_refused(&[]).await?;
        ensure!(refused.contains("lacks record 6"), "{refused}");
        Ok(())
    }

    /// Killed at any moment and run again, a restore ends as if it had never been interrupted.
    async fn a_restore_that_is_killed_is_gone_on_with(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.import(3_000).await?;
        world.service.terminate().await?;
        let before = world.archive().await?;
        let mut rounds = Vec::new();
        // Until a kill has met it in the middle.
        while !rounds.iter().flatten().any(|end| (1..before.len()).contains(end)) {
            ensure!(rounds.len() < 6, "no kill came in the middle: {rounds:?}");
            faults::lose(&mut world).await?;
            rounds.push(world.kill_restores(before.len()).await?);
        }
        ensure!(rounds.iter().all(|ends| ends.is_sorted()), "{rounds:?}");
        world.restore(&[]).await?;
        world.restore(&[]).await?;
        world.assert_goes_on(&before).await?;
        Ok(())
    }

    /// A log that lost what was not archived yet is gone on with, and what had folded more is made anew.
    async fn read_models_ahead_of_the_archive_are_made_anew(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        let before = world.archive().await?;
        let kept = before.len() - 2;
        world.cut_archive(kept as u64).await?;
        faults::lose(&mut world).await?;
        let restored = world.restore(&[]).await?;
        ensure!(restored.contains("made anew") && restored.contains("users"), "{restored}");
        world.lost_users(1);
        world.assert_goes_on(&before[..kept]).await?;
        Ok(())
    }

    /// Messages and attempts have no archive: what is published after they were lost gets numbers nobody had.
    async fn messages_go_on_after_those_that_were_lost(engine: Engine) {
        let mut world = World::start(engine).await?;
        let first = world.publish(5).await?;
        world.service.terminate().await?;
        faults::lose_everything(&mut world).await?;
        let restored = world.restore(&[]).await?;
        ensure!(restored.contains("MESSAGES-0: records 1 to 5 are lost"), "{restored}");
        world.service.restart().await?;
        world.issue_key().await?;
        let second = world.publish(1).await?;
        ensure!(second == first + 1, "{second} after {first}");
        let ready = world.service.anyone()?.get("/health/ready").await?;
        ensure!(ready.status == 200, "{:?}", ready.json()?);
        Ok(())
    }
}
