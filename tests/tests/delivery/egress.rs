//! Where receivers may be, and how much of a try they can take.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tests::for_each_engine;
use tests::hosts::Hosts;
use tests::receiver::Answer;

use crate::world::World;

/// One address of each range that is closed, in spellings that lead there.
const INSIDE: &[&str] = &[
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://172.16.0.1/",
    "http://192.0.0.1/",
    "http://192.0.2.1/",
    "http://192.168.0.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://0xa000001/",
    "http://012.0.0.1/",
    "http://[::]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::a00:1]/",
    "http://[64:ff9b::a00:1]/",
    "http://[64:ff9b:1::1]/",
    "http://[2001::1]/",
    "http://[2001:db8::1]/",
    "http://[2002:a00:1::]/",
    "http://[fc00::1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
];

for_each_engine! {
    /// No endpoint gets a URL inside, neither when it is created nor when it is changed.
    async fn an_endpoint_cannot_be_set_up_inside(engine: Engine) {
        let world = World::start(engine).await?;
        let endpoint = world.endpoint("/hook", &json!({})).await?;
        for url in INSIDE {
            let new = json!({ "url": url, "event_types": ["*"] });
            for refused in [
                world.api.post("/v1/endpoints", &new).await?,
                world.api.call(Method::PATCH, &endpoint.path, Some(&json!({ "url": url })), &[]).await?,
            ] {
                assert_eq!(refused.problem(422)?, "url_refused", "{url}");
                assert_eq!(refused.json()?["errors"][0]["path"], "url", "{url}");
            }
        }
        Ok(())
    }

    /// Schemes and ports are the installation's, and so are networks that are open although private.
    async fn schemes_ports_and_networks_are_as_the_operator_has_them(engine: Engine) {
        let env = [
            ("TIDINGS_EGRESS_SCHEMES", "https"),
            ("TIDINGS_EGRESS_PORTS", "443,8000-8001"),
            ("TIDINGS_EGRESS_ALLOW", "10.1.0.0/16"),
        ];
        let world = World::start_with(engine, &env).await?;
        for (url, status) in [
            ("https://10.1.2.3/", 201),
            ("https://10.1.2.3:8001/", 201),
            ("https://10.1.2.3:8002/", 422),
            ("https://10.2.0.1/", 422),
            ("http://10.1.2.3:443/", 422),
        ] {
            let new = json!({ "url": url, "event_types": ["never"] });
            let reply = world.api.post("/v1/endpoints", &new).await?;
            assert_eq!(reply.status, status, "{url}");
            if status == 422 {
                assert_eq!(reply.problem(422)?, "url_refused", "{url}");
            }
        }
        Ok(())
    }

    /// A name that led to a receiver when its endpoint was set up, and leads inside when something is to be sent.
    async fn a_name_that_is_rebound_leads_nowhere(engine: Engine) {
        const NAME: &str = "receiver.example.com";
        let hosts = Hosts::new()?;
        let shim = hosts.env();
        let mut env: Vec<_> = shim.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        env.push(("TIDINGS_RETRY_SCHEDULE", "1h"));
        hosts.lead(NAME, "10.0.0.1")?;
        let world = World::start_with(engine, &env).await?;
        let url = world.receiver.url("/hook").replace("127.0.0.1", NAME);
        let new = json!({ "url": url, "event_types": ["*"] });
        let refused = world.api.post("/v1/endpoints", &new).await?;
        assert_eq!(refused.problem(422)?, "url_refused");

        hosts.lead(NAME, "127.0.0.1")?;
        world.endpoint("/hook", &new).await?;
        for inside in ["10.0.0.1", "169.254.169.254", "fd00::1"] {
            hosts.lead(NAME, inside)?;
            let event = world.publish("a.b", &json!({})).await?;
            let attempts = world.attempts(&event, "failed").await?;
            assert_eq!(attempts[0]["error"], "forbidden", "{attempts:?}");
        }
        hosts.lead(NAME, "127.0.0.1")?;
        let event = world.publish("a.b", &json!({})).await?;
        world.webhook(&event).await?;
        assert_eq!(world.receiver.received().len(), 1);
        Ok(())
    }

    /// One deadline holds for the whole try: a receiver that drips ends as a timeout in time, and nobody behind it waits.
    async fn one_deadline_ends_a_dripping_answer(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_DELIVERY_TIMEOUT", "1s"), ("TIDINGS_RETRY_SCHEDULE", "1h")]).await?;
        world.receiver.script("/drip", [Answer::Drip(Duration::from_millis(50))]);
        world.endpoint("/drip", &json!({})).await?;
        let event = world.publish("a.b", &json!({})).await?;
        world.webhook(&event).await?;
        let attempts = world.attempts(&event, "failed").await?;
        let attempt = &attempts[0];
        assert_eq!((&attempt["error"], &attempt["status"]), (&json!("timeout"), &json!(200)), "{attempt}");
        let took = attempt["duration_ms"].as_u64().unwrap_or_default();
        assert!((1_000..5_000).contains(&took), "{attempt}");
        Ok(())
    }

    /// However much a receiver answers, a kilobyte of it is kept; where it sends us instead, nobody goes.
    async fn answers_are_capped_and_redirects_not_followed(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "1h")]).await?;
        world.receiver.script("/huge", [Answer::Huge(4 << 20)]);
        world.receiver.script("/away", [Answer::Redirect(world.receiver.url("/elsewhere"))]);
        let huge = world.endpoint("/huge", &json!({ "event_types": ["huge"] })).await?;
        world.endpoint("/away", &json!({ "event_types": ["away"] })).await?;
        let event = world.publish("huge", &json!({})).await?;
        let attempts = world.attempts(&event, "delivered").await?;
        let kept = attempts[0]["response_body"].as_str().unwrap_or_default().len();
        assert!((1..=1_024).contains(&kept), "{kept} bytes of {} were kept", huge.id);
        let event = world.publish("away", &json!({})).await?;
        let attempts = world.attempts(&event, "failed").await?;
        assert_eq!((&attempts[0]["error"], &attempts[0]["status"]), (&json!("status"), &json!(302)));
        let gone = world.receiver.received().iter().any(|webhook| webhook.path == "/elsewhere");
        assert!(!gone, "the redirect was followed");
        Ok(())
    }
}
