//! Which events an endpoint gets: by type, with wildcards, and by what is in them.

use serde_json::{Value, json};
use tests::for_each_engine;

use crate::world::{World, until};

/// Publishes what the endpoint must not get, then what it must; answers both ids once the second has arrived.
async fn one_of_two(
    world: &World,
    not_wanted: (&str, Value),
    wanted: (&str, Value),
) -> anyhow::Result<String> {
    let first = world.publish(not_wanted.0, &not_wanted.1).await?;
    let second = world.publish(wanted.0, &wanted.1).await?;
    world.webhook(&second).await?;
    let path = format!("/v1/deliveries?event={second}&status=delivered");
    until(&world.api, &path, |list| list["data"][0].is_object()).await?;
    // Matches are recorded in the order of the events: what is not there now will not come.
    let list = world
        .api
        .get(&format!("/v1/deliveries?event={first}"))
        .await?
        .expect(200)?;
    assert_eq!(list["data"], json!([]), "{not_wanted:?}");
    Ok(second)
}

for_each_engine! {
    /// `*` stands for one word inside, and for one or more at the end.
    async fn event_types_are_matched_with_wildcards(engine: Engine) {
        let world = World::start(engine).await?;
        world.endpoint("/hook", &json!({ "event_types": ["invoice.*.paid", "*.closed", "user.*"] })).await?;
        for (not_wanted, wanted) in [
            ("invoice.paid", "invoice.7.paid"),
            ("invoice.7.8.paid", "account.closed"),
            ("invoice.7.paid.late", "user.a.b"),
            ("account.7.closed", "user.a"),
            ("user", "invoice.x.paid"),
        ] {
            one_of_two(&world, (not_wanted, json!({})), (wanted, json!({}))).await?;
        }
        Ok(())
    }

    /// A filter looks at the data; after it is changed, the new one holds; a test event comes whatever it says.
    async fn a_filter_lets_through_by_what_is_in_the_event(engine: Engine) {
        let world = World::start(engine).await?;
        let filter = json!({ "all": [
            { "path": "/invoice/amount", "at_least": 100 },
            { "any": [{ "path": "/country", "in": ["CH", "AT"] }, { "path": "/tags", "contains": "urgent" }] },
            { "not": { "path": "/test", "equals": true } }
        ]});
        let endpoint = world.endpoint("/hook", &json!({ "filter": filter })).await?;
        let fits = json!({ "invoice": { "amount": 100 }, "country": "CH" });
        for other in [
            json!({ "invoice": { "amount": 99.99 }, "country": "CH" }),
            json!({ "invoice": { "amount": 100 }, "country": "DE", "tags": ["slow"] }),
            json!({ "invoice": { "amount": 100 }, "country": "AT", "test": true }),
            json!("invoice"),
        ] {
            one_of_two(&world, ("a.b", other), ("a.b", fits.clone())).await?;
        }
        let urgent = json!({ "invoice": { "amount": 1e3 }, "tags": ["urgent"] });
        one_of_two(&world, ("a.b", json!(null)), ("a.b", urgent)).await?;

        let change = json!({ "filter": { "path": "/country", "equals": "DE" } });
        crate::world::patch(&world.api, &endpoint.path, &change).await?;
        one_of_two(&world, ("a.b", fits), ("a.b", json!({ "country": "DE" }))).await?;
        let tested = world.api.post(&format!("{}/test", endpoint.path), &json!({})).await?.expect(202)?;
        world.webhook(tested["id"].as_str().expect("an id")).await?;
        Ok(())
    }
}
