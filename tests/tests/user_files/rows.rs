//! What becomes of each row of a file.

use std::collections::BTreeMap;

use anyhow::Context;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::service::Tidings;

use crate::world::{Report, export, import, send, tenant};

const CSV: &str = "text/csv; charset=utf-8";
const LINES: &str = "application/jsonl";

/// The users of an export as JSON lines, by address, without what a new registration makes anew.
fn by_email(lines: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut users = BTreeMap::new();
    for line in lines.lines() {
        let mut user: Value = serde_json::from_str(line)?;
        let fields = user.as_object_mut().context("an object")?;
        for name in ["id", "created_at", "updated_at"] {
            fields.remove(name).context(name)?;
        }
        let email = user["email"].as_str().context("email")?.to_owned();
        users.insert(email, user);
    }
    Ok(users)
}

for_each_engine! {
    /// Each row is registered, or refused with its reason; none stops another.
    async fn a_csv_file_is_imported_row_by_row(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut file = b"\xef\xbb\xbfemail,name,attributes.plan,attributes\r\n\
            ada@example.org,\"Lovelace, Ada\",team,\r\n\
            no address,Bob,,\n\
            ADA@example.org,Ada again,,\n\
            carol@example.org,Carol\n\
            dan@example.org,\"Dan\n\
            eve@example.org,\"\"\"Eve\"\"\",,\"{\"\"age\"\": 7}\"\n\
            fay@example.org,\xff,,\n\
            gus@example.org,'=Gus,,[]\n\
            \n\
            hal@example.org,'=Hal,,\n"
            .to_vec();
        file.extend_from_slice(format!("ivy@example.org,{},,\n", "x".repeat(70_000)).as_bytes());
        file.extend_from_slice(b"joe@example.org,Joe,,");
        let report = import(&api, "", CSV, file).await?;
        assert_eq!(report.counts(), [11, 4, 7, 0], "{report:?}");
        let invalid = "invalid_body";
        assert_eq!(report.codes(), [
            (2, invalid), (3, "email_taken"), (4, invalid), (5, invalid), (7, invalid), (8, invalid), (10, invalid),
        ]);
        let refused = |place: usize| (&report.refused[place]["errors"][0]["path"], report.refused[place]["value"].as_str());
        assert_eq!(refused(0), (&json!("email"), Some("no address")));
        assert_eq!(refused(2), (&json!("."), Some("carol@example.org")));
        assert_eq!(refused(3).1, Some("dan@example.org,\"Dan"));
        assert_eq!(refused(5).0, &json!("attributes"));

        let users = by_email(&export(&api, "jsonl", &report).await?)?;
        let user = |email: &str| users.get(email).with_context(|| format!("{email} is not there"));
        assert_eq!(users.len(), 4);
        assert_eq!(user("ada@example.org")?["name"], "Lovelace, Ada");
        assert_eq!(user("ada@example.org")?["attributes"], json!({ "plan": "team" }));
        assert_eq!(user("eve@example.org")?["name"], "\"Eve\"");
        assert_eq!(user("eve@example.org")?["attributes"], json!({ "age": 7 }));
        assert_eq!(user("hal@example.org")?["name"], "=Hal");
        Ok(())
    }

    /// The same as JSON lines, where a line is the body of a registration.
    async fn json_lines_are_imported_line_by_line(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let file = concat!(
            r#"{"email":"ada@example.org","name":"Ada","attributes":{"n":1.5}}"#, "\n",
            r#"{"email":"bob@example.org"}"#, "\n",
            r#"{"email":"bob@example.org","name":"Bob","colour":"red"}"#, "\n",
            "not json\n\n[]\n",
            r#"{"email":"bob@example.org","name":"Bob","id":"usr_1","created_at":"yesterday"}"#,
        );
        let report = import(&api, "", LINES, file).await?;
        assert_eq!(report.counts(), [6, 2, 4, 0], "{report:?}");
        assert!(report.codes().iter().all(|(_, code)| *code == "invalid_body"));
        assert_eq!(report.refused[1]["errors"][0]["path"], "colour");
        let again = import(&api, "", "application/x-ndjson", file).await?;
        assert_eq!(again.counts(), [6, 0, 6, 0]);
        assert_eq!(again.codes()[0], (1, "email_taken"));
        Ok(())
    }

    /// An export can be imported by another tenant, whatever is in its cells, and is then the same.
    async fn an_export_can_be_imported_again(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let names = ["=HYPERLINK(\"http://x\")", "+1", "-1", "@a", "'=1", "''-", "a,b", "say \"hi\"", "ä; ö", "' plain"];
        let users: Vec<_> = (0..450).map(|number: usize| {
            let name = format!("{}{}", names[number % names.len()], "!".repeat(number / names.len()));
            json!({ "email": format!("user{number}@example.org"), "name": name, "attributes": { "n": number, "-": "=1" } })
        }).collect();
        let first = tenant(&service, "first").await?;
        let lines: Vec<_> = users.iter().map(ToString::to_string).collect();
        let report = import(&first, "", LINES, lines.join("\n")).await?;
        assert_eq!(report.counts(), [450, 450, 0, 0], "{report:?}");
        let wanted = by_email(&export(&first, "jsonl", &report).await?)?;
        assert_eq!(wanted.len(), 450);
        for (slug, format, media_type) in [("second", "csv", CSV), ("third", "jsonl", LINES)] {
            let file = export(&first, format, &report).await?;
            if format == "csv" {
                for line in file.lines() {
                    let name = line.split(',').nth(2).context("a name")?.trim_start_matches('"');
                    assert!(!name.starts_with(['=', '+', '-', '@']), "{line}");
                }
            }
            let other = tenant(&service, slug).await?;
            let again = import(&other, "", media_type, file).await?;
            assert_eq!(again.counts(), [450, 450, 0, 0], "{again:?}");
            assert_eq!(by_email(&export(&other, "jsonl", &again).await?)?, wanted);
        }
        Ok(())
    }

    /// A file sent again under its key registers nobody twice, and goes on where the first broke off.
    async fn a_repeated_file_registers_nobody_twice(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let row = |number: usize| format!("user{number}@example.org,User {number}\n");
        let part = |rows: std::ops::Range<usize>| rows.map(row).collect::<String>();
        let file = format!("email,name\n{}", part(0..300));
        let keyed = [("idempotency-key", "import-1")];
        let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<String, std::io::Error>>();
        sender.unbounded_send(Ok(format!("email,name\n{}", part(0..100))))?;
        let request = api.request(Method::POST, "/v1/users/import").headers([
            ("content-type".parse()?, "text/csv".parse()?),
            ("idempotency-key".parse()?, "import-1".parse()?),
        ].into_iter().collect());
        let response = request.body(Body::wrap_stream(receiver)).send().await?;
        crate::world::until(&api, "/v1/users?limit=1", |page| page["data"][0].is_object()).await?;
        drop((sender, response));

        let report = Report::read(&send(&api, "", "text/csv", file.clone(), &keyed).await?)?;
        let [rows, registered, refused, unchanged] = report.counts();
        assert_eq!((rows, registered + unchanged, refused), (300, 300, 0), "{report:?}");
        assert!(unchanged > 0, "{report:?}");
        let again = Report::read(&send(&api, "", "text/csv", file.clone(), &keyed).await?)?;
        assert_eq!(again.counts(), [300, 0, 0, 300], "{again:?}");
        let others = Report::read(&send(&api, "", "text/csv", file, &[]).await?)?;
        assert_eq!(others.counts(), [300, 0, 300, 0]);
        assert_eq!(by_email(&export(&api, "jsonl", &report).await?)?.len(), 300);
        Ok(())
    }

    /// Roles are named or given by their ids, and a role that is not there refuses its row.
    async fn roles_are_known_by_name_and_by_id(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let made = api.post("/v1/roles", &json!({ "name": "Reader", "permissions": ["users.read.tenant"] })).await?;
        let id = made.expect(201)?["id"].as_str().context("id")?.to_owned();
        let made = api.post("/v1/roles", &json!({ "name": "Clerk", "permissions": ["users.write.tenant"] })).await?;
        let other = made.expect(201)?["id"].as_str().context("id")?.to_owned();
        let file = format!("email,name,roles\na@example.org,A,reader; CLERK\nb@example.org,B,{id}\nc@example.org,C,\n\
            d@example.org,D,nothing\n");
        let report = import(&api, "", CSV, file).await?;
        assert_eq!(report.counts(), [4, 3, 1, 0], "{report:?}");
        let users = by_email(&export(&api, "jsonl", &report).await?)?;
        let mut both = [id.as_str(), &other];
        both.sort_unstable();
        assert_eq!(users["a@example.org"]["roles"], json!(both));
        assert_eq!(users["b@example.org"]["roles"], json!([id]));
        let text = export(&api, "csv", &report).await?;
        assert!(text.contains(&both.join(";")), "{text}");
        Ok(())
    }

    /// A dry run finds what is wrong with rows and registers none.
    async fn a_dry_run_registers_nobody(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let file = "email,name\nada@example.org,Ada\nno address,Bob\n";
        let report = import(&api, "?dry_run=true", CSV, file).await?;
        assert_eq!(report.counts(), [2, 1, 1, 0]);
        let report = import(&api, "", CSV, file).await?;
        assert_eq!(report.counts(), [2, 1, 1, 0], "the address is still free");
        Ok(())
    }

    /// What is wrong with the file as a whole is a problem before anything happens.
    async fn a_file_that_cannot_be_read_is_refused_as_a_whole(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        for header in ["", "email\na@example.org", "email,name,colour\n", "email,name,name\n", "\"email,name\n"] {
            let refused = send(&api, "", CSV, header, &[]).await?;
            assert_eq!(refused.problem(422)?, "invalid_body", "{header:?}");
        }
        let refused = send(&api, "", "application/json", "[]", &[]).await?;
        assert_eq!(refused.problem(415)?, "unsupported_media_type");
        let refused = send(&api, "?dryrun=true", CSV, "email,name\n", &[]).await?;
        assert_eq!(refused.problem(400)?, "invalid_query");
        assert_eq!(import(&api, "", CSV, "email,name\n").await?.counts(), [0, 0, 0, 0]);
        assert_eq!(import(&api, "", LINES, "").await?.counts(), [0, 0, 0, 0]);
        Ok(())
    }

    /// Who goes away in the middle stops the import, and makes room for the next: only four run at the same time.
    async fn an_import_ends_with_its_connection(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut clients = Vec::new();
        for client in 0..4 {
            let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<String, std::io::Error>>();
            sender.unbounded_send(Ok(format!("email,name\nuser{client}@example.org,User\n")))?;
            let request = api.request(Method::POST, "/v1/users/import").header("content-type", "text/csv");
            // The answer begins while the file still comes.
            let response = request.body(Body::wrap_stream(receiver)).send().await?;
            assert_eq!(response.status(), 200);
            clients.push((sender, response));
        }
        let refused = send(&api, "", CSV, "email,name\n", &[]).await?;
        assert_eq!(refused.problem(503)?, "overloaded");
        drop(clients);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let reply = send(&api, "", CSV, "email,name\nlate@example.org,Late\n", &[]).await?;
            if reply.status == 200 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "the room was not given back");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
