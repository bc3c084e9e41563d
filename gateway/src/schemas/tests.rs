use std::time::Instant;

use serde_json::{Value, json};

use super::*;

/// Fewer than the service allows: a debug build takes ten times as long for each.
const STEPS: u64 = 1_000_000;

fn compile(schema: Value) -> Result<Checker, Vec<FieldError>> {
    Checker::compile(&Schema::try_from(schema).unwrap())
}

fn violations(schema: Value, data: &Value) -> Vec<String> {
    match compile(schema).unwrap().check(data, "data", STEPS).0 {
        Verdict::Fits => Vec::new(),
        Verdict::Violates(errors) => errors.into_iter().map(|error| error.path).collect(),
        Verdict::Exhausted => panic!("exhausted"),
    }
}

fn refusals(schema: Value) -> Vec<String> {
    let errors = compile(schema).unwrap_err();
    errors.into_iter().map(|error| error.path).collect()
}

#[test]
fn every_place_is_named() {
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "additionalProperties": false,
        "properties": {
            "id": { "type": "string" },
            "lines": { "items": { "$ref": "#/$defs/line" } },
            "a/b c": { "type": "string" },
            "when": { "format": "date-time" },
        },
        "$defs": { "line": { "required": ["amount"], "properties": { "amount": { "type": "integer", "minimum": 1 } } } },
    });
    let good = json!({ "id": "1", "lines": [{ "amount": 1 }], "when": "2024-01-01T00:00:00Z" });
    assert_eq!(violations(schema.clone(), &good), [""; 0]);
    let bad = json!({
        "lines": [{ "amount": 1 }, {}, { "amount": "1" }, { "amount": 0 }], "a/b c": 7, "more": 1, "when": "today",
    });
    let mut found = violations(schema, &bad);
    found.sort();
    let expected = [
        "data.id",
        "data.lines[1].amount",
        "data.lines[2].amount",
        "data.lines[3].amount",
        "data.more",
        "data.when",
        "data[\"a/b c\"]",
    ];
    assert_eq!(found, expected);
}

#[test]
fn places_and_messages_are_bounded() {
    let many = Value::from(vec![Value::Null; 5_000]);
    let found = violations(json!({ "items": { "enum": vec!["x".repeat(100); 1] } }), &many);
    assert_eq!(found.len(), MAX_ERRORS);
    let long = json!({ "x".repeat(10_000): 1 });
    let checker = compile(json!({ "additionalProperties": false })).unwrap();
    let Verdict::Violates(errors) = checker.check(&long, "data", STEPS).0 else {
        panic!("it was accepted")
    };
    assert!(errors[0].path.chars().count() <= 501 && errors[0].message.chars().count() <= 201);
}

#[test]
fn both_drafts_are_read_as_they_are_meant() {
    let draft7 = "http://json-schema.org/draft-07/schema#";
    // What stands beside a reference counts since 2019, and did not before.
    let beside =
        json!({ "definitions": { "t": { "type": "string" } }, "$ref": "#/definitions/t", "maxLength": 1 });
    assert_eq!(violations(beside.clone(), &json!("ab")), ["data"]);
    let mut before = beside;
    before["$schema"] = draft7.into();
    assert_eq!(violations(before.clone(), &json!("ab")), [""; 0]);
    assert_eq!(violations(before, &json!(1)), ["data"]);
    let tuple = json!({ "$schema": draft7, "items": [{ "type": "string" }], "additionalItems": false });
    assert_eq!(violations(tuple, &json!([1, 2])), ["data[0]", "data"]);
    let rest = json!({ "allOf": [{ "properties": { "a": true } }], "unevaluatedProperties": false });
    assert_eq!(violations(rest, &json!({ "a": 1, "b": 2 })), ["data.b"]);
}

#[test]
fn references_lead_to_schemas_in_the_schema() {
    let tree =
        json!({ "properties": { "children": { "items": { "$ref": "#" } }, "name": { "type": "string" } } });
    assert_eq!(
        violations(tree, &json!({ "children": [{ "children": [{ "name": 1 }] }] })),
        ["data.children[0].children[0].name"]
    );
    let deep = json!({ "properties": { "a/b": { "items": { "type": "string" } }, "c": { "$ref": "#/properties/a~1b/items" } } });
    assert_eq!(violations(deep, &json!({ "c": 1 })), ["data.c"]);
    for reference in [
        "https://example.org/schema.json",
        "other.json#/a",
        "file:///etc/passwd",
        "#name",
        "#/properties",
        "#/$defs/missing",
        "#/enum/0",
        "#/x-own/y",
    ] {
        let schema = json!({
            "properties": { "a": { "$ref": reference } }, "enum": [{}], "x-own": { "y": {} }, "$defs": { "b": {} },
        });
        assert_eq!(
            refusals(schema),
            ["schema.properties.a[\"$ref\"]".replace("[\"$ref\"]", ".$ref")],
            "{reference}"
        );
    }
}

#[test]
fn what_is_no_schema_is_refused_at_its_place() {
    let schema = json!({ "type": "objekt", "properties": { "a": { "minLength": -1 }, "b": 7 } });
    let mut found = refusals(schema);
    found.sort();
    assert_eq!(
        found,
        [
            "schema.properties.a.minLength",
            "schema.properties.b",
            "schema.type"
        ]
    );
    assert_eq!(
        refusals(json!({ "properties": { "a": { "$id": "x" } } })),
        ["schema.properties.a.$id"]
    );
    for pattern in ["(?=a)b", "(a)\\1", "[", "(x{1000}){1000}"] {
        assert!(
            compile(json!({ "pattern": pattern })).is_err(),
            "{pattern:?} was accepted"
        );
    }
    assert!(
        compile(json!({ "$id": "https://example.org/a", "$schema": Dialect::Draft202012.uri() })).is_ok()
    );
    assert!(compile(json!({ "pattern": "^[A-Z]{3}-\\d{4,}$", "title": "x", "x-own": { "a": 1 } })).is_ok());
    let many: Vec<Value> = (0..3_000).map(|_| json!({})).collect();
    assert_eq!(refusals(json!({ "allOf": many })), ["schema"]);
    let patterns: Vec<Value> = (0..65).map(|n| json!({ "pattern": format!("a{n}") })).collect();
    assert_eq!(refusals(json!({ "allOf": patterns })), ["schema"]);
}

/// Schemas made to take for ever end all the same, and leave the thread fit for the next.
#[test]
fn nothing_takes_for_ever() {
    let doubling: serde_json::Map<String, Value> = (0..60)
        .map(|n| {
            let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            (
                format!("d{n}"),
                json!({ "anyOf": [next.clone(), { "allOf": [next.clone(), next] }] }),
            )
        })
        .chain([("d60".to_owned(), json!({ "type": "null" }))])
        .collect();
    let tree = json!({ "allOf": [{ "items": { "$ref": "#" } }, { "items": { "$ref": "#" } }], "type": ["array", "null"] });
    let nested = (0..99).fold(json!(1), |inner, _| json!([inner]));
    let circle = json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" });
    let chain: serde_json::Map<String, Value> = (0..900)
        .map(|n| {
            (
                format!("c{n}"),
                json!({ "not": { "$ref": format!("#/$defs/c{}", n + 1) } }),
            )
        })
        .chain([("c900".to_owned(), json!({}))])
        .collect();
    let long = json!({ "pattern": "^(a|aa)+$", "items": { "pattern": "(.*,){3}x" } });
    let few = Value::from((0..200).collect::<Vec<i32>>());
    let (fits, exhausted) = (Some(Verdict::Fits), Some(Verdict::Exhausted));
    for (schema, data, verdict) in [
        (
            json!({ "$defs": doubling, "$ref": "#/$defs/d0" }),
            json!("x"),
            exhausted.as_ref(),
        ),
        (tree, nested, exhausted.as_ref()),
        (circle, json!(1), None),
        (json!({ "$defs": chain, "$ref": "#/$defs/c0" }), json!(1), None),
        (long, json!(format!("{}!", "a".repeat(400_000))), None),
        (
            json!({ "items": { "enum": (0..2_000).collect::<Vec<_>>() } }),
            few,
            fits.as_ref(),
        ),
    ] {
        let started = Instant::now();
        let text = schema.to_string();
        let name = &text[..text.len().min(100)];
        let found = compile(schema).unwrap().check(&data, "data", STEPS).0;
        assert!(
            verdict.is_none_or(|verdict| *verdict == found),
            "{found:?} for {name}"
        );
        let took = started.elapsed();
        assert!(took.as_secs() < 30, "{took:?} for {name}");
        assert_eq!(violations(json!({ "type": "string" }), &json!(1)), ["data"]);
    }
}

#[test]
fn a_budget_is_used_up_and_told() {
    let checker = compile(json!({ "items": { "type": "integer" } })).unwrap();
    let numbers = Value::from((0..1_000).collect::<Vec<i32>>());
    let (verdict, left) = checker.check(&numbers, "data", 100_000);
    assert!(
        verdict == Verdict::Fits && left > 50_000 && left < 100_000,
        "{left}"
    );
    assert_eq!(checker.check(&numbers, "data", 1_000), (Verdict::Exhausted, 0));
}
