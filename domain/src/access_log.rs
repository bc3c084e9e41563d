//! What was refused and which secrets were shown: what the audit trail tells besides changes.
//!
//! Rules:
//! * An access log is written by one process for one tenant, under an id of its own, so nobody else ever appends to it
//!   and its versions have no gaps. The process begins another after a day or many records.
//! * A commit gathers what happened within a moment: each event therefore says itself who asked, when and where from,
//!   while the commit's own source is the process.
//! * At most [`MAX_EVENTS`] events go into one commit; what finds no room in between is counted, and the count is told.

use std::borrow::Cow;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Actor, Commit, EventRecord, Root, Timestamp, decode_event};

/// The most events of one commit.
pub const MAX_EVENTS: usize = 256;

/// An access log; all there is to it is its history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {}

/// What a request was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The kind of thing, as `user`.
    pub kind: String,
    /// Which one, where the request said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A request: who asked for what, when and where from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When it was answered.
    pub at: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// For what, as `RegisterUser`.
    pub command: String,
    /// On what.
    pub resource: Resource,
    /// The HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The address it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What belongs together across requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The request.
    #[serde(flatten)]
    pub asked: Asked,
    /// Why: the code of the problem it was answered with, as `email_taken`.
    pub problem: String,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// What kind of secret was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// The text of an API key.
    ApiKey,
    /// What signs an endpoint's webhooks.
    EndpointSecret,
    /// The token of an invitation.
    InvitationToken,
    /// What a source's requests are checked with.
    SourceSecret,
}

/// A request whose answer showed a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The request.
    #[serde(flatten)]
    pub asked: Asked,
    /// The kind of secret; the resource is whose it is.
    pub secret: SecretKind,
    /// Whether it is an earlier answer, given again.
    pub again: bool,
}

/// How many requests something was true of, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// The first.
    pub since: Timestamp,
    /// The last.
    pub until: Timestamp,
}

/// What can be asked of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessCommand {
    /// Keep this.
    Record(Vec<AccessEvent>),
}

/// What an access log tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum AccessEvent {
    /// A command was refused.
    #[serde(rename = "command.refused")]
    CommandRefused(Refused),
    /// A caller may not read what it asked for.
    #[serde(rename = "read.refused")]
    ReadRefused(Refused),
    /// An answer showed a secret.
    #[serde(rename = "secret.shown")]
    SecretShown(Shown),
    /// More was refused than is told one by one.
    #[serde(rename = "access.dropped")]
    Dropped(Count),
    /// Requests were refused because there were too many.
    #[serde(rename = "access.limited")]
    Limited(Count),
}

domain_event!(AccessEvent {
    CommandRefused => ("command.refused", 1),
    ReadRefused => ("read.refused", 1),
    SecretShown => ("secret.shown", 1),
    Dropped => ("access.dropped", 1),
    Limited => ("access.limited", 1),
});

/// Why an access log says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessRejection {
    /// A commit would hold too many events.
    #[error("at most {MAX_EVENTS} events are recorded at once")]
    TooMany,
}

impl cqrs_es::Aggregate for AccessLog {
    const TYPE: &'static str = "access";
    type Command = AccessCommand;
    type Event = AccessEvent;
    type Error = AccessRejection;
    type Services = ();

    async fn handle(
        &mut self,
        AccessCommand::Record(events): AccessCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), AccessRejection> {
        if events.len() > MAX_EVENTS {
            return Err(AccessRejection::TooMany);
        }
        for event in events {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, _: AccessEvent) {}
}

impl Root for AccessLog {
    const SNAPSHOTS: bool = false;

    /// Its id is drawn for it, and nobody else writes to it.
    fn creates(_: &AccessCommand) -> bool {
        true
    }
}

/// What the audit trail tells of an event: who did what, to what, when and where from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed<'c> {
    /// When it was decided.
    pub at: Timestamp,
    /// Who, as [`Actor::label`] has it.
    pub actor: String,
    /// What was asked for.
    pub command: Cow<'c, str>,
    /// The kind of thing it happened to.
    pub kind: Cow<'c, str>,
    /// Which one; empty where that is not known.
    pub id: Cow<'c, str>,
    /// Whether it was refused.
    pub refused: bool,
    /// The HTTP request.
    pub request_id: Option<Cow<'c, str>>,
    /// The address it came from.
    pub origin: Option<Cow<'c, str>>,
    /// What it belongs to.
    pub correlation_id: Option<Cow<'c, str>>,
    /// W3C trace context.
    pub traceparent: Option<Cow<'c, str>>,
}

impl<'c> Deed<'c> {
    /// What an event of a commit tells; of an access log's, what it says of its request, if this program can read it.
    pub fn of(commit: &'c Commit, event: &'c EventRecord) -> Self {
        if commit.aggregate != <AccessLog as cqrs_es::Aggregate>::TYPE {
            return Self::itself(commit, event, false);
        }
        match decode_event(event) {
            Ok(AccessEvent::CommandRefused(refused) | AccessEvent::ReadRefused(refused)) => {
                Self::asked(refused.asked, true)
            }
            Ok(AccessEvent::SecretShown(shown)) => Self::asked(shown.asked, false),
            Ok(AccessEvent::Dropped(_) | AccessEvent::Limited(_)) => Self::itself(commit, event, true),
            Err(_) => Self::itself(commit, event, false),
        }
    }

    fn itself(commit: &'c Commit, event: &'c EventRecord, refused: bool) -> Self {
        let (kind, id) = commit.subject_of(event);
        let meta = &commit.meta;
        let borrowed = |text: &'c Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            at: meta.at,
            actor: meta.actor.label(),
            command: Cow::Borrowed(&meta.command),
            kind: Cow::Borrowed(kind),
            id: Cow::Borrowed(id),
            refused,
            request_id: borrowed(&meta.request_id),
            origin: borrowed(&meta.origin),
            correlation_id: borrowed(&meta.correlation_id),
            traceparent: borrowed(&meta.traceparent),
        }
    }

    fn asked(asked: Asked, refused: bool) -> Self {
        let owned = |text: Option<String>| text.map(Cow::Owned);
        Self {
            at: asked.at,
            actor: asked.actor.label(),
            command: asked.command.into(),
            kind: asked.resource.kind.into(),
            id: asked.resource.id.unwrap_or_default().into(),
            refused,
            request_id: owned(asked.request_id),
            origin: owned(asked.origin),
            correlation_id: owned(asked.correlation_id),
            traceparent: owned(asked.traceparent),
        }
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::aggregate::testing::{check_golden_files, decide};
    use crate::{Meta, TenantId, encode_event};

    fn asked() -> Asked {
        Asked {
            at: Timestamp::from_millis(1_614_265_330_007),
            actor: Actor::ApiKey("key_00000000000000000000000009".into()),
            command: "ChangeUser".into(),
            resource: Resource {
                kind: "user".into(),
                id: Some("usr_00000000000000000000000008".into()),
            },
            request_id: Some("req-1".into()),
            origin: Some("192.0.2.7".into()),
            correlation_id: Some("order-7".into()),
            traceparent: None,
        }
    }

    fn refused() -> Refused {
        Refused {
            asked: asked(),
            problem: "email_taken".into(),
            status: 409,
        }
    }

    fn count() -> Count {
        Count {
            count: 12,
            since: Timestamp::from_millis(1_614_265_330_007),
            until: Timestamp::from_millis(1_614_265_331_007),
        }
    }

    fn shown() -> AccessEvent {
        AccessEvent::SecretShown(Shown {
            asked: asked(),
            secret: SecretKind::ApiKey,
            again: false,
        })
    }

    #[test]
    fn stored_events_decode_for_ever() {
        let examples = [
            AccessEvent::CommandRefused(refused()),
            AccessEvent::ReadRefused(refused()),
            shown(),
            AccessEvent::Dropped(count()),
            AccessEvent::Limited(count()),
        ];
        check_golden_files(AccessEvent::WIRE, &examples);
    }

    #[tokio::test]
    async fn what_is_asked_is_recorded_within_its_bound() {
        let events = vec![shown(); 2];
        let recorded = decide::<AccessLog>(&[], AccessCommand::Record(events.clone())).await;
        assert_eq!(recorded, Ok(events));
        let many = AccessCommand::Record(vec![shown(); MAX_EVENTS + 1]);
        assert_eq!(
            decide::<AccessLog>(&[], many).await,
            Err(AccessRejection::TooMany)
        );
    }

    #[test]
    fn an_event_of_an_access_log_tells_of_its_own_request() {
        let commit = |aggregate: &str, event| Commit {
            v: Commit::VERSION,
            tenant: TenantId::new(Ulid(7)),
            aggregate: aggregate.into(),
            id: "acc_1".into(),
            first_version: 1,
            events: vec![event],
            meta: Meta {
                command_id: "c".into(),
                command: "RecordAccess".into(),
                actor: Actor::System("gateway".into()),
                request_id: None,
                origin: None,
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                at: Timestamp::default(),
            },
            prev: None,
        };
        let refusal = encode_event(&AccessEvent::CommandRefused(refused())).unwrap();
        let commit_of_refusal = commit("access", refusal);
        let deed = Deed::of(&commit_of_refusal, &commit_of_refusal.events[0]);
        assert_eq!(
            (deed.actor.as_str(), &*deed.command, deed.refused),
            ("key_00000000000000000000000009", "ChangeUser", true)
        );
        assert_eq!(
            (&*deed.kind, &*deed.id),
            ("user", "usr_00000000000000000000000008")
        );
        assert_eq!((deed.origin.as_deref(), deed.at), (Some("192.0.2.7"), asked().at));
        let dropped = commit("access", encode_event(&AccessEvent::Dropped(count())).unwrap());
        let deed = Deed::of(&dropped, &dropped.events[0]);
        assert_eq!(
            (&*deed.kind, &*deed.id, deed.actor.as_str()),
            ("access", "acc_1", "system:gateway")
        );
    }
}
