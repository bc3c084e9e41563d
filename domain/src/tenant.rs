//! Tenants: the isolation unit of the installation.
//!
//! Rules:
//! * A tenant is provisioned once, under a slug no other tenant of the installation has; its slug never changes.
//! * Its name, plan and quotas can change as often as wanted, while it is active or suspended.
//! * It can be suspended, for a reason, and reactivated. Suspending a suspended tenant for another reason is refused,
//!   since somebody else has suspended it for theirs.
//! * It can be terminated, for a reason, whether active or suspended. That is final: nothing changes any more, and
//!   its slug is free for others.
//!
//! Tenants live in the log of the platform's own tenant, so that a slug can be claimed in the append that
//! provisions.

mod quotas;
mod slug;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Claim, Edit, Root, TenantId, Text, Timestamp};

pub use quotas::{Counted, Quantity, Quotas, QuotasChange, Rate};
pub use slug::{InvalidSlug, Slug};

/// A tenant's display name.
pub type TenantName = Text<100>;
/// The name of a plan; what it allows is the installation's affair.
pub type PlanName = Text<40>;
/// Why a tenant was suspended or terminated.
pub type TenantReason = Text<200>;

/// The state of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    provisioned: Option<Provisioned>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Provisioned {
    id: TenantId,
    name: TenantName,
    slug: Slug,
    plan: Option<PlanName>,
    quotas: Quotas,
    quotas_changed_at: Timestamp,
    standing: Standing,
}

/// Whether a tenant takes part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It does.
    #[default]
    Active,
    /// Its commands are refused and its deliveries stand still, until it is reactivated.
    Suspended(TenantReason),
    /// It never will again.
    Terminated(TenantReason),
}

impl Standing {
    /// The standing as one word: `active`, `suspended`, `terminated`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended(_) => "suspended",
            Self::Terminated(_) => "terminated",
        }
    }
}

impl Tenant {
    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.provisioned.is_some()
    }

    /// Whether it takes part; none if there is no such tenant.
    pub fn standing(&self) -> Option<&Standing> {
        self.provisioned.as_ref().map(|tenant| &tenant.standing)
    }

    /// How much it can have.
    pub fn quotas(&self) -> Quotas {
        self.provisioned
            .as_ref()
            .map(|tenant| tenant.quotas)
            .unwrap_or_default()
    }

    /// When its quotas last changed.
    pub fn quotas_changed_at(&self) -> Timestamp {
        self.provisioned
            .as_ref()
            .map(|tenant| tenant.quotas_changed_at)
            .unwrap_or_default()
    }
}

/// What of a tenant shall be another; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TenantChange {
    /// The new display name.
    pub name: Option<TenantName>,
    /// The new plan, or none at all.
    pub plan: Edit<PlanName>,
    /// The new quotas.
    pub quotas: QuotasChange,
}

/// What can be asked of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub enum TenantCommand {
    /// Bring a tenant into being.
    Provision {
        /// Its id, drawn by the caller.
        id: TenantId,
        /// Its display name.
        name: TenantName,
        /// Its slug.
        slug: Slug,
        /// Its plan.
        plan: Option<PlanName>,
    },
    /// Change name, plan or quotas.
    Change {
        /// What shall be another.
        change: TenantChange,
        /// When.
        at: Timestamp,
    },
    /// Refuse its commands and hold its deliveries back.
    Suspend {
        /// Why.
        reason: TenantReason,
    },
    /// Let it go on.
    Reactivate,
    /// End it for good.
    Terminate {
        /// Why.
        reason: TenantReason,
    },
}

/// What has happened to a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum TenantEvent {
    /// It came into being.
    #[serde(rename = "tenant.provisioned")]
    Provisioned {
        /// Its id.
        id: TenantId,
        /// Its display name.
        name: TenantName,
        /// Its slug, unique in the installation.
        slug: Slug,
        /// Its plan.
        plan: Option<PlanName>,
    },
    /// Its display name changed.
    #[serde(rename = "tenant.renamed")]
    Renamed {
        /// The old one.
        from: TenantName,
        /// The new one.
        to: TenantName,
    },
    /// Its plan changed.
    #[serde(rename = "tenant.plan_changed")]
    PlanChanged {
        /// The old one.
        from: Option<PlanName>,
        /// The new one.
        to: Option<PlanName>,
    },
    /// Its quotas changed.
    #[serde(rename = "tenant.quotas_changed")]
    QuotasChanged {
        /// The old ones.
        from: Quotas,
        /// The new ones.
        to: Quotas,
        /// When this was decided.
        at: Timestamp,
    },
    /// Its commands are refused and its deliveries stand still.
    #[serde(rename = "tenant.suspended")]
    Suspended {
        /// Why.
        reason: TenantReason,
    },
    /// It goes on.
    #[serde(rename = "tenant.reactivated")]
    Reactivated {},
    /// It has ended.
    #[serde(rename = "tenant.terminated")]
    Terminated {
        /// Why.
        reason: TenantReason,
        /// Its slug, free from now on.
        slug: Slug,
    },
}

domain_event!(TenantEvent {
    Provisioned => ("tenant.provisioned", 1),
    Renamed => ("tenant.renamed", 1),
    PlanChanged => ("tenant.plan_changed", 1),
    QuotasChanged => ("tenant.quotas_changed", 1),
    Suspended => ("tenant.suspended", 1),
    Reactivated => ("tenant.reactivated", 1),
    Terminated => ("tenant.terminated", 1),
});

/// Why a tenant says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TenantRejection {
    /// There is a tenant of this id.
    #[error("the tenant exists already")]
    AlreadyProvisioned,
    /// There is none.
    #[error("there is no such tenant")]
    NotFound,
    /// It is suspended, for another reason.
    #[error("the tenant is suspended already, for another reason")]
    AlreadySuspended,
    /// It is terminated, which is final.
    #[error("the tenant is terminated, which is final")]
    Terminated,
}

impl cqrs_es::Aggregate for Tenant {
    const TYPE: &'static str = "tenant";
    type Command = TenantCommand;
    type Event = TenantEvent;
    type Error = TenantRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: TenantCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), TenantRejection> {
        let events = match (command, &self.provisioned) {
            (TenantCommand::Provision { .. }, Some(_)) => return Err(TenantRejection::AlreadyProvisioned),
            (TenantCommand::Provision { id, name, slug, plan }, None) => {
                vec![TenantEvent::Provisioned { id, name, slug, plan }]
            }
            (_, None) => return Err(TenantRejection::NotFound),
            (command, Some(tenant)) => tenant.decide(command)?,
        };
        for event in events {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: TenantEvent) {
        match (event, &mut self.provisioned) {
            (TenantEvent::Provisioned { id, name, slug, plan }, state) => {
                *state = Some(Provisioned {
                    id,
                    name,
                    slug,
                    plan,
                    quotas: Quotas::default(),
                    quotas_changed_at: Timestamp::default(),
                    standing: Standing::Active,
                });
            }
            (event, Some(tenant)) => tenant.apply(event),
            (_, None) => {}
        }
    }
}

impl Provisioned {
    /// What a command leads to, on a tenant that exists.
    fn decide(&self, command: TenantCommand) -> Result<Vec<TenantEvent>, TenantRejection> {
        let event = match (command, &self.standing) {
            (TenantCommand::Provision { .. }, _) => return Err(TenantRejection::AlreadyProvisioned),
            (TenantCommand::Terminate { reason }, Standing::Terminated(given)) if reason == *given => {
                return Ok(Vec::new());
            }
            (_, Standing::Terminated(_)) => return Err(TenantRejection::Terminated),
            (TenantCommand::Terminate { reason }, _) => TenantEvent::Terminated {
                reason,
                slug: self.slug.clone(),
            },
            (TenantCommand::Change { change, at }, _) => return Ok(self.changes(change, at)),
            (TenantCommand::Suspend { reason }, Standing::Active) => TenantEvent::Suspended { reason },
            (TenantCommand::Suspend { reason }, Standing::Suspended(given)) if reason == *given => {
                return Ok(Vec::new());
            }
            (TenantCommand::Suspend { .. }, Standing::Suspended(_)) => {
                return Err(TenantRejection::AlreadySuspended);
            }
            (TenantCommand::Reactivate, Standing::Active) => return Ok(Vec::new()),
            (TenantCommand::Reactivate, Standing::Suspended(_)) => TenantEvent::Reactivated {},
        };
        Ok(vec![event])
    }

    fn changes(&self, change: TenantChange, at: Timestamp) -> Vec<TenantEvent> {
        let mut events = Vec::new();
        if let Some(to) = change.name.filter(|to| *to != self.name) {
            let from = self.name.clone();
            events.push(TenantEvent::Renamed { from, to });
        }
        let (from, to) = (self.plan.clone(), change.plan.of(self.plan.clone()));
        if from != to {
            events.push(TenantEvent::PlanChanged { from, to });
        }
        let (from, to) = (self.quotas, self.quotas.with(change.quotas));
        if from != to {
            events.push(TenantEvent::QuotasChanged { from, to, at });
        }
        events
    }

    fn apply(&mut self, event: TenantEvent) {
        match event {
            TenantEvent::Provisioned { .. } => {}
            TenantEvent::Renamed { to, .. } => self.name = to,
            TenantEvent::PlanChanged { to, .. } => self.plan = to,
            TenantEvent::QuotasChanged { to, at, .. } => {
                self.quotas = to;
                self.quotas_changed_at = at;
            }
            TenantEvent::Suspended { reason } => self.standing = Standing::Suspended(reason),
            TenantEvent::Reactivated {} => self.standing = Standing::Active,
            TenantEvent::Terminated { reason, .. } => self.standing = Standing::Terminated(reason),
        }
    }
}

impl Root for Tenant {
    const FOLD: u32 = 2;

    fn claims(event: &TenantEvent) -> Vec<Claim> {
        let kind = "slug";
        match event {
            TenantEvent::Provisioned { slug, .. } => vec![Claim::Take {
                kind,
                value: slug.as_str().to_owned(),
            }],
            TenantEvent::Terminated { slug, .. } => vec![Claim::Release {
                kind,
                value: slug.as_str().to_owned(),
            }],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
