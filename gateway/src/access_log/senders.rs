//! What is told of other systems' requests that were refused at a source.

use std::time::SystemTime;

use domain::access_log::{AccessEvent, Asked, Refused, Resource};
use domain::{Actor, SourceAddress, Timestamp};

use super::AccessLog;
use super::asked::{Told, told};
use crate::layers::RequestContext;
use crate::problem::ProblemType;

/// What senders ask for, as commands are called.
const COMMAND: &str = "ReceiveWebhook";

/// A request to a source that exists.
pub(crate) struct Sending<'r> {
    /// The source.
    pub(crate) address: &'r SourceAddress,
    /// What is known of the request.
    pub(crate) context: &'r RequestContext,
    /// Whether it proved to come from the source; if not, anybody may have sent it.
    pub(crate) proved: bool,
}

impl AccessLog {
    /// Tells of a request that was refused for good.
    pub(crate) fn refused_sender(&self, sending: &Sending<'_>, kind: ProblemType) {
        let (tenant, at) = (&sending.address.tenant, Timestamp::from(SystemTime::now()));
        // Whoever cannot prove that they are the source is what its tenant wants to hear of, other than whoever shows a
        // wrong key, which names nobody for sure.
        let told = match kind {
            ProblemType::SignatureRefused => Told::Each,
            kind => told(kind, true, false),
        };
        match told {
            Told::No => {}
            Told::Counted => self.limited(tenant, at),
            Told::Each => {
                let event = AccessEvent::CommandRefused(Refused {
                    asked: sending.asked(at),
                    problem: kind.code().to_owned(),
                    status: kind.status().as_u16(),
                });
                self.refused(tenant, event, at);
            }
        }
    }
}

impl Sending<'_> {
    fn asked(&self, at: Timestamp) -> Asked {
        let source = self.address.source.as_str().to_owned();
        let context = self.context.clone();
        Asked {
            at,
            actor: if self.proved {
                Actor::Source(source.clone())
            } else {
                Actor::System("anyone".to_owned())
            },
            command: COMMAND.to_owned(),
            resource: Resource {
                kind: "source".to_owned(),
                id: Some(source),
            },
            request_id: Some(context.id),
            origin: context.origin.map(|address| address.to_string()),
            correlation_id: Some(context.correlation_id),
            traceparent: context.traceparent,
        }
    }
}
