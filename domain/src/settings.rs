//! A tenant's settings: what it can decide about itself. One aggregate per tenant, whose id is the tenant's.
//!
//! Rules:
//! * Every setting has a default, which holds until the tenant sets something else; a setting that was never set
//!   follows the default, should a later program have another.
//! * Each change makes a version: 1, 2, 3, …; version 0 is all defaults. A change that changes nothing makes none.
//! * Any of the last [`KEPT`] versions, and version 0, can be restored. Restoring is a change too and makes a new
//!   version; nothing is ever undone in the history.

mod values;

use std::collections::VecDeque;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::Root;
use crate::aggregate::domain_event;

pub use values::{
    AllowedDomains, Change, EmailDomain, InvalidDomain, InvitationHours, KeyLifetimeDays, OverlapHours,
    Overrides, RetentionDays, TeamDepth, TooManyDomains, Values,
};

/// How many versions can be restored besides version 0.
pub const KEPT: usize = 50;

/// The state of one tenant's settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    version: u64,
    /// What holds now: the defaults with the tenant's own in their place.
    current: Values,
    overrides: Overrides,
    /// The versions that can be restored, oldest first, the present one last.
    kept: VecDeque<Kept>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    version: u64,
    overrides: Overrides,
}

impl Settings {
    /// What holds now.
    pub fn current(&self) -> &Values {
        &self.current
    }

    /// What of it the tenant has set itself.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// How often the settings have changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn of_version(&self, version: u64) -> Option<Overrides> {
        if version == 0 {
            return Some(Overrides::default());
        }
        let kept = self.kept.iter().find(|kept| kept.version == version);
        kept.map(|kept| kept.overrides.clone())
    }

    fn turn_into(&mut self, version: u64, overrides: Overrides) {
        self.version = version;
        self.current = overrides.values();
        self.overrides = overrides.clone();
        self.kept.push_back(Kept { version, overrides });
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }
}

/// What can be asked of a tenant's settings.
#[derive(Debug, Clone, PartialEq)]
pub enum SettingsCommand {
    /// Change what is named, leave what is not.
    Change(Change),
    /// Make the settings again what they were at a version.
    Restore {
        /// Which.
        version: u64,
    },
}

/// What has happened to a tenant's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum SettingsEvent {
    /// Some were set, or set back to their defaults.
    #[serde(rename = "settings.changed")]
    Changed {
        /// The version this made.
        version: u64,
        /// What the tenant had set before.
        from: Overrides,
        /// What it has set now.
        to: Overrides,
    },
    /// They are again as they were at a version.
    #[serde(rename = "settings.restored")]
    Restored {
        /// The version this made.
        version: u64,
        /// The version restored.
        restored: u64,
        /// What the tenant had set before.
        from: Overrides,
        /// What it has set now.
        to: Overrides,
    },
}

domain_event!(SettingsEvent {
    Changed => ("settings.changed", 1),
    Restored => ("settings.restored", 1),
});

/// Why settings say no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsRejection {
    /// The version never was, or is no longer kept.
    #[error(
        "there is no version {version} to restore: versions {oldest} to {newest} are kept, and version 0"
    )]
    UnknownVersion {
        /// The one asked for.
        version: u64,
        /// The oldest kept, besides 0.
        oldest: u64,
        /// The present one.
        newest: u64,
    },
}

impl cqrs_es::Aggregate for Settings {
    const TYPE: &'static str = "settings";
    type Command = SettingsCommand;
    type Event = SettingsEvent;
    type Error = SettingsRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: SettingsCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), SettingsRejection> {
        let (version, from) = (self.version + 1, self.overrides.clone());
        let event = match command {
            SettingsCommand::Change(change) => {
                let to = from.with(change);
                if to == from {
                    return Ok(());
                }
                SettingsEvent::Changed { version, from, to }
            }
            SettingsCommand::Restore { version: restored } => {
                let Some(to) = self.of_version(restored) else {
                    return Err(SettingsRejection::UnknownVersion {
                        version: restored,
                        oldest: self.kept.front().map_or(0, |kept| kept.version),
                        newest: self.version,
                    });
                };
                if to == from {
                    return Ok(());
                }
                SettingsEvent::Restored {
                    version,
                    restored,
                    from,
                    to,
                }
            }
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: SettingsEvent) {
        match event {
            SettingsEvent::Changed { version, to, .. } | SettingsEvent::Restored { version, to, .. } => {
                self.turn_into(version, to);
            }
        }
    }
}

impl Root for Settings {
    const FOLD: u32 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Edit;
    use crate::aggregate::testing::{check_golden_files, decide, folded};

    fn strict() -> Overrides {
        Overrides {
            strict_event_types: Some(true),
            ..Overrides::default()
        }
    }

    fn changed(version: u64, from: Overrides, to: Overrides) -> SettingsEvent {
        SettingsEvent::Changed { version, from, to }
    }

    fn restored() -> SettingsEvent {
        SettingsEvent::Restored {
            version: 2,
            restored: 0,
            from: strict(),
            to: Overrides::default(),
        }
    }

    fn be_strict() -> SettingsCommand {
        SettingsCommand::Change(Change {
            strict_event_types: Edit::Set(true),
            ..Change::default()
        })
    }

    #[tokio::test]
    async fn a_change_sets_what_it_names_and_null_is_the_default_again() {
        let first = changed(1, Overrides::default(), strict());
        assert_eq!(
            decide::<Settings>(&[], be_strict()).await,
            Ok(vec![first.clone()])
        );
        assert_eq!(
            decide::<Settings>(std::slice::from_ref(&first), be_strict()).await,
            Ok(vec![])
        );
        let reset = SettingsCommand::Change(Change {
            strict_event_types: Edit::Reset,
            ..Change::default()
        });
        let second = changed(2, strict(), Overrides::default());
        assert_eq!(
            decide::<Settings>(&[first], reset.clone()).await,
            Ok(vec![second])
        );
        assert_eq!(decide::<Settings>(&[], reset).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn an_earlier_version_is_restored_as_a_new_one() {
        let given = [changed(1, Overrides::default(), strict())];
        let restore = |version| SettingsCommand::Restore { version };
        assert_eq!(decide::<Settings>(&given, restore(0)).await, Ok(vec![restored()]));
        assert_eq!(decide::<Settings>(&given, restore(1)).await, Ok(vec![]));
        let unknown = SettingsRejection::UnknownVersion {
            version: 2,
            oldest: 1,
            newest: 1,
        };
        assert_eq!(decide::<Settings>(&given, restore(2)).await, Err(unknown));
        let given = [given[0].clone(), restored()];
        let again = SettingsEvent::Restored {
            version: 3,
            restored: 1,
            from: Overrides::default(),
            to: strict(),
        };
        assert_eq!(decide::<Settings>(&given, restore(1)).await, Ok(vec![again]));
    }

    #[tokio::test]
    async fn only_the_last_versions_are_kept() {
        let given: Vec<_> = (1..=KEPT as u64 + 1)
            .map(|version| changed(version, Overrides::default(), strict()))
            .collect();
        let restore = SettingsCommand::Restore { version: 1 };
        let unknown = SettingsRejection::UnknownVersion {
            version: 1,
            oldest: 2,
            newest: KEPT as u64 + 1,
        };
        assert_eq!(decide::<Settings>(&given, restore).await, Err(unknown));
    }

    #[test]
    fn stored_events_decode_for_ever() {
        let to = Overrides {
            strict_event_types: Some(true),
            invitation_lifetime_hours: Some(InvitationHours::fixed::<24>()),
            team_max_depth: Some(TeamDepth::fixed::<3>()),
            secret_rotation_overlap_hours: Some(OverlapHours::fixed::<0>()),
            api_key_max_lifetime_days: Some(KeyLifetimeDays::fixed::<90>()),
            allowed_email_domains: Some(serde_json::from_str(r#"["example.org"]"#).unwrap()),
            audit_retention_days: None,
        };
        let full = changed(1, Overrides::default(), to);
        check_golden_files(SettingsEvent::WIRE, &[full, restored()]);
    }

    #[test]
    fn settings_tell_what_holds_what_of_it_is_the_tenants_own_and_of_which_version() {
        let state = |events: &[SettingsEvent]| {
            let settings = folded::<Settings>(events);
            let holds = settings.current().strict_event_types;
            (holds, settings.overrides().clone(), settings.version())
        };
        let events = [changed(1, Overrides::default(), strict()), restored()];
        assert_eq!(state(&[]), (false, Overrides::default(), 0));
        assert_eq!(state(&events[..1]), (true, strict(), 1));
        assert_eq!(state(&events), (false, Overrides::default(), 2));
    }
}
