//! The served document of the API, held against the service by Schemathesis: whatever the document allows or forbids is
//! sent, with several credentials, and every answer must have a status, a type and a form that the document names, and be
//! no failure of the service.
//!
//! `TIDINGS_CONTRACT_EXAMPLES=200` draws more than the few requests per operation that fit into every build,
//! `TIDINGS_CONTRACT_SEED=7` other ones, and `TIDINGS_CONTRACT_ENGINE=cluster` asks a service on the cluster engine.

#[path = "contract/run.rs"]
mod run;
#[path = "contract/world.rs"]
mod world;

use serde_json::json;
use tests::service::{ADMIN_KEY, Engine, Tidings};

use run::{Caller, examples};
use world::World;

/// Addresses that webhooks of these tests may go to: nobody listens there.
const PORT: &str = "1";

async fn service() -> anyhow::Result<Tidings> {
    let engine = match std::env::var("TIDINGS_CONTRACT_ENGINE").as_deref() {
        Ok("cluster") => Engine::Cluster,
        _ => Engine::Embedded,
    };
    let env = [
        ("TIDINGS_EGRESS_PORTS", PORT),
        // A position that does not come is waited for a little, for it is asked for again and again.
        ("TIDINGS_CONSISTENCY_WAIT", "50ms"),
    ];
    Tidings::start_with(engine, &env).await
}

/// A tenant's administrator reaches every operation of tenants, and most of them do what they are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_administrator_is_answered_as_documented() -> anyhow::Result<()> {
    let service = service().await?;
    let world = World::of_tenant(&service, "acme").await?;
    let caller = Caller::with_key(&world.key).but_for(&["tenants", "projections", "replays"]);
    let answers = caller.call(&service, &world, examples(6)).await?;
    answers.reach(80);
    Ok(())
}

/// The platform's administrator reaches the platform's operations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platforms_administrator_is_answered_as_documented() -> anyhow::Result<()> {
    let service = service().await?;
    let world = World::of_platform(&service).await?;
    let caller = Caller::with_key(ADMIN_KEY).of(&["tenants", "projections", "replays", "audit"]);
    let answers = caller.call(&service, &world, examples(6)).await?;
    answers.reach(18);
    Ok(())
}

/// Who may do little, and who has no key, is answered as documented too, and gets nothing of what they may not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_little_or_nothing_is_answered_as_documented() -> anyhow::Result<()> {
    let service = service().await?;
    let world = World::of_tenant(&service, "acme").await?;
    let few = json!({ "name": "few", "scopes": ["users.read.tenant"] });
    let few = world.api.post("/v1/api-keys", &few).await?.expect(201)?;
    let few = world::text(&few, "api_key")?;
    let answers = Caller::with_key(&few)
        .quickly()
        .call(&service, &world, examples(2))
        .await?;
    answers.reach(2);
    answers.succeed_only(|operation| {
        operation.contains(" /v1/users") || operation == "GET /v1/roles/{id}/holders" || is_open(operation)
    })?;
    let answers = Caller::without_key()
        .quickly()
        .call(&service, &world, examples(2))
        .await?;
    answers.succeed_only(is_open)
}

/// What proves itself by other means than a key, or needs nothing to be proved.
fn is_open(operation: &str) -> bool {
    ["POST /v1/in/", "POST /v1/invitations/accept"]
        .iter()
        .any(|open| operation.starts_with(open))
        || operation.ends_with("/jwks.json")
        || operation == "GET /v1/permissions/holders"
}
