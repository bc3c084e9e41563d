//! `/v1/events` and `/v1/stats`.

use serde_json::{Value, json};
use tests::service::Tidings;
use tests::{for_each_engine, sample};

use crate::world::{get_after, tenant, text};

for_each_engine! {
    /// Real payloads come back as they were sent, one by one, in lists and in exports, and are counted.
    async fn real_events_are_published_and_read_back(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let sample = sample::github_events()?;
        let (kind, data) = &sample[0];
        let one = api.post("/v1/events", &json!({ "type": kind, "data": data })).await?;
        let body = one.expect(202)?;
        assert_eq!(text(&body, "position")?, one.header("tidings-position"));
        let shown = get_after(&api, &format!("/v1/events/{}", text(&body, "id")?), &one).await?.expect(200)?;
        assert_eq!((&shown["data"], text(&shown, "type")?), (data, kind.as_str()));

        let rest: Vec<_> = sample[1..].iter().map(|(kind, data)| json!({ "type": kind, "data": data })).collect();
        let bulk = api.post("/v1/events/bulk", &json!({ "events": rest })).await?;
        let results = bulk.expect(202)?;
        let results = results["results"].as_array().expect("results");
        assert_eq!(results.len(), rest.len());
        assert!(results.iter().all(|result| result["status"] == "accepted"));

        let stats = get_after(&api, "/v1/stats", &bulk).await?.expect(200)?;
        assert_eq!(stats["total_events"], sample.len());
        assert_eq!(stats["events_last_24h"], sample.len());

        let list = get_after(&api, &format!("/v1/events?type={kind}&limit=200"), &bulk).await?.expect(200)?;
        let same_type = sample.iter().filter(|(other, _)| other == kind).count();
        assert_eq!(list["data"].as_array().map(Vec::len), Some(same_type));
        assert_eq!(api.get("/v1/events?until=2020-01-01T00:00:00Z").await?.expect(200)?["data"], json!([]));

        let export = api.get("/v1/events/export?format=jsonl").await?;
        let lines = String::from_utf8(export.body.to_vec())?;
        let mut exported = lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        exported.reverse();
        let expected: Vec<_> = sample.iter().map(|(_, data)| data).collect();
        assert_eq!(exported.iter().map(|event| &event["data"]).collect::<Vec<_>>(), expected);
        let csv = api.get("/v1/events/export?format=csv").await?;
        assert!(csv.body.starts_with(b"id,type,published_at,position,data\r\n"));
        Ok(())
    }

    /// Numbers, spaces, escapes and the order of fields stay as the publisher wrote them.
    async fn data_is_kept_to_the_byte(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let data = r#"{"z": 1.50, "a":12345678901234567890123, "e":"\u00e4\/", "z": [ ] }"#;
        let one = api.post_bytes("/v1/events", format!(r#"{{"type":"a.b","data":{data}}}"#)).await?;
        let path = format!("/v1/events/{}", text(&one.expect(202)?, "id")?);
        let shown = get_after(&api, &path, &one).await?;
        let body = String::from_utf8(shown.body.to_vec())?;
        assert!(body.contains(data), "{body}");
        Ok(())
    }

    /// The same event under the same id is one event; another one is refused, alone or among others.
    async fn an_id_of_the_client_names_one_event(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let event = json!({ "type": "invoice.paid", "data": { "n": 1 }, "id": "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV" });
        let first = api.post("/v1/events", &event).await?.expect(202)?;
        let second = api.post("/v1/events", &event).await?.expect(202)?;
        assert_eq!((&first["position"], &second["duplicate"]), (&second["position"], &json!(true)));

        let mut other = event.clone();
        other["data"]["n"] = json!(2);
        assert_eq!(api.post("/v1/events", &other).await?.problem(409)?, "event_id_reused");
        let fresh = json!({ "type": "invoice.paid", "data": null });
        let bulk = api.post("/v1/events/bulk", &json!({ "events": [other, fresh, event] })).await?.expect(202)?;
        let kinds: Vec<_> = (0..3).map(|i| bulk["results"][i]["status"].clone()).collect();
        assert_eq!(kinds, ["rejected", "accepted", "accepted"]);
        assert_eq!(bulk["results"][0]["code"], "event_id_reused");
        assert_eq!(bulk["results"][2]["position"], first["position"]);

        let elsewhere = tenant(&service, "other").await?;
        let theirs = elsewhere.post("/v1/events", &event).await?.expect(202)?;
        assert!(theirs.get("duplicate").is_none(), "another tenant's ids are nobody else's affair");
        Ok(())
    }
}
