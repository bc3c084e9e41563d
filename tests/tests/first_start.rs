//! What a newcomer meets: the first start, the lines to paste, the demo, and clear words where something is missing.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::nats::NatsServer;
use tests::postgres;
use tests::service::binary;
use tests::tools::{Folder, free_port};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_mins(1);

/// The binary without any setting of the surroundings, in a folder of its own.
fn tidings(folder: &Folder) -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDINGS_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs to the end and answers exit code, standard output and standard error.
async fn outcome(mut command: Command) -> anyhow::Result<(Option<i32>, String, String)> {
    let output = tokio::time::timeout(PATIENCE, command.output()).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// Starts `tidings serve` with no configuration but a port, and answers what it prints until it is quiet.
async fn serve(folder: &Folder, port: u16) -> anyhow::Result<(tokio::process::Child, String)> {
    let mut command = tidings(folder)?;
    let mut child = command
        .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("output")?).lines();
    let mut printed = String::new();
    let reading = async {
        // The last line to paste reads the stats.
        while let Some(line) = lines.next_line().await? {
            printed.push_str(&line);
            printed.push('\n');
            if printed.matches("curl").count() >= 3 {
                break;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .context("too little was printed")??;
    Ok((child, printed))
}

#[tokio::test]
async fn the_three_lines_work_when_pasted() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let port = free_port()?;
    let (_child, printed) = serve(&folder, port).await?;
    ensure!(
        printed.contains(&format!("listening on http://127.0.0.1:{port}")),
        "{printed}"
    );
    let key = std::fs::read_to_string(folder.path().join("tidings-data/admin.key"))?;
    ensure!(
        printed.contains(key.trim()),
        "the first start does not show the admin key:\n{printed}"
    );
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("curl"))
        .map(str::trim)
        .collect();
    ensure!(lines.len() == 3, "{printed}");
    let script = lines.join("\n");
    let mut shell = Command::new("sh");
    shell
        .arg("-eu")
        .arg("-c")
        .arg(&script)
        .env_remove("http_proxy")
        .current_dir(folder.path())
        .kill_on_drop(true);
    let (code, stdout, stderr) = outcome(shell).await?;
    ensure!(code == Some(0), "{script}\n{stdout}\n{stderr}");
    ensure!(!stdout.contains("problem"), "{script}\n{stdout}");
    ensure!(
        stdout.contains("\"position\"") || stdout.contains("\"total_events\""),
        "{script}\n{stdout}"
    );
    Ok(())
}

#[tokio::test]
async fn the_admin_key_is_shown_once_and_kept_for_its_owner_only() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new()?;
    let port = free_port()?;
    let (mut child, _) = serve(&folder, port).await?;
    child.kill().await?;
    let file = folder.path().join("tidings-data/admin.key");
    let key = std::fs::read_to_string(&file)?;
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    let (_child, printed) = serve(&folder, port).await?;
    ensure!(
        !printed.contains(key.trim()),
        "the second start shows the key again:\n{printed}"
    );
    ensure!(std::fs::read_to_string(&file)? == key, "the key changed");
    Ok(())
}

/// A message that names the address and the way out, an exit code, no stack trace.
fn is_clear(code: Option<i32>, stderr: &str, address: &str) -> anyhow::Result<()> {
    ensure!(code.is_some_and(|code| code != 0), "exit code {code:?}: {stderr}");
    ensure!(
        stderr.contains(address),
        "the address {address} is not named: {stderr}"
    );
    ensure!(stderr.lines().any(|line| line.starts_with("error: ")), "{stderr}");
    ensure!(
        stderr.lines().any(|line| line.starts_with("help: ")),
        "no way out is named: {stderr}"
    );
    ensure!(
        !stderr.contains("panicked") && !stderr.contains("stack backtrace"),
        "{stderr}"
    );
    Ok(())
}

#[tokio::test]
async fn a_missing_broker_or_database_is_named() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let port = free_port()?;
    let nowhere = format!("127.0.0.1:{port}");
    let master_key = "ab".repeat(32);
    let mut no_broker = tidings(&folder)?;
    no_broker
        .arg("serve")
        .env("TIDINGS_LISTEN", "127.0.0.1:0")
        .env("TIDINGS_MASTER_KEY", &master_key)
        .env("TIDINGS_NATS_URL", format!("nats://{nowhere}"))
        .env(
            "TIDINGS_DATABASE_URL",
            format!("postgres://nobody@{nowhere}/nothing"),
        );
    let (code, _, stderr) = outcome(no_broker).await?;
    is_clear(code, &stderr, &nowhere)?;

    let nats = NatsServer::start().await?;
    let mut no_database = tidings(&folder)?;
    no_database
        .arg("serve")
        .env("TIDINGS_LISTEN", "127.0.0.1:0")
        .env("TIDINGS_MASTER_KEY", &master_key)
        .env("TIDINGS_PROFILE", "development")
        .env("TIDINGS_NATS_URL", nats.url())
        .env(
            "TIDINGS_DATABASE_URL",
            format!("postgres://nobody@{nowhere}/nothing"),
        );
    let (code, _, stderr) = outcome(no_database).await?;
    is_clear(code, &stderr, &nowhere)
}

#[tokio::test]
async fn a_taken_address_is_named() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let mut command = tidings(&folder)?;
    command.args(["serve", "--listen", &address]);
    let (code, _, stderr) = outcome(command).await?;
    is_clear(code, &stderr, &address)?;
    ensure!(
        !folder.path().join("tidings-data").exists(),
        "data was made for a service that cannot listen"
    );
    Ok(())
}

async fn demo_shows_the_main_job(arguments: &[&str]) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let mut command = tidings(&folder)?;
    command.arg("demo").args(arguments).env("TMPDIR", folder.path());
    let (code, stdout, stderr) = outcome(command).await?;
    ensure!(code == Some(0), "{stdout}\n{stderr}");
    ensure!(stdout.contains("155 of 155 accepted events received"), "{stdout}");
    ensure!(stdout.contains("every signature verified"), "{stdout}");
    ensure!(stdout.contains(r#""delivered":155"#), "{stdout}");
    let left: Vec<_> = std::fs::read_dir(folder.path())?.collect();
    ensure!(left.is_empty(), "the demo left {left:?}");
    Ok(())
}

#[tokio::test]
async fn the_demo_runs_on_the_embedded_engine() -> anyhow::Result<()> {
    demo_shows_the_main_job(&[]).await
}

#[tokio::test]
async fn the_demo_runs_on_the_cluster_engine_and_removes_its_data() -> anyhow::Result<()> {
    let nats = NatsServer::start().await?;
    let server = postgres::Postgres::start().await?;
    let url = server.url();
    demo_shows_the_main_job(&["--nats", &nats.url(), "--database", &url]).await?;
    let client = async_nats::connect(nats.url()).await?;
    let account = async_nats::jetstream::new(client).query_account().await?;
    ensure!(account.streams == 0, "the demo left {} streams", account.streams);
    Ok(())
}
