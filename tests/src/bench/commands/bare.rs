//! The least a handler can do: an axum server in a process of its own, one raw publish per request.

use anyhow::Context as _;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::patch;
use ulid::Ulid;

use super::{http, raw};
use crate::bench::load::{BoxedWorker, Worker};
use crate::bench::wire::Wire;
use crate::nats::NatsServer;
use crate::tools::{Folder, Program, Running};

/// The name by which this program calls itself to be that server.
pub(in crate::bench) const NAME: &str = "bare-handler";

/// Serves until it is killed; says on standard output where.
pub(in crate::bench) async fn serve(nats: &str) -> anyhow::Result<()> {
    let context = raw::stream(nats).await?;
    let app = Router::new()
        .route("/raw/{id}", patch(publish))
        .with_state(context);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn publish(
    State(context): State<Context>,
    Path(id): Path<String>,
    body: Bytes,
) -> (StatusCode, String) {
    let message = PublishMessage::build()
        .message_id(Ulid::generate().to_string())
        .payload(body);
    let stored = match context.send_publish(format!("raw.bare.{id}"), message).await {
        Ok(acknowledgement) => acknowledgement.await,
        Err(error) => Err(error),
    };
    match stored {
        Ok(stored) => (StatusCode::OK, format!(r#"{{"sequence":{}}}"#, stored.sequence)),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// That server, with a NATS server of its own.
pub(super) struct Server {
    running: Running,
    _nats: NatsServer,
    _folder: Folder,
    url: String,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let (nats, folder) = (NatsServer::start().await?, Folder::new()?);
        let log = folder.path().join("log");
        let mut program = Program::new(&std::env::current_exe()?, &log, "KILL");
        program.command().args([NAME, "--nats", &nats.url()]);
        let mut running = program.start()?;
        let listening = async || {
            let text = std::fs::read_to_string(&log).ok()?;
            let line = text.split_once('\n')?.0;
            line.strip_prefix("listening on ").map(str::to_owned)
        };
        let url = running
            .until(http::START, listening)
            .await
            .context("the bare handler")?;
        Ok(Self {
            running,
            _nats: nats,
            _folder: folder,
            url,
        })
    }

    /// The server's process.
    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Clients that send what ours send.
    pub(super) async fn workers(&self, count: usize) -> anyhow::Result<Vec<BoxedWorker>> {
        let mut workers = Vec::new();
        for number in 0..count {
            workers.push(Box::new(Sending {
                wire: Wire::connect(&self.url, "none").await?,
                path: format!("/raw/{number}"),
                turns: 0,
            }) as BoxedWorker);
        }
        Ok(workers)
    }
}

struct Sending {
    wire: Wire,
    path: String,
    turns: u64,
}

#[async_trait]
impl Worker for Sending {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        self.turns += 1;
        let body = http::renaming_body(self.turns);
        self.wire.send("PATCH", &self.path, body.as_bytes(), 200).await?;
        Ok(1)
    }
}
