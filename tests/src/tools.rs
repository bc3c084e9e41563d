//! Finds the programs that tests run, and runs them so that none outlives its test.
//!
//! `tests/run` installs what is missing into `.tools/` and names it in the environment; without these names the
//! same places are searched. A program runs under a small shell guard whose standard input is a pipe from the
//! test process: when the pipe closes, because the test ended, panicked or was killed, the guard kills the
//! program.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// The release of nats-server that tests run against; `tests/run` installs it.
pub const NATS_VERSION: &str = "2.15.1";

/// The guard: starts `"$@"`, tells its process id, then obeys the pipe. A line names a signal to send to the
/// program; the end of the pipe stands for the last signal, `$2`.
const GUARD: &str = r#"
exec 3<&0
log=$1 last=$2
shift 2
"$@" </dev/null >>"$log" 2>&1 3<&- &
program=$!
( while read -r signal <&3; do kill -s "$signal" "$program"; done; kill -s "$last" "$program"
  kill -s CONT "$program" ) >/dev/null 2>&1 &
watcher=$!
exec 3<&-
echo "$program"
exec >&-
wait "$program"
status=$?
kill -s KILL "$watcher"
exit "$status"
"#;

/// Removes the folder `$1` when the pipe closes; programs that are ending may still write into it for a moment.
const SWEEPER: &str = r#"
while read -r _; do :; done
tries=0
until rm -rf "$1" && [ ! -e "$1" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || exit 1
  sleep 0.1
done
"#;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_path_buf()
}

/// The nats-server to test against: `TIDINGS_NATS_SERVER`, else the one in `.tools`, else the one in `PATH`.
pub fn nats_server() -> anyhow::Result<PathBuf> {
    let installed = repository().join(format!(".tools/nats-server-{NATS_VERSION}/nats-server"));
    let found = std::env::var_os("TIDINGS_NATS_SERVER")
        .map(PathBuf::from)
        .or_else(|| installed.is_file().then_some(installed))
        .or_else(|| in_path("nats-server"))
        .with_context(|| missing(&format!("nats-server {NATS_VERSION}")))?;
    let version = version_of(&found)?;
    ensure!(
        version.contains(NATS_VERSION),
        "{} is {version}, but tests need {NATS_VERSION}; run `tests/run --install`",
        found.display()
    );
    Ok(found)
}

/// The folder with PostgreSQL's programs: `TIDINGS_POSTGRES_BIN`, else the folder in `PATH` that has `initdb`,
/// else the newest of the system, else the one in `.tools`.
pub fn postgres_bin() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("TIDINGS_POSTGRES_BIN") {
        return Ok(PathBuf::from(named));
    }
    let in_path = in_path("initdb").and_then(|program| program.parent().map(Path::to_path_buf));
    let system = || {
        fs::read_dir("/usr/lib/postgresql")
            .ok()?
            .flatten()
            .map(|e| e.path().join("bin"))
            .max()
    };
    let installed = || Some(repository().join(".tools/postgresql/bin"));
    let fit = |folder: &PathBuf| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    in_path
        .filter(fit)
        .or_else(|| system().filter(fit))
        .or_else(|| installed().filter(fit))
        .with_context(|| missing("PostgreSQL"))
}

/// A Python that has the `standardwebhooks` package: `TIDINGS_PYTHON`, else the one in `.tools`.
pub fn python() -> anyhow::Result<PathBuf> {
    let installed = repository().join(".tools/python/python");
    std::env::var_os("TIDINGS_PYTHON")
        .map(PathBuf::from)
        .or_else(|| installed.is_file().then_some(installed))
        .with_context(|| missing("the Python package standardwebhooks"))
}

/// The folder with Schemathesis and what it needs, for `PYTHONPATH`: `TIDINGS_SCHEMATHESIS`, else the one in `.tools`.
pub fn schemathesis() -> anyhow::Result<PathBuf> {
    let installed = repository().join(".tools/schemathesis");
    std::env::var_os("TIDINGS_SCHEMATHESIS")
        .map(PathBuf::from)
        .or_else(|| installed.join("schemathesis").is_dir().then_some(installed))
        .with_context(|| missing("Schemathesis"))
}

fn missing(what: &str) -> String {
    format!("{what} is missing; `tests/run --install` installs it")
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn version_of(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A port of the loopback interface that is free now; somebody else may take it before it is used.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

/// A temporary folder that is removed when it is dropped or the test process ends in any way.
///
/// Unlike a `tempfile::TempDir` it may live in a `static`. Declare it after the programs that write into it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    sweeper: Child,
}

impl Folder {
    /// Makes an empty folder that only this user can enter.
    pub fn new() -> anyhow::Result<Self> {
        let path = tempfile::Builder::new().prefix("tidings-test-").tempdir()?.keep();
        let sweeper = Command::new("sh")
            .args(["-c", SWEEPER, "sweeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a shell")?;
        Ok(Self { path, sweeper })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        // What it could not remove lies in the system's temporary folder and does no harm.
        self.sweeper.wait().ok();
    }
}

/// A program to start under the guard.
#[derive(Debug)]
pub struct Program {
    command: Command,
    name: String,
    log: PathBuf,
}

impl Program {
    /// A program whose standard output and error go to the end of `log`; `last` is the signal (`KILL`, `QUIT`)
    /// it gets when it is dropped or the test process ends.
    pub fn new(program: &Path, log: &Path, last: &str) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "guard"])
            .arg(log)
            .arg(last)
            .arg(program);
        let name = program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned();
        Self {
            command,
            name,
            log: log.to_path_buf(),
        }
    }

    /// The command line and environment, to add to.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it as another user and group.
    pub fn run_as(&mut self, user: u32, group: u32) {
        self.command.uid(user).gid(group);
    }

    /// Starts it; whether it then stays up is for the caller to watch.
    pub fn start(mut self) -> anyhow::Result<Running> {
        let mut guard = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start a shell for {}", self.name))?;
        let control = guard.stdin.take();
        let mut line = String::new();
        if let Some(output) = guard.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let mut running = Running {
            guard,
            control,
            pid: 0,
            name: self.name,
            log: self.log,
        };
        running.pid = line
            .trim()
            .parse()
            .with_context(|| format!("the guard of {} told no process id", running.name))?;
        Ok(running)
    }
}

/// A running program; dropped, it is killed and waited for.
#[derive(Debug)]
pub struct Running {
    guard: Child,
    control: Option<ChildStdin>,
    pid: u32,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by name, as `TERM`, `KILL`, `STOP`.
    pub fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        let control = self.control.as_mut().context("the program was already let go")?;
        writeln!(control, "{signal}").with_context(|| format!("{} has already ended", self.name))
    }

    /// Waits until it ends; an error names the program and shows its last output.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.guard.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} has not ended within {within:?}; its last output:\n{}",
                    self.name,
                    self.last_output()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if self.guard.try_wait()?.is_none() {
            // The program may end between the question and the signal; `ended` tells what counts.
            self.signal("KILL").ok();
        }
        self.ended(Duration::from_secs(10)).await.map(drop)
    }

    /// Waits until `ready` answers something; fails when the program ends before, or after the deadline.
    pub async fn until<T>(
        &mut self,
        within: Duration,
        mut ready: impl AsyncFnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(answer) = ready().await {
                return Ok(answer);
            }
            if let Some(status) = self.guard.try_wait()? {
                bail!(
                    "{} ended with {status}; its last output:\n{}",
                    self.name,
                    self.last_output()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} is not ready after {within:?}; its last output:\n{}",
                    self.name,
                    self.last_output()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All it has written so far, both streams together.
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last forty lines of its output.
    pub fn last_output(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.control.take());
        // A guard that cannot be waited for is gone already.
        self.guard.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> anyhow::Result<Running> {
        let mut program = Program::new(Path::new("sh"), &folder.join("log"), "KILL");
        program
            .command()
            .args(["-c", "echo started; trap '' TERM; while :; do sleep 0.05; done"]);
        program.start()
    }

    fn alive(pid: u32) -> bool {
        Command::new("sh")
            .args(["-c", &format!("kill -0 {pid} 2>/dev/null")])
            .status()
            .is_ok_and(|s| s.success())
    }

    #[tokio::test]
    async fn a_dropped_program_is_gone_even_if_it_ignores_sigterm() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut running = sleeper(folder.path())?;
        let log = folder.path().join("log");
        running
            .until(Duration::from_secs(10), async || {
                fs::read_to_string(&log)
                    .ok()
                    .filter(|text| text.contains("started"))
            })
            .await?;
        running.signal("TERM")?;
        assert!(
            running.ended(Duration::from_millis(200)).await.is_err(),
            "SIGTERM is ignored"
        );
        let pid = running.pid();
        assert!(alive(pid));
        drop(running);
        assert!(!alive(pid));
        Ok(())
    }

    #[tokio::test]
    async fn the_exit_code_and_the_output_are_told() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut program = Program::new(Path::new("sh"), &folder.path().join("log"), "KILL");
        program.command().args(["-c", "echo tidings; exit 7"]);
        let mut running = program.start()?;
        assert_eq!(running.ended(Duration::from_secs(10)).await?.code(), Some(7));
        assert_eq!(running.output(), "tidings\n");
        Ok(())
    }
}
