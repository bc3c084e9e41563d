//! `/v1/event-types`: what a tenant's events look like, by type.

use axum::extract::State;
use commands::{Call, Error, Loaded, Receipt};
use domain::event_type::{Description, EventTypeCommand, EventTypeRegistration, EventTypeRejection, Schema};
use domain::{EventType, EventTypeId, Position, Timestamp};
use projections::{EventTypeRow, EventTypeVersionRow, Page};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::endpoints::recorded;
use super::events::not_reserved;
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, Pair, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};

const TAG: &str = "event types";
const READ_MODEL: &[&str] = &["event_types"];
/// How often a version is tried to be added while others add theirs.
const TRIES: usize = 10;

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_EVENT_TYPES, routes!(register_event_type)))
        .routes(needs(may::READ_EVENT_TYPES, routes!(list_event_types)))
        .routes(needs(may::READ_EVENT_TYPES, routes!(show_event_type)))
        .routes(needs(
            may::WRITE_EVENT_TYPES,
            routes!(describe_event_type, retire_event_type),
        ))
        .routes(needs(may::WRITE_EVENT_TYPES, routes!(add_event_type_version)))
        .routes(needs(may::READ_EVENT_TYPES, routes!(show_event_type_version)))
}

/// An event type to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEventType {
    /// Its name: dotted words of letters, digits, `_` and `-`, at most 128 characters.
    #[schema(value_type = String, example = "invoice.paid")]
    name: EventType,
    /// What people say about it: at most 500 characters.
    #[schema(value_type = Option<String>)]
    description: Option<Description>,
    /// A JSON Schema, Draft 2020-12, or draft 7 where `$schema` says so: at most 64 KiB, 64 levels deep, 2,000
    /// subschemas and 64 regular expressions (without look-around and back-references). References lead to places in
    /// the schema itself, as `#/$defs/money`; nothing is ever fetched. `format` is checked too.
    #[schema(value_type = Object, example = json!({ "type": "object", "required": ["amount"] }))]
    schema: Schema,
}

/// A further version of an event type.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEventTypeVersion {
    /// What its events look like from now on: a JSON Schema, as when registering.
    #[schema(value_type = Object, example = json!({ "type": "object", "required": ["amount", "currency"] }))]
    schema: Schema,
}

/// What shall change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a field left away differs from null")]
struct EventTypeChange {
    /// The new description, at most 500 characters; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<Description>>,
    /// Whether people should go over to another type; its events are taken all the same.
    deprecated: Option<bool>,
}

/// Tells `null` from "not given".
#[expect(clippy::option_option, reason = "a field left away differs from null")]
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Description>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A version that has come into being.
#[derive(Debug, Serialize, ToSchema)]
struct VersionAdded {
    /// The type's name.
    #[schema(value_type = String, example = "invoice.paid")]
    name: EventType,
    /// The number of the version; events are checked with it from now on.
    #[schema(example = 1)]
    version: u32,
}

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventType)]
struct EventTypeView {
    /// Its name.
    #[schema(value_type = String)]
    name: EventType,
    /// What people say about it.
    description: Option<String>,
    /// Whether people should go over to another type.
    deprecated: bool,
    /// The number of its latest version, which events are checked with.
    version: u32,
    /// The schema of the latest version.
    #[schema(value_type = Object)]
    schema: Value,
    /// When it was registered.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

/// One version of an event type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventTypeVersion)]
struct VersionView {
    /// Its number.
    version: u32,
    /// The schema.
    #[schema(value_type = Object)]
    schema: Value,
    /// When it was added.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventTypeQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Register an event type
///
/// Events of this type are checked with its schema from now on: at once by the process that answers, within five
/// seconds by the others.
#[utoipa::path(
    post, path = "/v1/event-types", tag = TAG, request_body = NewEventType,
    responses(
        (status = 201, description = "The type is registered, with its first version.", body = VersionAdded),
        (status = 409, description = "`not_possible`: The type is registered already.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn register_event_type(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewEventType>,
) -> Result<Written<VersionAdded>, Problem> {
    not_reserved(&new.name, "name")?;
    let (name, call) = (new.name, member.meta("RegisterEventType"));
    if let Some(answer) = added_before(&app, &member, &name, &call).await? {
        return Ok(answer);
    }
    must_compile(&app, &new.schema).await?;
    let before = load(&app, &member, &name).await?;
    let command = EventTypeCommand::Register {
        name: name.clone(),
        description: new.description,
        schema: new.schema,
    };
    let repeated = call.repeated;
    let receipt = dispatch(&app, &member, &name, command, call).await?;
    let version = if !repeated && receipt.version == before.version + 1 {
        before.aggregate.last_version() + 1
    } else {
        // Others were faster, or this request itself.
        version_added(&app, &member, &name, &receipt).await?
    };
    Ok(Written::created(receipt.position, VersionAdded { name, version }))
}

/// List event types
#[utoipa::path(
    get, path = "/v1/event-types", tag = TAG, params(EventTypeQuery),
    responses((status = 200, description = "A page of event types, newest first.", body = List<EventTypeView>))
)]
async fn list_event_types(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<EventTypeQuery>,
) -> Result<Found<List<EventTypeView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models.event_types(&member.tenant).list(&page).await?,
        EventTypeView::from,
    ))
}

/// Show an event type
#[utoipa::path(
    get, path = "/v1/event-types/{name}", tag = TAG,
    params(("name" = String, Path, description = "The type's name.")),
    responses((status = 200, description = "The event type with its latest schema.", body = EventTypeView))
)]
async fn show_event_type(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(name): Id<EventType>,
) -> Result<Found<EventTypeView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(
        app.read_models.event_types(&member.tenant).get(&name).await?,
        EventTypeView::from,
    )
}

/// Describe or deprecate an event type
#[utoipa::path(
    patch, path = "/v1/event-types/{name}", tag = TAG,
    params(("name" = String, Path, description = "The type's name.")), request_body = EventTypeChange,
    responses((status = 204, description = "The event type is as asked for."))
)]
async fn describe_event_type(
    member: Member,
    State(app): State<App>,
    Id(name): Id<EventType>,
    Body(change): Body<EventTypeChange>,
) -> Result<Done, Problem> {
    let command = EventTypeCommand::Describe {
        description: change.description,
        deprecated: change.deprecated,
    };
    execute(&app, &member, &name, command, "DescribeEventType")
        .await
        .map(Done)
}

/// Retire an event type
///
/// It then counts as unregistered; it can be registered again, and its versions go on counting.
#[utoipa::path(
    delete, path = "/v1/event-types/{name}", tag = TAG,
    params(("name" = String, Path, description = "The type's name.")),
    responses((status = 204, description = "The type is no longer registered."))
)]
async fn retire_event_type(
    member: Member,
    State(app): State<App>,
    Id(name): Id<EventType>,
) -> Result<Done, Problem> {
    let command = EventTypeCommand::Retire;
    execute(&app, &member, &name, command, "RetireEventType")
        .await
        .map(Done)
}

/// Add a version to an event type
///
/// Events are checked with it from now on: at once by the process that answers, within five seconds by the others.
/// A schema that is the latest already makes no new version.
#[utoipa::path(
    post, path = "/v1/event-types/{name}/versions", tag = TAG,
    params(("name" = String, Path, description = "The type's name.")), request_body = NewEventTypeVersion,
    responses(
        (status = 201, description = "The version is there, and is the latest.", body = VersionAdded),
        (status = 409, description = "`limit_reached`: The type has the 1,000 versions it can have.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn add_event_type_version(
    member: Member,
    State(app): State<App>,
    Id(name): Id<EventType>,
    Body(new): Body<NewEventTypeVersion>,
) -> Result<Written<VersionAdded>, Problem> {
    let call = member.meta("AddEventTypeVersion");
    if let Some(answer) = added_before(&app, &member, &name, &call).await? {
        return Ok(answer);
    }
    must_compile(&app, &new.schema).await?;
    for _ in 0..TRIES {
        let known = load(&app, &member, &name).await?.aggregate;
        let (latest, schema) = known.latest().ok_or_else(Problem::not_found)?;
        let version = if *schema == new.schema { latest } else { latest + 1 };
        let command = EventTypeCommand::AddVersion {
            number: version,
            schema: new.schema.clone(),
        };
        match dispatch(&app, &member, &name, command, call.clone()).await {
            // Somebody else has added one meanwhile.
            Err(Error::Rejected(EventTypeRejection::OtherNumber)) => {}
            Err(error) => return Err(error.into()),
            Ok(receipt) => {
                // Another run of this request may have been faster, with another number.
                let before = added_before(&app, &member, &name, &call).await?;
                let body = VersionAdded { name, version };
                return Ok(before.unwrap_or_else(|| Written::created(receipt.position, body)));
            }
        }
    }
    Err(EventTypeRejection::OtherNumber.into())
}

/// Show a version of an event type
#[utoipa::path(
    get, path = "/v1/event-types/{name}/versions/{version}", tag = TAG,
    params(
        ("name" = String, Path, description = "The type's name."),
        ("version" = u32, Path, description = "The number of the version."),
    ),
    responses((status = 200, description = "The version with its schema.", body = VersionView))
)]
async fn show_event_type_version(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Pair(name, version): Pair<EventType, u32>,
) -> Result<Found<VersionView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let event_types = app.read_models.event_types(&member.tenant);
    Found::one(event_types.version(&name, version).await?, VersionView::from)
}

/// Refuses a schema that events could not be checked with, naming its places that are wrong.
async fn must_compile(app: &App, schema: &Schema) -> Result<(), Problem> {
    match app.schemas.compile(schema.clone()).await? {
        Ok(_) => Ok(()),
        Err(errors) => {
            let problem = Problem::new(
                ProblemType::InvalidBody,
                "The schema cannot be used; `errors` names what is wrong with it.",
            );
            Err(errors
                .into_iter()
                .fold(problem, |problem, error| problem.at(error.path, error.message)))
        }
    }
}

/// The type as the log has it now.
async fn load(
    app: &App,
    member: &Member,
    name: &EventType,
) -> Result<Loaded<EventTypeRegistration>, Problem> {
    let id = EventTypeId::derive(name);
    let loaded = app
        .dispatcher
        .load::<EventTypeRegistration>(&member.tenant, id.as_str(), Duration::ZERO)
        .await;
    loaded.map_err(|error| Problem::unavailable(&error))
}

/// The answer of a request that added its version when it was here before, whatever has become of the type since.
async fn added_before(
    app: &App,
    member: &Member,
    name: &EventType,
    call: &Call,
) -> Result<Option<Written<VersionAdded>>, Problem> {
    let id = EventTypeId::derive(name);
    let done = app
        .dispatcher
        .done::<EventTypeRegistration>(&member.tenant, id.as_str(), call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let Some(receipt) = done else {
        return Ok(None);
    };
    app.schemas.changed(&member.tenant, name, receipt.version);
    let body = VersionAdded {
        name: name.clone(),
        version: version_added(app, member, name, &receipt).await?,
    };
    Ok(Some(Written::created(receipt.position, body)))
}

/// The number of the version that a record registered or added.
async fn version_added(
    app: &App,
    member: &Member,
    name: &EventType,
    receipt: &Receipt,
) -> Result<u32, Problem> {
    #[derive(Deserialize)]
    struct Added {
        version: u32,
    }
    let resource = format!("event_type/{}", EventTypeId::derive(name));
    let added: Added = recorded(app, &member.tenant, resource, receipt).await?;
    Ok(added.version)
}

async fn execute(
    app: &App,
    member: &Member,
    name: &EventType,
    command: EventTypeCommand,
    called: &str,
) -> Result<Position, Problem> {
    Ok(dispatch(app, member, name, command, member.meta(called))
        .await?
        .position)
}

/// Executes a command on one of the caller's event types; from then on this process checks events by it.
async fn dispatch(
    app: &App,
    member: &Member,
    name: &EventType,
    command: EventTypeCommand,
    call: Call,
) -> Result<Receipt, Error<EventTypeRejection>> {
    let id = EventTypeId::derive(name);
    let receipt = app
        .dispatcher
        .execute::<EventTypeRegistration>(&member.tenant, id.as_str(), command, call)
        .await?;
    app.schemas.changed(&member.tenant, name, receipt.version);
    Ok(receipt)
}

impl From<EventTypeRow> for EventTypeView {
    fn from(row: EventTypeRow) -> Self {
        Self {
            name: row.name,
            description: row.description,
            deprecated: row.deprecated,
            version: row.latest,
            schema: row.schema,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<EventTypeVersionRow> for VersionView {
    fn from(row: EventTypeVersionRow) -> Self {
        Self {
            version: row.number,
            schema: row.schema,
            created_at: row.created_at,
        }
    }
}

impl From<EventTypeRejection> for Problem {
    fn from(rejection: EventTypeRejection) -> Self {
        match rejection {
            EventTypeRejection::NotFound => Self::not_found(),
            EventTypeRejection::AlreadyRegistered => Self::new(
                ProblemType::NotPossible,
                "This event type is registered already: add a version to it instead.",
            ),
            EventTypeRejection::TooManyVersions => Self::new(
                ProblemType::LimitReached,
                format!("{rejection}; nothing was changed."),
            ),
            EventTypeRejection::OtherNumber => Self::new(
                ProblemType::Conflict,
                "Others are adding versions to this type; nothing was changed. Send the request again.",
            ),
        }
    }
}
