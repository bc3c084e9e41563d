//! What the aggregates of this domain share beyond `cqrs_es::Aggregate`, and how their events are stored.

use cqrs_es::DomainEvent;
use serde_json::{Value, json};

use crate::{Claim, EventRecord};

/// An aggregate of this domain: no services, commands that can be decided again after a conflict, and the unique
/// values its events take and release.
pub trait Root:
    cqrs_es::Aggregate<
        Services = (),
        Command: Clone + Send + Sync + 'static,
        Event: StoredEvent + Send + Sync + 'static,
        Error: Send + Sync + 'static,
    > + Clone
    + 'static
{
    /// The version of the fold: raised whenever `apply`, or the form of the state, changes, so that snapshots of the
    /// old fold are passed over.
    const FOLD: u32 = 1;

    /// Whether a long history is worth a snapshot: not where there is no state that anybody asks for.
    const SNAPSHOTS: bool = true;

    /// Whether a command brings a new aggregate into being under an id drawn for it. Such a command is decided on
    /// the empty state at once: the append, which expects that nothing is there, proves it or has it decided again.
    fn creates(command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// The unique values an event takes or releases; they change in the same append as the event is stored.
    fn claims(event: &Self::Event) -> Vec<Claim> {
        let _ = event;
        Vec::new()
    }
}

/// An event whose stored form may have had earlier schemas that are read as the present one.
pub trait StoredEvent: DomainEvent {
    /// The oldest schema whose data the present form reads: what was added since has a default that means what was
    /// so before.
    fn oldest_schema(&self) -> u16;
}

/// A stored event that this version of the program cannot read.
#[derive(Debug, thiserror::Error)]
#[error("the event {event_type} (schema {schema}) cannot be read")]
pub struct DecodeEventError {
    event_type: String,
    schema: u16,
    #[source]
    source: serde_json::Error,
}

/// The stored form of an event.
///
/// Events are enums with `#[serde(tag = "type", content = "data")]` and their wire name on each variant, so the
/// name stands once.
pub fn encode_event<E: DomainEvent>(event: &E) -> Result<EventRecord, serde_json::Error> {
    let mut tagged = serde_json::to_value(event)?;
    let data = tagged.get_mut("data").map(Value::take).unwrap_or_default();
    let schema = event.event_version().parse().map_err(|_| {
        serde::ser::Error::custom(format_args!(
            "event version {:?} is no number",
            event.event_version()
        ))
    })?;
    Ok(EventRecord {
        event_type: event.event_type(),
        schema,
        data,
    })
}

/// The event of a stored form.
pub fn decode_event<E: StoredEvent>(record: &EventRecord) -> Result<E, DecodeEventError> {
    let error = |source| DecodeEventError {
        event_type: record.event_type.clone(),
        schema: record.schema,
        source,
    };
    let tagged = json!({ "type": record.event_type, "data": record.data });
    let event: E = serde_json::from_value(tagged).map_err(error)?;
    let (oldest, newest) = (event.oldest_schema(), event.event_version());
    let known = record.schema.to_string() == newest
        || newest
            .parse()
            .is_ok_and(|newest| (oldest..newest).contains(&record.schema));
    if !known {
        // A later schema of a known event: folding it as the one we know would lose facts silently.
        let text = format!("this program knows schemas {oldest} to {newest} of it");
        return Err(error(serde::de::Error::custom(text)));
    }
    Ok(event)
}

/// Gives an event enum its `DomainEvent`: the wire name is the serde tag, the schema version stands per variant, with
/// the oldest that is read as it where that is another.
macro_rules! domain_event {
    ($event:ident { $($variant:ident => ($wire:literal, $schema:literal $(, since $oldest:literal)?)),+ $(,)? }) => {
        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                match self { $(Self::$variant { .. } => $wire.to_owned()),+ }
            }

            fn event_version(&self) -> String {
                match self { $(Self::$variant { .. } => stringify!($schema).to_owned()),+ }
            }
        }

        impl $crate::aggregate::StoredEvent for $event {
            fn oldest_schema(&self) -> u16 {
                match self { $(Self::$variant { .. } => [$($oldest,)? $schema][0]),+ }
            }
        }

        #[cfg(test)]
        impl $event {
            /// Wire name and schema version of every event, for the golden files.
            pub(crate) const WIRE: &'static [(&'static str, u16)] = &[$(($wire, $schema)),+];
        }
    };
}
pub(crate) use domain_event;

/// Given / when / then for aggregates, and the golden files of their events.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::PathBuf;

    use cqrs_es::event_sink::EventSink;

    use super::{Root, StoredEvent, Value, decode_event, encode_event, json};
    use crate::EventRecord;

    /// An aggregate with a history.
    pub(crate) fn folded<A: Root>(given: &[A::Event]) -> A {
        let mut aggregate = A::default();
        for event in given {
            aggregate.apply(event.clone());
        }
        aggregate
    }

    /// What a command decides on an aggregate with a history.
    pub(crate) async fn decide<A: Root>(
        given: &[A::Event],
        when: A::Command,
    ) -> Result<Vec<A::Event>, A::Error> {
        let mut aggregate = folded::<A>(given);
        let sink = EventSink::default();
        aggregate.handle(when, &(), &sink).await?;
        Ok(sink.collect().await)
    }

    /// A record's golden file, which must decode for ever and still be what is written; made from `encoded` when the
    /// form is new, with `UPDATE_GOLDEN=1`.
    pub(crate) fn golden_record(name: &str, encoded: &[u8]) -> Vec<u8> {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../schemas/records/{name}.msgpack"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, encoded).unwrap();
        }
        let golden = std::fs::read(path).unwrap();
        assert_eq!(
            golden, encoded,
            "{name} is no longer written as its golden file says"
        );
        golden
    }

    /// An event's golden file of an earlier schema must be read as this event for ever.
    pub(crate) fn check_earlier_golden_file<E: StoredEvent>(name: &str, schema: u16, event: &E) {
        let stored = golden_event(name, schema);
        assert_eq!(&decode_event::<E>(&stored).unwrap(), event);
        assert_ne!(
            encode_event(event).unwrap().schema,
            schema,
            "{name} has no earlier schema"
        );
    }

    fn golden_path(name: &str, schema: u16) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../schemas/events/{name}.v{schema}.json"))
    }

    fn golden_event(name: &str, schema: u16) -> EventRecord {
        let path = golden_path(name, schema);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; write the file of a new event with UPDATE_GOLDEN=1",
                path.display()
            )
        });
        let golden: Value = serde_json::from_str(&text).unwrap();
        EventRecord {
            event_type: golden["type"].as_str().unwrap().to_owned(),
            schema: u16::try_from(golden["schema"].as_u64().unwrap()).unwrap(),
            data: golden["data"].clone(),
        }
    }

    /// Each event must decode from its golden file, written when its schema was new, and encode to the same.
    pub(crate) fn check_golden_files<E: StoredEvent>(wire: &[(&str, u16)], examples: &[E]) {
        assert_eq!(examples.len(), wire.len(), "one example per event");
        for (example, (name, schema)) in examples.iter().zip(wire) {
            let record = encode_event(example).unwrap();
            assert_eq!((record.event_type.as_str(), record.schema), (*name, *schema));
            let path = golden_path(name, *schema);
            if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
                let form = json!({ "type": record.event_type, "schema": record.schema, "data": record.data });
                std::fs::write(&path, format!("{form:#}\n")).unwrap();
            }
            let stored = golden_event(name, *schema);
            assert_eq!(
                stored, record,
                "{name} is no longer written as its golden file says"
            );
            assert_eq!(&decode_event::<E>(&stored).unwrap(), example);
            let unknown = EventRecord {
                schema: schema + 1,
                ..stored
            };
            assert!(
                decode_event::<E>(&unknown).is_err(),
                "{name}: an unknown schema was read as a known one"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Root;
    use crate::projection::{Projection, ProjectionCommand, ProjectionEvent};

    #[test]
    fn an_aggregate_that_says_nothing_begins_nowhere_anew_and_claims_nothing() {
        assert!(!Projection::creates(&ProjectionCommand::Resume(None)));
        assert!(Projection::claims(&ProjectionEvent::Resumed { reason: None }).is_empty());
    }
}
