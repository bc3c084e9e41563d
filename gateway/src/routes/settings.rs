//! `/v1/settings`: what a tenant decides about itself.

use axum::extract::State;
use domain::settings::{
    AllowedDomains, Change, InvitationHours, KeyLifetimeDays, OverlapHours, RetentionDays, Settings,
    SettingsCommand, SettingsRejection, TeamDepth, Values,
};
use domain::{Edit, Timestamp};
use projections::{Page, SettingsRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::Done;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};

const TAG: &str = "settings";
const READ_MODEL: &[&str] = &["settings"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_SETTINGS, routes!(show_settings)))
        .routes(needs(may::WRITE_SETTINGS, routes!(change_settings)))
        .routes(needs(may::READ_SETTINGS, routes!(list_settings_history)))
        .routes(needs(may::WRITE_SETTINGS, routes!(restore_settings)))
}

/// Settings that shall change: what is not given stays, null is the default again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SettingsPatch {
    /// Whether events of types that are not registered are refused.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    strict_event_types: Edit<bool>,
    /// How long an invitation can be accepted, in hours: 1 to 720.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 720)]
    invitation_lifetime_hours: Edit<InvitationHours>,
    /// How deep teams can lie in each other: 1 (no team in a team) to 20.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 20)]
    team_max_depth: Edit<TeamDepth>,
    /// How long an old secret is good beside a new one unless a rotation says otherwise, in hours: 0 to 168.
    #[serde(default)]
    #[schema(value_type = Option<u32>, maximum = 168)]
    secret_rotation_overlap_hours: Edit<OverlapHours>,
    /// The longest that a new API key can be valid, in days: 1 to 3650; null: it need not expire.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3650)]
    api_key_max_lifetime_days: Edit<KeyLifetimeDays>,
    /// The domains in which users' e-mail addresses may be, at most 50, each exactly; empty: in any. Users that are
    /// there already stay.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 50, example = json!(["example.org"]))]
    allowed_email_domains: Edit<AllowedDomains>,
    /// For how many days entries of the audit trail are shown and kept for queries: 30 to 36,500; null: for ever. The
    /// log they come from is kept for ever.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 30, maximum = 36_500)]
    audit_retention_days: Edit<RetentionDays>,
}

impl From<SettingsPatch> for Change {
    fn from(patch: SettingsPatch) -> Self {
        Self {
            strict_event_types: patch.strict_event_types,
            invitation_lifetime_hours: patch.invitation_lifetime_hours,
            team_max_depth: patch.team_max_depth,
            secret_rotation_overlap_hours: patch.secret_rotation_overlap_hours,
            api_key_max_lifetime_days: patch.api_key_max_lifetime_days,
            allowed_email_domains: patch.allowed_email_domains,
            audit_retention_days: patch.audit_retention_days,
        }
    }
}

/// A version to restore.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ToRestore {
    /// Its number; 0 is all defaults.
    version: u64,
}

/// What holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettingsValues)]
struct ValuesView {
    /// Whether events of types that are not registered are refused.
    strict_event_types: bool,
    /// How long an invitation can be accepted, in hours.
    invitation_lifetime_hours: u32,
    /// How deep teams can lie in each other.
    team_max_depth: u32,
    /// How long an old secret is good beside a new one, in hours.
    secret_rotation_overlap_hours: u32,
    /// The longest that a new API key can be valid, in days; null: it need not expire.
    api_key_max_lifetime_days: Option<u32>,
    /// The domains in which users' e-mail addresses may be; empty: in any.
    allowed_email_domains: Vec<String>,
    /// For how many days the audit trail is kept; null: for ever.
    audit_retention_days: Option<u32>,
}

impl From<Values> for ValuesView {
    fn from(values: Values) -> Self {
        let domains = values.allowed_email_domains.iter();
        Self {
            strict_event_types: values.strict_event_types,
            invitation_lifetime_hours: values.invitation_lifetime_hours.get(),
            team_max_depth: values.team_max_depth.get(),
            secret_rotation_overlap_hours: values.secret_rotation_overlap_hours.get(),
            api_key_max_lifetime_days: values.api_key_max_lifetime_days.map(u32::from),
            allowed_email_domains: domains.map(ToString::to_string).collect(),
            audit_retention_days: values.audit_retention_days.map(u32::from),
        }
    }
}

/// A tenant's settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settings)]
struct SettingsView {
    /// How often they have changed; 0: all are defaults.
    version: u64,
    /// What holds.
    values: ValuesView,
    /// What holds where nothing else is set.
    defaults: ValuesView,
}

/// A version of a tenant's settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettingsVersion)]
struct VersionView {
    /// Its number, from 1.
    version: u64,
    /// When it was made.
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    /// By whom: a key's id.
    actor: String,
    /// In which request.
    request_id: Option<String>,
    /// The version that this one restored, if it did.
    restored: Option<i64>,
    /// What holds in it.
    values: ValuesView,
}

impl From<SettingsRow> for VersionView {
    fn from(row: SettingsRow) -> Self {
        Self {
            version: row.version,
            at: row.at,
            actor: row.actor,
            request_id: row.request_id,
            restored: row.restored,
            values: row.overrides.values().into(),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Show the settings
#[utoipa::path(
    get, path = "/v1/settings", tag = TAG,
    responses((status = 200, description = "What holds, and the defaults.", body = SettingsView))
)]
async fn show_settings(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
) -> Result<Found<SettingsView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let newest = app.read_models.settings(&member.tenant).newest().await?;
    Ok(Found::new(newest, |row| SettingsView {
        version: row.as_ref().map_or(0, |row| row.version),
        values: row.map(|row| row.overrides.values()).unwrap_or_default().into(),
        defaults: Values::default().into(),
    }))
}

/// Change settings
///
/// They hold at once for requests to the process that answers, and within five seconds for all.
#[utoipa::path(
    patch, path = "/v1/settings", tag = TAG, request_body = SettingsPatch,
    responses((status = 204, description = "The settings are as asked for."))
)]
async fn change_settings(
    member: Member,
    State(app): State<App>,
    Body(patch): Body<SettingsPatch>,
) -> Result<Done, Problem> {
    let change = Change::from(patch);
    if change == Change::default() {
        return Err(Problem::invalid_body(".", "must name at least one setting"));
    }
    execute(&app, &member, "ChangeSettings", SettingsCommand::Change(change)).await
}

/// List the versions of the settings
#[utoipa::path(
    get, path = "/v1/settings/history", tag = TAG, params(HistoryQuery),
    responses((status = 200, description = "A page of versions, newest first.", body = List<VersionView>))
)]
async fn list_settings_history(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<HistoryQuery>,
) -> Result<Found<List<VersionView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let history = app.read_models.settings(&member.tenant).history(&page).await?;
    Ok(Found::list(history, VersionView::from))
}

/// Restore an earlier version of the settings
///
/// Makes a new version with what the tenant had set in that one. The last 50 versions can be restored, and version 0,
/// which is all defaults.
#[utoipa::path(
    post, path = "/v1/settings/restore", tag = TAG, request_body = ToRestore,
    responses(
        (status = 204, description = "The settings are as they were."),
        (status = 409, description = "`not_possible`: The version never was, or is no longer kept.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn restore_settings(
    member: Member,
    State(app): State<App>,
    Body(ToRestore { version }): Body<ToRestore>,
) -> Result<Done, Problem> {
    let command = SettingsCommand::Restore { version };
    execute(&app, &member, "RestoreSettings", command).await
}

async fn execute(app: &App, member: &Member, name: &str, command: SettingsCommand) -> Result<Done, Problem> {
    let tenant = &member.tenant;
    let executed = app
        .dispatcher
        .execute::<Settings>(tenant, tenant.as_str(), command, member.meta(name))
        .await;
    app.unset.forget(tenant);
    Ok(Done(executed?.position))
}

impl From<SettingsRejection> for Problem {
    fn from(rejection: SettingsRejection) -> Self {
        Self::new(
            ProblemType::NotPossible,
            format!("Nothing was changed: {rejection}."),
        )
    }
}
