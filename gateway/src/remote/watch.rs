//! Watching a replay until it ends, with a bar that shows how fast it is and how long it will take.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::client::{Client, read};
use super::forms::Replay;
use super::print;
use crate::cli::Failure;

/// How often the service is asked.
const EVERY: Duration = Duration::from_millis(250);
/// How long the service may be away while it is watched.
const AWAY: Duration = Duration::from_mins(1);
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// What watching came to.
pub(super) enum Watched {
    /// The replay has ended.
    Ended(Box<Replay>),
    /// The watcher has gone; the replay goes on.
    Left,
}

/// Shows how far a replay is until it has ended, or until the terminal's interrupt, which leaves it running. `quiet`:
/// waits and shows nothing.
pub(super) async fn watch(client: &Client, id: &str, quiet: bool) -> Result<Watched, Failure> {
    let mut bar = Bar::new();
    let path = format!("/v1/replays/{id}");
    let (mut seen, mut lost) = (false, None);
    loop {
        match client.get(&path).await {
            Ok(answer) => {
                let replay: Replay = read(&answer)?;
                (seen, lost) = (true, None);
                if !quiet {
                    bar.show(&replay);
                }
                if replay.is_over() {
                    bar.clear();
                    return Ok(Watched::Ended(Box::new(replay)));
                }
            }
            // A service that is started again goes on with the replay.
            Err(failure) => {
                if !seen || lost.get_or_insert_with(Instant::now).elapsed() > AWAY {
                    bar.clear();
                    return Err(failure);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = tokio::signal::ctrl_c() => {
                bar.clear();
                return Ok(Watched::Left);
            }
        }
    }
}

/// Tells that a replay goes on without a watcher.
pub(super) fn goes_on(id: &str) -> ExitCode {
    print::line(format_args!(
        "The replay {id} goes on. Watch it:  tidings replays watch {id}"
    ));
    print::line(format_args!(
        "                    Cancel it: tidings replays cancel {id}"
    ));
    ExitCode::from(INTERRUPTED)
}

/// Tells how a replay ended.
pub(super) fn ended(replay: &Replay) -> ExitCode {
    let what = print::what(replay);
    if let Some(found) = &replay.differences {
        print::differences(found);
    }
    print::not_compared(replay.not_compared.as_deref().unwrap_or_default());
    match replay.status.as_str() {
        "completed" => {
            let records = print::count(replay.done);
            print::line(format_args!("✓ {what}: {} ({records} records)", result(replay)));
            return ExitCode::SUCCESS;
        }
        "cancelled" => print::line(format_args!("✗ {what}: cancelled, and what it had built is gone")),
        _ => {
            let error = replay.error.as_deref().unwrap_or("it failed");
            print::line(format_args!("✗ {what}: {error}"));
        }
    }
    ExitCode::FAILURE
}

fn result(replay: &Replay) -> String {
    let generations = replay.generations.iter();
    let named: Vec<_> = generations
        .map(|(name, number)| format!("{name}_g{number}"))
        .collect();
    let named = match named.len() {
        count if count > print::NAMED => "the new tables".to_owned(),
        _ => named.join(", "),
    };
    let all = replay.not_compared.as_ref().is_some_and(Vec::is_empty);
    let same = match &replay.differences {
        Some(found) if found.is_empty() && all => ", equal to what was live before",
        _ => "",
    };
    if replay.kind == "rollback" {
        format!("queries read {named} again")
    } else if replay.to.is_some() {
        format!(
            "the copy is there; look into it with `tidings replays rows {}`",
            replay.id
        )
    } else if !replay.switch {
        "compared".to_owned()
    } else if replay.tenant.is_some() {
        format!("its rows are made anew{same}")
    } else {
        format!("queries read {named}{same}")
    }
}

/// The bar; where there is no terminal, a line now and then.
struct Bar {
    line: ProgressBar,
    phase: Option<String>,
    printed: Option<Instant>,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {msg}") {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        Self {
            line: bar,
            phase: None,
            printed: None,
        }
    }

    fn show(&mut self, replay: &Replay) {
        self.line.set_length(replay.total);
        self.line.set_position(replay.done);
        self.line.set_message(message(replay));
        let is_new = self.phase != replay.phase;
        let is_due = self.printed.is_none_or(|printed| printed.elapsed() >= LINE_EVERY);
        if self.line.is_hidden() && (is_new || is_due) && !replay.is_over() {
            let (done, total) = (print::count(replay.done), print::count(replay.total));
            match replay.total {
                0 => print::line(message(replay)),
                _ => print::line(format_args!("{done}/{total} {}", message(replay))),
            }
            self.printed = Some(Instant::now());
        }
        self.phase.clone_from(&replay.phase);
    }

    fn clear(&self) {
        self.line.finish_and_clear();
    }
}

fn message(replay: &Replay) -> String {
    let phase = replay.phase.as_deref().unwrap_or(&replay.status);
    let mut text = phase.replace('_', " ");
    if replay.rate > 0 {
        text = format!("{text}, {} records/s", print::count(replay.rate));
    }
    if let Some(left) = replay.seconds_left.filter(|_| replay.rate > 0) {
        text = format!("{text}, {} left", print::seconds(left));
    }
    text
}
