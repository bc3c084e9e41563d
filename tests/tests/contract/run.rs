//! One run of Schemathesis, and what was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::service::Tidings;
use tests::tools::{self, Folder};

use crate::world::World;

/// What every answer must be. Whether a request was right to be refused is another matter: the document says of many
/// rules in words only.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

/// Streams have no end to wait for.
const ENDLESS: &str = "/v1/audit/stream";

/// How many requests of an operation are drawn, where nobody says otherwise.
pub(crate) fn examples(usually: u32) -> u32 {
    number("TIDINGS_CONTRACT_EXAMPLES").unwrap_or(usually)
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Who calls, and what.
pub(crate) struct Caller {
    key: Option<String>,
    arguments: Vec<String>,
    phases: &'static str,
}

impl Caller {
    pub(crate) fn with_key(key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            arguments: Vec::new(),
            phases: "examples,coverage,fuzzing",
        }
    }

    pub(crate) fn without_key() -> Self {
        Self {
            key: None,
            ..Self::with_key("")
        }
    }

    /// Only operations with one of these tags.
    pub(crate) fn of(mut self, tags: &[&str]) -> Self {
        let tags = tags.iter().map(|tag| format!("--include-tag={tag}"));
        self.arguments.extend(tags);
        self
    }

    /// Only operations without these tags.
    pub(crate) fn but_for(mut self, tags: &[&str]) -> Self {
        let tags = tags.iter().map(|tag| format!("--exclude-tag={tag}"));
        self.arguments.extend(tags);
        self
    }

    /// Only what is drawn at random, without the list of what stands at the edges of every schema.
    pub(crate) fn quickly(mut self) -> Self {
        self.phases = "examples,fuzzing";
        self
    }

    /// Calls everything, so many drawn requests for each operation; fails with what Schemathesis says.
    pub(crate) async fn call(
        self,
        service: &Tidings,
        world: &World,
        examples: u32,
    ) -> anyhow::Result<Answers> {
        let folder = Folder::new()?;
        let (told, answers) = (
            folder.path().join("world.json"),
            folder.path().join("answers.json"),
        );
        std::fs::write(&told, world.told().to_string())?;
        let hooks = tools::repository().join("tests/contract");
        let path = std::env::join_paths([tools::schemathesis()?, hooks])?;
        let seed = number("TIDINGS_CONTRACT_SEED").unwrap_or(1);
        let mut command = tokio::process::Command::new("python3");
        command
            .args([
                "-m",
                "schemathesis.cli",
                "run",
                &format!("{}/openapi.json", service.url()),
            ])
            .args([
                "--checks",
                CHECKS,
                "--phases",
                self.phases,
                "--exclude-path",
                ENDLESS,
            ])
            .args([
                "--max-examples",
                &examples.to_string(),
                "--seed",
                &seed.to_string(),
            ])
            // What one run finds must not change what the next one asks.
            .args(["--generation-database", "none"])
            .args([
                "--continue-on-failure",
                "--no-shrink",
                "--suppress-health-check",
                "all",
            ])
            .args(["--request-timeout", "60", "--warnings", "off", "--no-color"])
            .args(&self.arguments)
            .env("PYTHONPATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONHASHSEED", "0")
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("TIDINGS_CONTRACT_WORLD", &told)
            .env("TIDINGS_CONTRACT_ANSWERS", &answers)
            .env("NO_PROXY", "*")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(key) = &self.key {
            command.arg(format!("--header=Authorization: Bearer {key}"));
        }
        let longest = Duration::from_mins(10) * (1 + examples / 20);
        let output = tokio::time::timeout(longest, command.output()).await;
        let output = output.context("Schemathesis does not end")??;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}\n{errors}");
        let counts = serde_json::from_slice(&std::fs::read(&answers)?)?;
        let answers = Answers(counts);
        println!("{}", answers.summary());
        Ok(answers)
    }
}

/// How often each `200 GET /v1/users` was answered.
pub(crate) struct Answers(BTreeMap<String, u64>);

impl Answers {
    fn succeeded(&self) -> BTreeSet<&str> {
        let operations = self.0.keys().filter_map(|answer| answer.split_once(' '));
        let good = operations.filter(|(status, _)| status.starts_with('2'));
        good.map(|(_, operation)| operation).collect()
    }

    /// At least so many operations did what they were asked for: a run in which everything is refused shows nothing.
    pub(crate) fn reach(&self, least: usize) {
        let succeeded = self.succeeded();
        assert!(
            succeeded.len() >= least,
            "only {} succeeded: {succeeded:?}",
            succeeded.len()
        );
    }

    /// Nothing else did.
    pub(crate) fn succeed_only(&self, may: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let succeeded = self.succeeded();
        let more: Vec<_> = succeeded.iter().filter(|operation| !may(operation)).collect();
        ensure!(more.is_empty(), "succeeded without a right to: {more:?}");
        Ok(())
    }

    fn summary(&self) -> String {
        let mut statuses = BTreeMap::<&str, u64>::new();
        for (answer, count) in &self.0 {
            *statuses
                .entry(answer.split(' ').next().unwrap_or_default())
                .or_default() += count;
        }
        let requests: u64 = statuses.values().sum();
        let succeeded = self.succeeded().len();
        format!("{requests} requests, {succeeded} operations succeeded, by status: {statuses:?}")
    }
}
