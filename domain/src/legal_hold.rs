//! A tenant's legal hold: while it is there, nothing of the audit trail is removed. One aggregate per tenant, whose id
//! is the tenant's.
//!
//! Rules:
//! * A hold has a reason. Placing it again with another reason changes the reason; with the same one, nothing.
//! * Ending it when there is none changes nothing.
//! * It is no setting: who may change settings, or restore an earlier version of them, cannot end a hold by that.

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Root, Text};

/// Why a hold is there: 1 to 500 characters.
pub type HoldReason = Text<500>;

/// The state of one tenant's hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegalHold {
    reason: Option<HoldReason>,
}

impl LegalHold {
    /// Why nothing may be removed; none where there is no hold.
    pub fn reason(&self) -> Option<&HoldReason> {
        self.reason.as_ref()
    }
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegalHoldCommand {
    /// Keep everything.
    Place {
        /// Why.
        reason: HoldReason,
    },
    /// Let retention go on.
    Release,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum LegalHoldEvent {
    /// It is there, for this reason.
    #[serde(rename = "legal_hold.placed")]
    Placed {
        /// The reason of the hold that was there.
        from: Option<HoldReason>,
        /// Why.
        to: HoldReason,
    },
    /// It has ended.
    #[serde(rename = "legal_hold.released")]
    Released {
        /// Why it was there.
        from: HoldReason,
    },
}

domain_event!(LegalHoldEvent {
    Placed => ("legal_hold.placed", 1),
    Released => ("legal_hold.released", 1),
});

/// A hold never says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LegalHoldRejection {}

impl cqrs_es::Aggregate for LegalHold {
    const TYPE: &'static str = "legal_hold";
    type Command = LegalHoldCommand;
    type Event = LegalHoldEvent;
    type Error = LegalHoldRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: LegalHoldCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), LegalHoldRejection> {
        let event = match (command, self.reason.clone()) {
            (LegalHoldCommand::Place { reason }, from) if from.as_ref() != Some(&reason) => {
                LegalHoldEvent::Placed { from, to: reason }
            }
            (LegalHoldCommand::Release, Some(from)) => LegalHoldEvent::Released { from },
            _ => return Ok(()),
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: LegalHoldEvent) {
        self.reason = match event {
            LegalHoldEvent::Placed { to, .. } => Some(to),
            LegalHoldEvent::Released { .. } => None,
        };
    }
}

impl Root for LegalHold {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::testing::{check_golden_files, decide};

    fn reason(text: &str) -> HoldReason {
        Text::new(text).unwrap()
    }

    fn placed(from: Option<&str>, to: &str) -> LegalHoldEvent {
        LegalHoldEvent::Placed {
            from: from.map(reason),
            to: reason(to),
        }
    }

    fn released(from: &str) -> LegalHoldEvent {
        LegalHoldEvent::Released { from: reason(from) }
    }

    #[tokio::test]
    async fn a_hold_is_placed_renamed_and_released() {
        let place = |text| LegalHoldCommand::Place { reason: reason(text) };
        let first = placed(None, "Case 7");
        assert_eq!(
            decide::<LegalHold>(&[], place("Case 7")).await,
            Ok(vec![first.clone()])
        );
        let history = [first];
        assert_eq!(decide::<LegalHold>(&history, place("Case 7")).await, Ok(vec![]));
        let renamed = placed(Some("Case 7"), "Case 8");
        assert_eq!(
            decide::<LegalHold>(&history, place("Case 8")).await,
            Ok(vec![renamed])
        );
        let ended = released("Case 7");
        let release = LegalHoldCommand::Release;
        assert_eq!(
            decide::<LegalHold>(&history, release.clone()).await,
            Ok(vec![ended.clone()])
        );
        let history = [history[0].clone(), ended];
        assert_eq!(decide::<LegalHold>(&history, release).await, Ok(vec![]));
    }

    #[test]
    fn stored_events_decode_for_ever() {
        check_golden_files(
            LegalHoldEvent::WIRE,
            &[placed(None, "Case 7"), released("Case 7")],
        );
    }
}
