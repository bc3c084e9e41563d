//! The limit: the same HTTP client posts the same signed bodies to the same receiver, and nothing else is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use delivery::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret, sign};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;

use super::target::Target;

/// Posts so many webhooks, so many at a time, spread over the paths; answers how long that took.
pub(super) async fn post(
    target: &Target,
    paths: &[String],
    count: usize,
    in_flight: usize,
) -> anyhow::Result<Duration> {
    delivery::install_crypto();
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(in_flight)
        .build()?;
    let urls: Arc<[String]> = paths.iter().map(|path| target.url(path)).collect();
    let (next, secret) = (Arc::new(AtomicUsize::new(0)), Secret::generate());
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (client, urls, next, secret) = (client.clone(), urls.clone(), next.clone(), secret.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                one(&client, &urls[number % urls.len()], &secret, number).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(began.elapsed())
}

async fn one(client: &Client, url: &str, secret: &Secret, number: usize) -> anyhow::Result<()> {
    let id = format!("evt_{number:026}");
    let body = format!(
        r#"{{"type":"bench.event","timestamp":"2026-11-20T18:45:58.339Z","data":{{"invoice":"in_{number}","customer":"cus_77","amount":1250,"currency":"EUR","paid_at":"2026-11-20T18:45:58Z"}}}}"#
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = i64::try_from(now.as_secs())?;
    let mut answer = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(HEADER_ID, &id)
        .header(HEADER_TIMESTAMP, now)
        .header(
            HEADER_SIGNATURE,
            sign(std::slice::from_ref(secret), &id, now, body.as_bytes()),
        )
        .body(body)
        .send()
        .await?;
    ensure!(
        answer.status().is_success(),
        "the receiver answered {}",
        answer.status()
    );
    while answer.chunk().await?.is_some() {}
    Ok(())
}
