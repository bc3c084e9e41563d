//! The command line: subcommands, flags, and how a failure is told.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::auditing::{self, AuditCommand};
use crate::config::{Config, Configuration, Overrides};
use crate::demo::{self, DemoArgs};
use crate::remote::projections::ProjectionsArgs;
use crate::remote::replay::ReplayArgs;
use crate::remote::replays::ReplaysArgs;
use crate::remote::verify::VerifyArgs;
use crate::{doctor, migrate, remote, restore, serve, telemetry};

/// Tidings: events in, signed webhooks out, and every step on the record.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// The configuration file [default: tidings.toml in the working directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the service; without any configuration, on the embedded engine in ./tidings-data
    Serve(Flags),
    /// Check the configuration, the log, the databases and the keys, and say what to do
    Doctor {
        #[command(flatten)]
        flags: Flags,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every setting in effect, where it comes from, and secrets masked
    Config {
        #[command(flatten)]
        flags: Flags,
        /// Print a commented file of all settings with their defaults instead
        #[arg(long)]
        default: bool,
    },
    /// Show the main job in this terminal: real events in, signed webhooks out, and what the read models know
    Demo(DemoArgs),
    /// Build a log of events that was lost or cut off again from the archive in the read database, and prove it equal;
    /// for when every other tidings process is stopped
    Restore {
        #[command(flatten)]
        flags: Flags,
        /// Only compare the log with the archive
        #[arg(long)]
        check: bool,
        /// Embedded engine: put a log that differs from the archive aside first, and begin with an empty one
        #[arg(long, conflicts_with = "check")]
        set_aside: bool,
    },
    /// Create what is missing in the log and the read database, with the owner's credentials; safe to repeat
    Migrate(Flags),
    /// Take away a tenant's log, and check offline that nobody rewrote it
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Make read models again from the log, beside the live ones, and switch to them; ask a running service
    Replay(ReplayArgs),
    /// List, watch and cancel replays; ask a running service
    Replays(ReplaysArgs),
    /// List projections with their lag; pause, resume, skip a record, roll back; ask a running service
    Projections(ProjectionsArgs),
    /// Prove that read models are what the log gives; ask a running service
    Verify(VerifyArgs),
}

/// The flags all subcommands share; each stands over the environment and the file.
#[derive(Debug, Clone, Default, Args)]
struct Flags {
    /// Folder of the embedded engine and of generated keys [default: ./tidings-data]
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// What this process does: gateway, projections, delivery, separated by commas [default: all]
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// development or production [default: development on the embedded engine and a loopback address]
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// NATS server of the cluster engine, as `nats://host:4222`
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
    /// PostgreSQL database of the cluster engine, as `postgres://user@host/database`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// What is logged: a level, or directives such as info,broker=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl Flags {
    fn overrides(self) -> Overrides {
        let flags = [
            ("data", self.data),
            ("listen", self.listen),
            ("roles", self.roles),
            ("profile", self.profile),
            ("nats_url", self.nats_url),
            ("database_url", self.database_url),
            ("log", self.log),
        ];
        flags
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }
}

/// A failure as an operator reads it: what is wrong, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    errors: Vec<String>,
    help: Option<String>,
    usage: bool,
}

impl Failure {
    /// Something went wrong while running.
    pub(crate) fn new(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            errors: vec![error.into()],
            help: Some(help.into()),
            usage: false,
        }
    }

    /// Several things are wrong.
    pub(crate) fn of(errors: Vec<String>, help: impl Into<String>) -> Self {
        Self {
            errors,
            help: Some(help.into()),
            usage: false,
        }
    }

    /// The settings or flags are wrong; every mistake is named.
    pub(crate) fn usage(errors: Vec<String>, help: impl Into<String>) -> Self {
        Self {
            errors,
            help: Some(help.into()),
            usage: true,
        }
    }

    /// The whole failure in one line, for a table.
    pub(crate) fn one_line(&self) -> String {
        let help = self.help.iter().cloned();
        self.errors
            .iter()
            .cloned()
            .chain(help)
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// 2 for wrong usage, 1 for all else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.errors.iter().map(|error| format!("error: {error}"));
        let help = self.help.iter().map(|help| format!("help: {help}"));
        f.write_str(&lines.chain(help).collect::<Vec<_>>().join("\n"))
    }
}

/// Reads the configuration and runs the subcommand.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Serve(flags) => {
            let config = Configuration::read(file, &flags.overrides())?.parse()?;
            telemetry::init(&config.logging);
            block_on(serve::run(config))
        }
        Command::Doctor { flags, json } => {
            let configuration = Configuration::read(file, &flags.overrides())?;
            block_on(doctor::run(configuration, json))
        }
        Command::Config { default: true, .. } => {
            print!("{}", crate::config::default_file());
            Ok(ExitCode::SUCCESS)
        }
        Command::Config { flags, .. } => {
            let configuration = Configuration::read(file, &flags.overrides())?;
            print!("{configuration}");
            configuration.parse().map(|_: Config| ExitCode::SUCCESS)
        }
        Command::Restore {
            flags,
            check,
            set_aside,
        } => {
            let config = Configuration::read(file, &flags.overrides())?.parse()?;
            telemetry::init(&config.logging);
            block_on(async move {
                if check {
                    restore::check(&config).await
                } else {
                    restore::run(&config, set_aside).await
                }
            })
        }
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Audit { command } => block_on(auditing::run(command)),
        Command::Migrate(flags) => {
            let config = Configuration::read(file, &flags.overrides())?.parse()?;
            telemetry::init(&config.logging);
            block_on(migrate::run(config))
        }
        Command::Replay(args) => block_on(remote::replay::run(args, file)),
        Command::Replays(args) => block_on(remote::replays::run(args, file)),
        Command::Projections(args) => block_on(remote::projections::run(args, file)),
        Command::Verify(args) => block_on(remote::verify::run(args, file)),
    }
}

fn block_on(future: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                format!("the runtime cannot start: {error}"),
                "free some memory, threads or files",
            )
        })?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from([
            "tidings",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--roles",
            "gateway",
        ]);
        let Command::Serve(flags) = cli.command else {
            panic!("not serve")
        };
        let overrides: Vec<_> = flags.overrides().into_iter().collect();
        assert_eq!(
            overrides,
            [
                ("listen", "127.0.0.1:0".to_owned()),
                ("roles", "gateway".to_owned())
            ]
        );
    }

    #[test]
    fn a_failure_names_every_mistake_and_the_way_out() {
        let failure = Failure::usage(vec!["one".into(), "two".into()], "three");
        assert_eq!(failure.to_string(), "error: one\nerror: two\nhelp: three");
    }
}
