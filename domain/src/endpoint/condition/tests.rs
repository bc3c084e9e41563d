use proptest::prelude::*;
use serde_json::json;

use super::*;

fn filter(json: Value) -> Result<ContentFilter, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

fn holds(condition: Value, data: &Value) -> bool {
    filter(condition).unwrap().lets_through(data)
}

#[test]
fn each_test_is_true_of_what_it_says() {
    let data = json!({
        "n": 5, "f": 1.0, "s": "invoice-7", "list": [1, "two", { "a": 1 }], "null": null, "big": u64::MAX,
        "at": "2026-02-25T15:02:10Z"
    });
    for (condition, expected) in [
        (json!({ "path": "/n", "equals": 5 }), true),
        (json!({ "path": "/n", "equals": 5.0 }), true),
        (json!({ "path": "/f", "equals": 1 }), true),
        (json!({ "path": "/n", "equals": "5" }), false),
        (json!({ "path": "/big", "equals": u64::MAX }), true),
        (json!({ "path": "/big", "equals": u64::MAX - 1 }), false),
        (json!({ "path": "/list/2", "equals": { "a": 1.0 } }), true),
        (json!({ "path": "/list", "equals": [1, "two"] }), false),
        (json!({ "path": "/n", "not_equals": 6 }), true),
        (json!({ "path": "/none", "not_equals": 6 }), true),
        (json!({ "path": "/n", "not_equals": 5 }), false),
        (json!({ "path": "/n", "in": [4, 5] }), true),
        (json!({ "path": "/n", "in": [] }), false),
        (json!({ "path": "/null", "exists": true }), true),
        (json!({ "path": "/none", "exists": true }), false),
        (json!({ "path": "/none", "exists": false }), true),
        (json!({ "path": "/s", "starts_with": "invoice-" }), true),
        (json!({ "path": "/s", "ends_with": "-7" }), true),
        (json!({ "path": "/n", "starts_with": "5" }), false),
        (json!({ "path": "/s", "contains": "voice" }), true),
        (json!({ "path": "/list", "contains": "two" }), true),
        (json!({ "path": "/list", "contains": { "a": 1 } }), true),
        (json!({ "path": "/list", "contains": "three" }), false),
        (json!({ "path": "/n", "greater_than": 4.5 }), true),
        (json!({ "path": "/n", "greater_than": 5 }), false),
        (json!({ "path": "/n", "at_least": 5 }), true),
        (json!({ "path": "/n", "less_than": 5.5 }), true),
        (json!({ "path": "/n", "at_most": 4 }), false),
        (json!({ "path": "/n", "less_than": "6" }), false),
        (json!({ "path": "/at", "at_least": "2026-01-01T00:00:00Z" }), true),
        (json!({ "path": "/none", "less_than": 5 }), false),
        (json!({ "path": "", "exists": true }), true),
    ] {
        assert_eq!(holds(condition.clone(), &data), expected, "{condition}");
    }
}

#[test]
fn conditions_join_as_logic_has_it() {
    let (yes, no) = (
        json!({ "path": "", "exists": true }),
        json!({ "path": "", "exists": false }),
    );
    for (condition, expected) in [
        (json!({ "all": [] }), true),
        (json!({ "any": [] }), false),
        (json!({ "all": [yes, no] }), false),
        (json!({ "any": [yes, no] }), true),
        (json!({ "not": { "any": [no] } }), true),
    ] {
        assert_eq!(holds(condition.clone(), &Value::Null), expected, "{condition}");
    }
}

#[test]
fn what_is_no_condition_is_refused_with_a_reason() {
    for (json, reason) in [
        (json!([]), "an object that is a condition"),
        (json!({}), "a condition is one of"),
        (json!({ "path": "/a" }), "`path` needs a test"),
        (json!({ "equals": 1 }), "a test needs `path`"),
        (
            json!({ "path": "/a", "equals": 1, "in": [] }),
            "one `path` takes one test",
        ),
        (json!({ "all": [], "any": [] }), "a condition is one of"),
        (
            json!({ "all": [], "path": "/a", "equals": 1 }),
            "a condition is one of",
        ),
        (json!({ "path": "a", "equals": 1 }), "JSON Pointer"),
        (json!({ "path": "/a", "like": ".*" }), "unknown field `like`"),
        (json!({ "path": "/a", "less_than": true }), "a number or a text"),
        (json!({ "not": [] }), "an object that is a condition"),
    ] {
        let error = filter(json.clone()).unwrap_err();
        assert!(error.contains(reason), "{json}: {error}");
    }
}

#[test]
fn size_is_bounded() {
    let nested = |depth: usize| {
        (1..depth).fold(
            json!({ "path": "", "exists": true }),
            |inner, _| json!({ "not": inner }),
        )
    };
    assert!(filter(nested(ContentFilter::MAX_DEPTH)).is_ok());
    let error = filter(nested(ContentFilter::MAX_DEPTH + 1)).unwrap_err();
    assert!(error.contains("8 deep"), "{error}");
    let many = |count: usize| json!({ "all": vec![json!({ "path": "", "exists": true }); count - 1] });
    assert!(filter(many(ContentFilter::MAX_CONDITIONS)).is_ok());
    let error = filter(many(ContentFilter::MAX_CONDITIONS + 1)).unwrap_err();
    assert!(error.contains("100 conditions"), "{error}");
    let long = |bytes: usize| {
        let around = json!({ "path": "", "equals": "" }).to_string().len();
        json!({ "path": "", "equals": "x".repeat(bytes - around) })
    };
    assert!(filter(long(ContentFilter::MAX_BYTES)).is_ok());
    let error = filter(long(ContentFilter::MAX_BYTES + 1)).unwrap_err();
    assert!(error.contains("8192 bytes"), "{error}");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2_i32..3).prop_map(|n| json!(f64::from(n) / 2.0)),
        "[ab]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let path = prop_oneof![Just(""), Just("/a"), Just("/b/a"), Just("/0")];
    let tests = prop_oneof![
        value().prop_map(|value| ("equals", value)),
        value().prop_map(|value| ("not_equals", value)),
        prop::collection::vec(value(), 0..3).prop_map(|values| ("in", Value::from(values))),
        any::<bool>().prop_map(|wanted| ("exists", Value::from(wanted))),
        "[ab]{0,2}".prop_map(|text| ("starts_with", Value::from(text))),
        value().prop_map(|value| ("contains", value)),
        (-3_i64..4).prop_map(|number| ("greater_than", Value::from(number))),
        (-3_i64..4).prop_map(|number| ("at_most", Value::from(number))),
    ];
    let leaf = (path, tests).prop_map(|(path, (test, value))| json!({ "path": path, test: value }));
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|all| json!({ "all": all })),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|any| json!({ "any": any })),
            inner.prop_map(|not| json!({ "not": not })),
        ]
    })
}

/// The same language, evaluated on its JSON by another hand.
fn naive(condition: &Value, data: &Value) -> bool {
    let members = condition.as_object().unwrap();
    let conditions = |name: &str| members.get(name).and_then(Value::as_array);
    if let Some(all) = conditions("all") {
        return !all.iter().any(|condition| !naive(condition, data));
    }
    if let Some(any) = conditions("any") {
        return any.iter().any(|condition| naive(condition, data));
    }
    if let Some(not) = members.get("not") {
        return !naive(not, data);
    }
    let found = data.pointer(members["path"].as_str().unwrap());
    let (test, wanted) = members.iter().find(|(name, _)| *name != "path").unwrap();
    // Texts of equal worth: whole floats are written as whole numbers.
    let plain = |value: &Value| value.to_string().replace(".0", "");
    let equal = |value: &Value| found.is_some_and(|found| plain(found) == plain(value));
    let number = || found.filter(|found| found.is_number()).and_then(Value::as_f64);
    match test.as_str() {
        "equals" => equal(wanted),
        "not_equals" => !equal(wanted),
        "in" => wanted.as_array().unwrap().iter().any(equal),
        "exists" => found.is_some() == wanted.as_bool().unwrap(),
        "starts_with" => found
            .and_then(Value::as_str)
            .is_some_and(|found| found.starts_with(wanted.as_str().unwrap())),
        "contains" => match found {
            Some(Value::String(found)) => wanted.as_str().is_some_and(|wanted| found.contains(wanted)),
            Some(Value::Array(found)) => found.iter().any(|item| plain(item) == plain(wanted)),
            _ => false,
        },
        "greater_than" => number().is_some_and(|number| number > wanted.as_f64().unwrap()),
        "at_most" => number().is_some_and(|number| number <= wanted.as_f64().unwrap()),
        other => unreachable!("{other}"),
    }
}

proptest! {
    #[test]
    fn a_filter_says_what_a_naive_evaluation_says(condition in condition(), data in value()) {
        let filter = filter(condition.clone()).unwrap();
        prop_assert_eq!(filter.lets_through(&data), naive(&condition, &data));
    }

    #[test]
    fn a_filter_is_written_as_it_was_read(condition in condition()) {
        let filter = filter(condition.clone()).unwrap();
        prop_assert_eq!(serde_json::to_value(&filter).unwrap(), condition);
    }

    #[test]
    fn any_json_is_a_filter_or_refused(json in value()) {
        let _ = filter(json);
    }
}
