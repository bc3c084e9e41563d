//! The JetStream engine for the conformance suite: a server of its own, and a proxy that loses acknowledgements.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use broker::conformance::Harness;
use broker::jetstream::{JetStream, Settings, Timeouts};
use broker::layout::{Layout, Log};
use broker::{AppendError, Appended, Engine, EventLog, NewRecord, Token};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::nats::NatsServer;
use crate::proxy::{Fault, Proxy};

/// Longer than any server needs; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that an acknowledgement has at least, and a ping has not.
const ACKNOWLEDGEMENT: u64 = 40;

/// One installation on a private server, reached through a proxy.
#[derive(Debug)]
pub struct JetStreamHarness {
    server: Mutex<NatsServer>,
    proxy: Proxy,
    /// Reaches the server past the proxy.
    direct: Mutex<Option<JetStream>>,
    opened: Mutex<Option<Arc<JetStream>>>,
}

impl JetStreamHarness {
    /// Starts the server and the proxy.
    pub async fn start() -> anyhow::Result<Self> {
        let server = NatsServer::start().await?;
        let proxy = Proxy::start(server.address()).await?;
        Ok(Self {
            server: Mutex::new(server),
            proxy,
            direct: Mutex::new(None),
            opened: Mutex::new(None),
        })
    }

    /// Spoils the engine's connection.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The server, to kill and start again.
    pub fn server(&self) -> &Mutex<NatsServer> {
        &self.server
    }

    /// What the engine is opened with: short tries, so that a lost answer is noticed soon, and many of them, so that
    /// a busy machine does not turn it into an unknown outcome.
    pub fn settings(&self, layout: Layout) -> anyhow::Result<Settings> {
        let mut settings = Settings::new(
            format!("nats://{}", self.proxy.address()),
            Token::new("test")?,
            layout,
        );
        settings.timeouts.attempt = Duration::from_millis(500);
        settings.timeouts.append = PATIENCE;
        Ok(settings)
    }

    /// Opens the installation, as [`Harness::open`] does.
    pub async fn open_engine(&self, layout: Layout) -> anyhow::Result<Arc<JetStream>> {
        let mut opened = self.opened.lock().await;
        if let Some(before) = opened.take() {
            before.close().await;
        }
        let mut settings = self.settings(layout)?;
        let engine = Arc::new(JetStream::connect(settings.clone()).await?);
        settings.url = self.server.lock().await.url();
        settings.timeouts = Timeouts::default();
        if let Some(before) = self
            .direct
            .lock()
            .await
            .replace(JetStream::connect(settings).await?)
        {
            before.close().await;
        }
        *opened = Some(Arc::clone(&engine));
        Ok(engine)
    }

    /// A log, reached past the proxy.
    pub async fn direct_log(&self, log: Log) -> anyhow::Result<Arc<dyn EventLog>> {
        let direct = self.direct.lock().await;
        Ok(direct.as_ref().context("no engine was opened")?.log(log))
    }

    /// Starts an append whose records are stored and whose acknowledgement is lost, and waits until both have
    /// happened. Answers stay lost until [`Proxy::cut_and_heal`].
    pub async fn append_into_silence(
        &self,
        log: Log,
        records: Vec<NewRecord>,
    ) -> anyhow::Result<JoinHandle<Result<Vec<Appended>, AppendError>>> {
        let direct = self.direct_log(log).await?;
        let engine = self.opened.lock().await.clone().context("no engine was opened")?;
        let wanted = direct.state().await?.last + records.len() as u64;
        let swallowed = self.proxy.swallowed();
        self.proxy.set(Fault::LoseAnswers);
        let appending = tokio::spawn(async move { engine.log(log).append(records).await });
        tokio::time::timeout(PATIENCE, async {
            while direct.state().await?.last < wanted || self.proxy.swallowed() < swallowed + ACKNOWLEDGEMENT
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        })
        .await
        .context("nothing was stored")??;
        Ok(appending)
    }
}

/// A failure of the harness is none of the case's: it ends the test.
fn or_panic<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the harness failed: {error:?}"))
}

#[async_trait]
impl Harness for JetStreamHarness {
    async fn open(&self, layout: Layout) -> Arc<dyn Engine> {
        or_panic::<Arc<JetStream>>(self.open_engine(layout).await)
    }

    async fn restart(&self) {
        or_panic(self.server.lock().await.restart().await);
    }

    fn survives_restart(&self) -> bool {
        true
    }

    async fn append_unacknowledged(
        &self,
        log: Log,
        records: Vec<NewRecord>,
    ) -> Option<Result<Vec<Appended>, AppendError>> {
        let appending = or_panic(self.append_into_silence(log, records).await);
        self.proxy.cut_and_heal();
        Some(or_panic(appending.await.map_err(anyhow::Error::from)))
    }
}
