//! A service with a tenant whose history is proved.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::Api;
use tests::service::{self, Engine, Tidings};

pub(crate) struct World {
    pub(crate) service: Tidings,
    pub(crate) api: Api,
    /// Where the auditor keeps files.
    pub(crate) folder: tempfile::TempDir,
}

/// What `tidings audit verify` said.
pub(crate) struct Verdict {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Verdict {
    pub(crate) fn kinds(&self) -> anyhow::Result<Vec<String>> {
        let report: Value = serde_json::from_str(&self.text).context(self.text.clone())?;
        let findings = report["findings"].as_array().context("findings")?;
        Ok(findings
            .iter()
            .filter_map(|finding| finding["kind"].as_str())
            .map(str::to_owned)
            .collect())
    }
}

/// A text in a body.
pub(crate) fn text<'a>(body: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    body[field]
        .as_str()
        .with_context(|| format!("{field} is missing in {body}"))
}

/// What is answered once all that has been written is in the read model.
pub(crate) async fn after(api: &Api, path: &str) -> anyhow::Result<String> {
    let name = format!("k{}", ulid::Ulid::generate());
    let written = api.post("/v1/api-keys", &json!({ "name": name })).await?;
    ensure!(written.status == 201, "{written:?}");
    let position = written.header("tidings-position").to_owned();
    let reply = api
        .call(Method::GET, path, None, &[("tidings-at-least", &position)])
        .await?;
    let body = String::from_utf8(reply.body.to_vec())?;
    ensure!(reply.status == 200, "{path}: {} {body}", reply.status);
    Ok(body)
}

impl World {
    pub(crate) async fn start(engine: Engine) -> anyhow::Result<Self> {
        let service = Tidings::start(engine).await?;
        let api = Self::another(&service, "acme").await?;
        Ok(Self {
            service,
            api,
            folder: tempfile::tempdir()?,
        })
    }

    /// A tenant.
    pub(crate) async fn another(service: &Tidings, slug: &str) -> anyhow::Result<Api> {
        let body = json!({ "name": slug, "slug": slug });
        let made = service.admin()?.post("/v1/tenants", &body).await?.expect(201)?;
        service.tenant(text(&made, "api_key")?)
    }

    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.service.restart().await?;
        self.api = self.service.tenant(self.api.key().context("a key")?)?;
        Ok(())
    }

    /// Registers users and renames each, in one call; waits for the tree.
    pub(crate) async fn users(&self, numbers: Range<u32>) -> anyhow::Result<()> {
        let users: Vec<_> = numbers
            .map(|number| {
                let data =
                    json!({ "email": format!("user{number}@example.org"), "name": format!("User {number}") });
                json!({ "command": "RegisterUser", "data": data })
            })
            .collect();
        let reply = self
            .api
            .post("/v1/commands", &json!({ "commands": users }))
            .await?
            .expect(200)?;
        let results = reply["results"].as_array().context("results")?;
        let renames: Vec<_> = results
            .iter()
            .map(|result| {
                let params = json!({ "id": result["body"]["id"] });
                json!({ "command": "UpdateUser", "params": params, "data": { "name": "Renamed" } })
            })
            .collect();
        let reply = self
            .api
            .post("/v1/commands", &json!({ "commands": renames }))
            .await?;
        let position = reply.header("tidings-position").to_owned();
        let reply = reply.expect(200)?;
        let results = reply["results"].as_array().context("results")?;
        ensure!(
            results.iter().all(|result| result["status"].as_u64() < Some(300)),
            "{reply}"
        );
        let seen = self
            .api
            .call(
                Method::GET,
                "/v1/audit/checkpoint",
                None,
                &[("tidings-at-least", &position)],
            )
            .await?;
        ensure!(seen.status == 200, "{seen:?}");
        Ok(())
    }

    /// The verifier key.
    pub(crate) async fn key(&self) -> anyhow::Result<String> {
        let reply = self.api.get("/v1/audit/checkpoint/key").await?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(String::from_utf8(reply.body.to_vec())?.trim().to_owned())
    }

    /// A checkpoint, and the same in a file.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<(String, PathBuf)> {
        let reply = self.api.get("/v1/audit/checkpoint").await?;
        let note = String::from_utf8(reply.body.to_vec())?;
        ensure!(reply.status == 200, "{note}");
        let path = self.keep("checkpoint", &note)?;
        Ok((note, path))
    }

    /// Keeps a file under a name of its own.
    pub(crate) fn keep(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self
            .folder
            .path()
            .join(format!("{name}-{}", ulid::Ulid::generate()));
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// The records that `/v1/audit/log` answers.
    pub(crate) async fn export(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let reply = self.api.get(&format!("/v1/audit/log{query}")).await?;
        ensure!(reply.status == 200, "{reply:?}");
        let text = String::from_utf8(reply.body.to_vec())?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Runs `tidings audit verify --json` on an export and checkpoints, the first of which must be fulfilled.
    pub(crate) fn verify(
        &self,
        lines: &[Value],
        checkpoints: &[&PathBuf],
        key: &str,
    ) -> anyhow::Result<Verdict> {
        let export = lines
            .iter()
            .fold(String::new(), |export, line| export + &line.to_string() + "\n");
        let export = self.keep("export", &export)?;
        let mut command = Command::new(service::binary()?);
        // An auditor's machine knows nothing of the service.
        command.env_clear().current_dir(self.folder.path());
        command
            .args(["audit", "verify", "--json", "--key", key, "--export"])
            .arg(export);
        for (number, checkpoint) in checkpoints.iter().enumerate() {
            command
                .arg(if number == 0 { "--checkpoint" } else { "--older" })
                .arg(checkpoint);
        }
        let output = command.output()?;
        let shown: BTreeMap<_, _> = [("out", &output.stdout), ("err", &output.stderr)].into();
        let text: String = shown
            .values()
            .map(|bytes| String::from_utf8_lossy(bytes))
            .collect();
        Ok(Verdict {
            code: output.status.code(),
            text,
        })
    }
}
