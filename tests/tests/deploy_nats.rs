//! The shipped `deploy/nats.conf`, tried on the real server: what each user may do, and what not.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use async_nats::{Client, ConnectOptions, Event};
use broker::jetstream::{JetStream, Settings};
use broker::layout::{Bucket, Layout, Log};
use broker::{Engine, Expect, Job, NewRecord, Settlement, Severity, Subject, Token};
use bytes::Bytes;
use futures::StreamExt;
use tests::nats::{self, NatsServer};
use tests::tools;
use tokio::sync::mpsc;

const PASSWORD: &str = "7e5-only-for-tests";
const DEADLINE: Duration = Duration::from_secs(20);

/// The real server with the shipped file; port and store are its only changes.
struct Nats(NatsServer);

impl Nats {
    async fn start() -> anyhow::Result<Self> {
        let mut options = nats::Options::default().config(tools::repository().join("deploy/nats.conf"));
        for user in ["OWNER", "GATEWAY", "DELIVERY"] {
            options = options.environment(&format!("NATS_{user}_PASSWORD"), &format!("\"{PASSWORD}\""));
        }
        Ok(Self(options.start().await?))
    }

    async fn engine(&self, user: &str) -> anyhow::Result<JetStream> {
        let url = format!("nats://{user}:{PASSWORD}@{}", self.0.address());
        let mut settings = Settings::new(url, Token::new("tidings")?, Layout::default());
        settings.manage = user == "owner";
        settings.timeouts.request = Duration::from_secs(1);
        settings.monitors = vec![self.0.monitor_url()];
        JetStream::connect(settings)
            .await
            .with_context(|| format!("connecting as {user}"))
    }
}

/// A connection of one user that hears what the server refuses.
struct User {
    client: Client,
    refusals: mpsc::UnboundedReceiver<String>,
}

impl User {
    async fn connect(nats: &Nats, name: &str) -> anyhow::Result<Self> {
        let (heard, refusals) = mpsc::unbounded_channel();
        let options = ConnectOptions::with_user_and_password(name.to_owned(), PASSWORD.to_owned())
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    // The test may be over.
                    heard.send(error.to_string().to_lowercase()).ok();
                }
                std::future::ready(())
            });
        let client = options.connect(nats.0.address()).await?;
        Ok(Self { client, refusals })
    }

    /// Whether the server refuses a publish there. It answers in order, so a second publish that is refused for
    /// certain tells when the first would have been.
    async fn may_not_publish(&mut self, subject: &str) -> anyhow::Result<bool> {
        self.client
            .publish(subject.to_owned(), Bytes::from_static(b"{}"))
            .await?;
        self.refused(&format!("publish to \"{}\"", subject.to_lowercase()))
            .await
    }

    async fn may_not_subscribe(&mut self, subject: &str) -> anyhow::Result<bool> {
        let _subscription = self.client.subscribe(subject.to_owned()).await?;
        self.refused(&format!("subscription to \"{}\"", subject.to_lowercase()))
            .await
    }

    async fn refused(&mut self, what: &str) -> anyhow::Result<bool> {
        self.client.publish("certainly.refused", Bytes::new()).await?;
        let mut found = false;
        loop {
            let refusal = tokio::time::timeout(DEADLINE, self.refusals.recv())
                .await?
                .context("no more refusals")?;
            found |= refusal.contains(what);
            if refusal.contains("certainly.refused") {
                return Ok(found);
            }
        }
    }
}

fn record(subject: &str, id: &str, expect: u64) -> anyhow::Result<NewRecord> {
    Ok(NewRecord {
        subject: Subject::new(subject)?,
        message_id: id.to_owned(),
        expect: Some(expect),
        payload: Bytes::from_static(b"payload"),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_nats_user_can_do_its_duty() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    nats.engine("owner").await?;
    Box::pin(do_duties(&nats)).await.with_context(|| nats.0.log())
}

async fn do_duties(nats: &Nats) -> anyhow::Result<()> {
    let (gateway, delivery) = tokio::try_join!(nats.engine("gateway"), nats.engine("delivery"))?;
    gateway_writes(&gateway).await?;
    delivery_follows_and_writes(&delivery).await?;
    assert_eq!(gateway.log(Log::Attempts).read(0, None, 10).await?.len(), 1);
    delivery_works_the_queue(&delivery).await
}

async fn gateway_writes(gateway: &JetStream) -> anyhow::Result<()> {
    let events = gateway.log(Log::Events(0));
    events
        .append(vec![
            record("ev.t.endpoint.e", "t:1", 0)?,
            record("uq.t.email.h", "t:2", 0)?,
        ])
        .await?;
    assert_eq!(events.read(0, None, 10).await?.len(), 2);
    gateway
        .log(Log::Messages(0))
        .append(vec![record("msg.t.a", "t:3", 0)?])
        .await?;
    let key = Subject::new("t.e")?;
    gateway
        .bucket(Bucket::EndpointSecrets)
        .put(&key, "secret".into(), Expect::Absent, None)
        .await?;
    for bucket in [Bucket::Receipts, Bucket::PublicKeys, Bucket::SourceSecrets] {
        let bucket = gateway.bucket(bucket);
        bucket.put(&key, "value".into(), Expect::Absent, None).await?;
        assert!(bucket.get(&key).await?.is_some());
    }
    Ok(())
}

async fn delivery_follows_and_writes(delivery: &JetStream) -> anyhow::Result<()> {
    let events = delivery.log(Log::Events(0));
    let mut followed = events.follow(0, None).await?;
    let first = tokio::time::timeout(DEADLINE, followed.next())
        .await?
        .context("the log ended")??;
    assert_eq!(first.subject.as_str(), "ev.t.endpoint.e");
    let last = events.last(&first.subject).await?.context("no record")?;
    events
        .append(vec![record("ev.t.endpoint.e", "t:5", last.sequence)?])
        .await?;
    let key = Subject::new("t.e")?;
    let secret = delivery
        .bucket(Bucket::EndpointSecrets)
        .get(&key)
        .await?
        .context("no secret")?;
    assert_eq!(&secret.value[..], b"secret");
    delivery
        .bucket(Bucket::Cursors)
        .put(&key, "1".into(), Expect::Anything, None)
        .await?;
    assert_eq!(delivery.log(Log::Messages(0)).read(0, None, 10).await?.len(), 1);
    delivery
        .log(Log::Attempts)
        .append(vec![record("att.t.e", "t:4", 0)?])
        .await?;
    Ok(())
}

async fn delivery_works_the_queue(delivery: &JetStream) -> anyhow::Result<()> {
    let (tenant, lane, id) = (Token::new("t")?, Token::new("e")?, Token::new("j")?);
    let job = Job {
        id: id.clone(),
        tenant: tenant.clone(),
        lane: lane.clone(),
        payload: "1".into(),
    };
    let queue = delivery.queue();
    queue.enqueue(vec![(job, None)]).await?;
    let leases = queue.lease(1, DEADLINE).await?;
    queue
        .settle(
            &leases[0],
            Settlement::Again {
                due: SystemTime::now(),
                payload: "2".into(),
            },
        )
        .await?;
    let leases = queue.lease(1, DEADLINE).await?;
    queue
        .settle(&leases[0], Settlement::Dead { payload: "3".into() })
        .await?;
    let letters = delivery.dead_letters();
    assert_eq!(letters.list(&tenant, None, 0, 10).await?.len(), 1);
    assert!(letters.redrive(&tenant, &lane, &id, None, None).await?);
    let leases = queue.lease(1, DEADLINE).await?;
    queue.settle(&leases[0], Settlement::Done).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_nats_syncs_before_it_acknowledges() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    let findings = nats.engine("owner").await?.examine().await;
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity != Severity::Fine)
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(
        findings
            .iter()
            .any(|finding| finding.message.contains("syncs before every acknowledgement"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_serving_nats_user_can_change_a_stream() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    let streams = [
        "TIDINGS_EVENTS-0",
        "TIDINGS_MESSAGES-0",
        "TIDINGS_ATTEMPTS",
        "KV_tidings_endpoint-secrets",
        "KV_tidings_source-secrets",
    ];
    for name in ["gateway", "delivery"] {
        let mut user = User::connect(&nats, name).await?;
        assert!(
            !user.may_not_publish("$JS.API.INFO").await?,
            "the control: this is allowed"
        );
        for stream in streams {
            for order in [
                "CREATE",
                "UPDATE",
                "DELETE",
                "PURGE",
                "MSG.DELETE",
                "SNAPSHOT",
                "RESTORE",
            ] {
                let subject = format!("$JS.API.STREAM.{order}.{stream}");
                assert!(user.may_not_publish(&subject).await?, "{name} may {subject}");
            }
        }
        for subject in [
            "$SYS.REQ.SERVER.PING",
            "$JS.API.STREAM.CREATE.another",
            "$KV.another.key",
            "another",
        ] {
            assert!(user.may_not_publish(subject).await?, "{name} may {subject}");
        }
        for subject in [
            ">",
            "$KV.>",
            "tidings.>",
            "_INBOX.>",
            "_INBOX_owner.>",
            "_INBOX_*.>",
        ] {
            assert!(
                user.may_not_subscribe(subject).await?,
                "{name} may listen to {subject}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_writes_endpoint_secrets_and_cannot_read_them() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = User::connect(&nats, "gateway").await?;
    assert!(
        !gateway
            .may_not_publish("$KV.tidings_endpoint-secrets.t.e")
            .await?
    );
    for subject in [
        "$JS.API.DIRECT.GET.KV_tidings_endpoint-secrets",
        "$JS.API.DIRECT.GET.KV_tidings_endpoint-secrets.$KV.tidings_endpoint-secrets.t.e",
        "$JS.API.STREAM.MSG.GET.KV_tidings_endpoint-secrets",
        "$JS.API.CONSUMER.CREATE.KV_tidings_endpoint-secrets",
        "$JS.API.CONSUMER.CREATE.KV_tidings_endpoint-secrets.c",
        "$JS.API.CONSUMER.CREATE.KV_tidings_endpoint-secrets.c.$KV.tidings_endpoint-secrets.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.KV_tidings_endpoint-secrets.c",
        "$JS.API.CONSUMER.MSG.NEXT.KV_tidings_endpoint-secrets.c",
        "$KV.tidings_cursors.t",
        "$KV.tidings_deliveries.failing.t.e",
        "$JS.API.STREAM.MSG.GET.KV_tidings_deliveries",
        "tidings.job.t.e.j",
        "tidings.later.t.e.j",
        "tidings.dead.t.e.j",
        "tidings.att.t.e",
        "$JS.API.CONSUMER.MSG.NEXT.TIDINGS_DELIVERIES.workers",
        "$JS.API.STREAM.MSG.GET.TIDINGS_DELIVERIES",
        "$JS.API.STREAM.MSG.DELETE.TIDINGS_DELIVERIES",
        "$JS.API.STREAM.PURGE.TIDINGS_DELIVERIES",
        "$JS.API.STREAM.MSG.GET.TIDINGS_DEADLETTERS",
        "$JS.API.STREAM.MSG.DELETE.TIDINGS_DEADLETTERS",
    ] {
        assert!(
            gateway.may_not_publish(subject).await?,
            "the gateway may {subject}"
        );
    }
    assert!(gateway.may_not_subscribe("_INBOX_delivery.>").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_reads_no_answers_and_writes_no_identities_and_no_secrets() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    let mut delivery = User::connect(&nats, "delivery").await?;
    for subject in [
        "tidings.0.ev.t.endpoint.e",
        "tidings.0.ev.t.recovery.r",
        "tidings.0.msg.t.tidings.x",
    ] {
        assert!(!delivery.may_not_publish(subject).await?, "{subject}");
    }
    assert!(!delivery.may_not_publish("tidings.0.ev.t.endpoint.e").await?);
    assert!(
        !delivery
            .may_not_publish("$KV.tidings_deliveries.failing.t.e")
            .await?
    );
    for subject in [
        "$JS.API.DIRECT.GET.KV_tidings_receipts",
        "$JS.API.DIRECT.GET.KV_tidings_receipts.$KV.tidings_receipts.t.e",
        "$JS.API.STREAM.MSG.GET.KV_tidings_receipts",
        "$JS.API.CONSUMER.CREATE.KV_tidings_receipts",
        "$JS.API.CONSUMER.CREATE.KV_tidings_receipts.c",
        "$JS.API.CONSUMER.CREATE.KV_tidings_receipts.c.$KV.tidings_receipts.>",
        "$KV.tidings_receipts.t.e",
        "$JS.API.DIRECT.GET.KV_tidings_credentials",
        "$JS.API.DIRECT.GET.KV_tidings_credentials.$KV.tidings_credentials.t.e",
        "$JS.API.STREAM.MSG.GET.KV_tidings_credentials",
        "$JS.API.CONSUMER.CREATE.KV_tidings_credentials",
        "$JS.API.CONSUMER.CREATE.KV_tidings_credentials.c",
        "$JS.API.CONSUMER.CREATE.KV_tidings_credentials.c.$KV.tidings_credentials.>",
        "$KV.tidings_credentials.t.e",
        "$JS.API.DIRECT.GET.KV_tidings_source-secrets",
        "$JS.API.DIRECT.GET.KV_tidings_source-secrets.$KV.tidings_source-secrets.t.s",
        "$JS.API.STREAM.MSG.GET.KV_tidings_source-secrets",
        "$JS.API.CONSUMER.CREATE.KV_tidings_source-secrets",
        "$JS.API.CONSUMER.CREATE.KV_tidings_source-secrets.c",
        "$KV.tidings_source-secrets.t.s",
        "$KV.tidings_public-keys.t.e",
        "$KV.tidings_endpoint-secrets.t.e",
        "tidings.0.ev.t.user.u",
        "tidings.0.ev.t.api_key.k",
        "tidings.0.ev.t.tenant.t",
        "tidings.0.uq.t.email.h",
    ] {
        assert!(delivery.may_not_publish(subject).await?, "delivery may {subject}");
    }
    assert!(delivery.may_not_subscribe("_INBOX_gateway.>").await?);
    Ok(())
}
