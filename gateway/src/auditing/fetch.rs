//! `tidings audit fetch`: takes away what an auditor keeps: key, checkpoint, and the log up to it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use domain::proof::{Checkpoint, Verifier};
use futures::TryStreamExt;
use reqwest::Response;

use crate::cli::Failure;
use crate::installation::in_full;

/// The environment variable of the tenant's key.
const KEY: &str = "TIDINGS_API_KEY";
/// How long the service may be silent.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is fetched, and where it is kept.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// The service's address, as `https://tidings.example.org`
    #[arg(
        long,
        value_name = "URL",
        env = "TIDINGS_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// A key of the tenant that may read its audit trail
    #[arg(long, value_name = "KEY", env = KEY, hide_env_values = true)]
    api_key: String,
    /// Where the files are kept
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    into: PathBuf,
    /// Fetch key and checkpoint only
    #[arg(long)]
    no_log: bool,
}

/// Runs the subcommand: exit code 1 where the service contradicts what is kept already.
pub(super) async fn run(args: &FetchArgs) -> Result<ExitCode, Failure> {
    let service = Service::new(args)?;
    fs::create_dir_all(&args.into).map_err(|error| unwritten(&args.into, &error))?;
    let key = service.text("/v1/audit/checkpoint/key").await?;
    let key_file = args.into.join("checkpoint.key");
    keep(&key_file, &key, |kept| kept.trim() == key.trim())?;
    let key: Verifier = key.trim().parse().map_err(|error| stranger(&error))?;

    let note = service.text("/v1/audit/checkpoint").await?;
    let checkpoint = Checkpoint::open(&note, &key).map_err(|error| stranger(&error))?;
    let size = checkpoint.size;
    let note_file = args.into.join(format!("{size}.checkpoint"));
    keep(&note_file, &note, |kept| {
        Checkpoint::open(kept, &key).is_ok_and(|kept| kept.root == checkpoint.root)
    })?;
    println!("{}\n{}", key_file.display(), note_file.display());
    if !args.no_log {
        let log_file = args.into.join(format!("{size}.jsonl"));
        let log = service.get(&format!("/v1/audit/log?size={size}")).await?;
        save(log, &log_file).await?;
        println!("{}", log_file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps a file that is there: nothing that somebody has kept is written over. `same`: whether it says the same.
fn keep(path: &Path, text: &str, same: impl Fn(&str) -> bool) -> Result<(), Failure> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| unwritten(path, &error)),
        Err(_) if fs::read_to_string(path).is_ok_and(|kept| same(&kept)) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::new(
            format!(
                "{} says something else than the service says now:\n{text}",
                path.display()
            ),
            "keep both: two keys, or two signed trees of one size, are evidence that history was rewritten",
        )),
        Err(error) => Err(unwritten(path, &error)),
    }
}

async fn save(log: Response, path: &Path) -> Result<(), Failure> {
    let file = File::create(path).map_err(|error| unwritten(path, &error))?;
    let mut file = BufWriter::new(file);
    let mut parts = log.bytes_stream();
    while let Some(part) = parts.try_next().await.map_err(|error| broken(&error))? {
        file.write_all(&part).map_err(|error| unwritten(path, &error))?;
    }
    file.flush().map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        format!("{} cannot be written: {error}", path.display()),
        "name another folder with --into",
    )
}

fn stranger(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        format!("the service's answer is not believed: {error}"),
        "name the address of the API with --url",
    )
}

fn broken(error: &reqwest::Error) -> Failure {
    Failure::new(
        format!("the service cannot be asked: {}", in_full(error)),
        "name its address with --url",
    )
}

/// The service, asked with a tenant's key.
struct Service {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Service {
    fn new(args: &FetchArgs) -> Result<Self, Failure> {
        delivery::install_crypto();
        let http = reqwest::Client::builder()
            .connect_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .build()
            .map_err(|error| broken(&error))?;
        Ok(Self {
            http,
            base: args.url.trim_end_matches('/').to_owned(),
            key: args.api_key.clone(),
        })
    }

    async fn get(&self, path: &str) -> Result<Response, Failure> {
        let request = self.http.get(format!("{}{path}", self.base));
        let response = request.bearer_auth(&self.key).send().await;
        let response = response.map_err(|error| broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = response.text().await.map_err(|error| broken(&error))?;
        Err(Failure::new(
            format!("{path} was answered {status}: {problem}"),
            format!("see docs/auditing.md; {KEY} must be a tenant's key with audit.read.tenant"),
        ))
    }

    async fn text(&self, path: &str) -> Result<String, Failure> {
        let response = self.get(path).await?;
        response.text().await.map_err(|error| broken(&error))
    }
}
