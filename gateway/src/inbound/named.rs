//! By what name a message is known, so that one that is sent again, by an honest sender whose answer was lost or by
//! somebody who listened, is published once.

use domain::endpoint::JsonPointer;
use domain::source::{SourceSettings, Verification, text_at};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Incoming, Proof};

/// GitHub's header that names a delivery. It is not signed.
const GITHUB_DELIVERY: &str = "x-github-delivery";

/// What a message is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its name: the same whenever it is sent again.
    pub(crate) name: String,
    /// What the sender says besides when it sends it again, and would not say of another: of one name, another of
    /// these is a replay that is refused. Empty where there is nothing of the kind.
    pub(crate) sent: String,
}

/// The name of a message that is proved: the one its sender signed, or all that it signed.
pub(crate) fn named(
    settings: &SourceSettings,
    proof: &Proof,
    incoming: &Incoming<'_>,
    body: &Value,
) -> Named {
    let id = proof.id.clone().or_else(|| match &settings.verification {
        Verification::StandardWebhooks {} | Verification::Github {} => None,
        Verification::Stripe {} => text(body, "id"),
        Verification::Slack {} => text(body, "event_id"),
        Verification::Hmac(scheme) => find(scheme.id.as_ref(), body),
        Verification::Ed25519(scheme) => find(scheme.id.as_ref(), body),
    });
    let name = if let Some(id) = id {
        format!("id:{id}")
    } else {
        let time = proof.time.as_deref().unwrap_or_default();
        let digest = Sha256::new()
            .chain_update(time)
            .chain_update([0])
            .chain_update(incoming.body);
        format!("content:{}", hex::encode(digest.finalize()))
    };
    let sent = match settings.verification {
        Verification::Github {} => incoming.header(GITHUB_DELIVERY),
        _ => None,
    };
    Named {
        name,
        sent: sent.unwrap_or_default().to_owned(),
    }
}

fn text(body: &Value, field: &str) -> Option<String> {
    body.get(field).and_then(Value::as_str).map(str::to_owned)
}

fn find(pointer: Option<&JsonPointer>, body: &Value) -> Option<String> {
    pointer.and_then(|pointer| text_at(pointer, body))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{headers, incoming, settings};
    use super::*;

    fn name(verification: &Value, time: Option<&str>, body: &Value, header: &str) -> Named {
        let headers = headers(&[(GITHUB_DELIVERY, header)]);
        let bytes = body.to_string();
        let proof = Proof {
            id: None,
            time: time.map(str::to_owned),
        };
        named(
            &settings(verification),
            &proof,
            &incoming(&headers, bytes.as_bytes(), 0),
            body,
        )
    }

    #[test]
    fn a_name_in_the_body_outlives_another_time_and_wording() {
        let stripe = json!({ "scheme": "stripe" });
        let first = name(
            &stripe,
            Some("1"),
            &json!({ "id": "evt_1", "pending_webhooks": 2 }),
            "",
        );
        let again = name(
            &stripe,
            Some("2"),
            &json!({ "id": "evt_1", "pending_webhooks": 1 }),
            "",
        );
        assert_eq!(first, again);
        let slack = json!({ "scheme": "slack" });
        assert_eq!(
            name(&slack, Some("1"), &json!({ "event_id": "Ev1" }), "").name,
            "id:Ev1"
        );
        let hmac = json!({ "scheme": "hmac", "header": "x", "hash": "sha256", "id": "/n" });
        assert_eq!(name(&hmac, None, &json!({ "n": 7 }), "").name, "id:7");
    }

    #[test]
    fn what_names_nothing_is_known_by_all_that_was_signed() {
        let slack = json!({ "scheme": "slack" });
        let first = name(&slack, Some("1"), &json!({}), "");
        assert!(first.name.starts_with("content:"));
        assert_ne!(first, name(&slack, Some("2"), &json!({}), ""));
        let hmac = json!({ "scheme": "hmac", "header": "x", "hash": "sha256" });
        assert_eq!(
            name(&hmac, None, &json!({}), ""),
            name(&hmac, None, &json!({}), "other")
        );
        assert_ne!(
            name(&hmac, None, &json!({}), ""),
            name(&hmac, None, &json!([]), "")
        );
    }

    #[test]
    fn an_unsigned_name_makes_no_new_message_but_tells_a_replay() {
        let github = json!({ "scheme": "github" });
        let (one, other) = (
            name(&github, None, &json!({}), "1"),
            name(&github, None, &json!({}), "2"),
        );
        assert_eq!(one.name, other.name);
        assert_ne!(one.sent, other.sent);
    }
}
