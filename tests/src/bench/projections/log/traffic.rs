//! Messages that tenants publish, and what became of their deliveries.

use std::time::Duration;

use broker::{EventLog, MAX_APPEND, NewRecord, Subject};
use domain::{
    Actor, AttemptOutcome, DeliveryFact, DeliveryId, DeliveryRecord, EndpointId, ErrorClass, EventId,
    EventType, Message, MessageRef, Next, Position, Source, TenantId, Trigger,
};

use super::Generator;
use super::draw::Draw;

/// The logs of messages and of deliveries that go with a log of events, for its tenants and their endpoints.
#[derive(Debug)]
pub(in crate::bench::projections) struct Traffic {
    draw: Draw,
    tenants: Vec<(TenantId, Actor, Vec<EndpointId>)>,
    shares: Vec<f64>,
    messages: u64,
    facts: u64,
}

impl Traffic {
    /// Begins where a log of events has come to.
    pub(in crate::bench::projections) fn of(log: &Generator, seed: u64) -> anyhow::Result<Self> {
        let mut tenants = Vec::new();
        for tenant in log.tenants.iter().flatten() {
            let endpoints = tenant.endpoints.iter().map(|endpoint| endpoint.id().parse());
            let key = tenant.keys.first();
            let actor = key.map_or(Actor::PlatformAdmin, |key| Actor::ApiKey(key.id().to_owned()));
            tenants.push((tenant.id.clone(), actor, endpoints.collect::<Result<_, _>>()?));
        }
        let mut draw = Draw::new(seed);
        draw.forward_to(log.clock());
        Ok(Self {
            draw,
            shares: super::shares(tenants.len()),
            tenants,
            messages: 0,
            facts: 0,
        })
    }

    /// How many messages and facts of deliveries there are.
    pub(in crate::bench::projections) fn records(&self) -> u64 {
        self.messages + self.facts
    }

    /// Publishes so many messages and delivers each to up to two endpoints of its tenant.
    pub(in crate::bench::projections) async fn fill(
        &mut self,
        messages: &dyn EventLog,
        attempts: &dyn EventLog,
        count: u64,
    ) -> anyhow::Result<()> {
        let (mut published, mut facts) = (Vec::new(), Vec::new());
        for number in 1..=count {
            published.push(self.publish(&mut facts)?);
            if published.len() == MAX_APPEND / 4 || number == count {
                messages.append(std::mem::take(&mut published)).await?;
                for page in facts.chunks(MAX_APPEND) {
                    attempts.append(page.to_vec()).await?;
                }
                facts.clear();
            }
        }
        Ok(())
    }

    fn publish(&mut self, facts: &mut Vec<NewRecord>) -> anyhow::Result<NewRecord> {
        self.draw.tick();
        self.messages += 1;
        let place = self.draw.by_share(&self.shares);
        let (tenant, actor, endpoints) = self.tenants[place].clone();
        let event_type: EventType = format!("{}.updated", self.draw.word()).parse()?;
        let (customer, amount) = (self.draw.ulid(), self.draw.below(100_000));
        let data = format!(
            r#"{{"id":"{customer}","amount":{amount},"currency":"CHF","customer":{{"name":"{}"}},"lines":[{{"sku":"{}","count":2}},{{"sku":"{}","count":1}}]}}"#,
            self.draw.person(),
            self.draw.word(),
            self.draw.word(),
        );
        let message = Message {
            v: Message::VERSION,
            tenant: tenant.clone(),
            id: EventId::new(self.draw.ulid()),
            event_type,
            data: data.into_bytes(),
            published_at: self.draw.now(),
            actor,
            request_id: Some(self.draw.ulid().to_string()),
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            only_for: None,
        };
        for endpoint in endpoints.iter().take(1 + self.draw.below(2)) {
            self.deliver(&message, endpoint, facts)?;
        }
        Ok(NewRecord {
            subject: Subject::new(format!("msg.{tenant}.{}", message.event_type))?,
            message_id: format!("{tenant}:{}", message.id),
            expect: None,
            payload: message.encode().into(),
        })
    }

    /// Most deliveries arrive at once, some at the second attempt, a few never.
    fn deliver(
        &mut self,
        message: &Message,
        endpoint: &EndpointId,
        facts: &mut Vec<NewRecord>,
    ) -> anyhow::Result<()> {
        let failures = match self.draw.below(20) {
            0 => 3,
            1 | 2 => 1,
            _ => 0,
        };
        let mut story = vec![DeliveryFact::Created];
        for attempt in 1..=failures {
            let due = self.draw.now().saturating_add(Duration::from_secs(5));
            let next = if attempt == 3 {
                Next::Dead
            } else {
                Next::Again { due }
            };
            story.push(self.attempted(attempt, Some(ErrorClass::Status), next));
        }
        if failures < 3 {
            story.push(self.attempted(failures + 1, None, Next::Delivered));
        }
        for fact in story {
            self.facts += 1;
            let record = DeliveryRecord {
                v: DeliveryRecord::VERSION,
                tenant: message.tenant.clone(),
                endpoint: endpoint.clone(),
                delivery: DeliveryId::derive(&message.tenant, &message.id, endpoint),
                message: MessageRef {
                    id: message.id.clone(),
                    event_type: message.event_type.clone(),
                    position: Position {
                        source: Source::Messages,
                        shard: 0,
                        sequence: self.messages,
                    },
                    published_at: Some(message.published_at),
                },
                run: 1,
                at: self.draw.now(),
                fact,
                trigger: Some(Trigger::message(message)),
                recovers: false,
            };
            let unique = self.draw.ulid().to_string();
            facts.push(NewRecord {
                subject: Subject::new(DeliveryRecord::subject(&record.tenant, endpoint))?,
                message_id: record.message_id(&unique),
                expect: None,
                payload: record.encode().into(),
            });
        }
        Ok(())
    }

    fn attempted(&mut self, attempt: u32, error: Option<ErrorClass>, next: Next) -> DeliveryFact {
        let body = if error.is_some() { "upstream is busy" } else { "ok" };
        DeliveryFact::Attempted {
            attempt,
            outcome: AttemptOutcome {
                status: Some(if error.is_some() { 503 } else { 200 }),
                error,
                detail: None,
                response_body: Some(body.to_owned()),
                duration_ms: 20 + self.draw.below(400) as u64,
                ..AttemptOutcome::default()
            },
            next,
        }
    }
}
