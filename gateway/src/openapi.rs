//! The OpenAPI document: what the handlers' annotations do not say themselves.
//!
//! Operations name their success and the problems special to them; the problems that any of their kind can answer,
//! the credential, and the headers for read-your-writes are added here, once.

use utoipa::OpenApi as _;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, RefOr, Required, Response};

use crate::consistency::{AGE, AT_LEAST, POSITION};
use crate::guard::{Need, need_of};
use crate::idempotency::KEY;
use crate::problem::{MEDIA_TYPE, ProblemBody, ProblemType};

const SCHEME: &str = "api_key";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tidings",
        description = "Commands become events in an append-only log; read models are folded from it, and tidings go \
            out as signed webhooks.\n\nA write answers `Tidings-Position`; a query that sends it as \
            `Tidings-At-Least` has seen that write.\n\nA request sent again under its `Idempotency-Key` \
            happens once.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ProblemBody)),
    tags(
        (name = "tenants", description = "The installation's tenants, for the platform administrator."),
        (name = "api keys", description = "What programs prove with which tenant they act for, and what they may do."),
        (name = "settings", description = "What a tenant decides about itself."),
        (name = "users", description = "A tenant's users."),
        (name = "roles", description = "What users of a tenant may do: named sets of permissions."),
        (name = "teams", description = "Groups of a tenant's users, which stand under each other."),
        (name = "invitations", description = "People asked to become users of a tenant."),
        (name = "endpoints", description = "Where a tenant's events are delivered."),
        (name = "event types", description = "What a tenant's events look like, by type."),
        (name = "sources", description = "Other systems whose webhooks a tenant receives."),
        (name = "events", description = "A tenant's own events."),
        (name = "deliveries", description = "What became of each event at each endpoint."),
        (name = "dead letters", description = "Deliveries that used up their attempts."),
        (name = "audit", description = "Every change, who made it, and from where."),
        (name = "commands", description = "Many commands in one call."),
        (name = "stats", description = "A tenant's figures."),
        (name = "projections", description = "How read models do, and what operators decide about them."),
        (name = "replays", description = "Making read models again from the log, while they serve."),
    )
)]
struct Base;

/// What stands before any operation.
pub(crate) fn base() -> OpenApi {
    Base::openapi()
}

/// Adds what all operations have in common.
pub(crate) fn completed(mut document: OpenApi) -> OpenApi {
    if let Some(components) = &mut document.components {
        let description = "A tenant's API key; for tenants, the platform administrator's key.";
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some(description.to_owned());
        components.add_security_scheme(SCHEME, SecurityScheme::Http(http));
    }
    for (path, item) in &mut document.paths.paths {
        let has_id = path.contains('{');
        for (operation, is_query) in operations_of(item) {
            let path = path.as_str();
            let asks = ASKED_BY_POST.contains(&path) || (is_query && !OF_NOTHING_STORED.contains(&path));
            complete(operation, is_query, asks, has_id);
        }
    }
    document
}

/// Queries that are answered from nothing stored: they have no position. All others honour `Tidings-At-Least`, which a
/// walk over them shows.
const OF_NOTHING_STORED: [&str; 3] = [
    // Made of the installation's secret and the tenant's id.
    "/v1/audit/checkpoint/key",
    // What the program can do.
    "/v1/commands",
    // Keys in a bucket.
    "/v1/tenants/{tenant}/endpoints/{id}/jwks.json",
];

/// Queries whose question does not fit into an address.
const ASKED_BY_POST: [&str; 1] = ["/v1/permissions/check"];

/// The operations of a path, and whether each only asks.
fn operations_of(item: &mut PathItem) -> impl Iterator<Item = (&mut Operation, bool)> {
    let query = item.get.iter_mut().map(|operation| (operation, true));
    let commands = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
    query.chain(commands.into_iter().flatten().map(|operation| (operation, false)))
}

/// `asks`: whether the answer is true of some position, for which a caller may wait.
fn complete(operation: &mut Operation, is_query: bool, asks: bool, has_id: bool) {
    let need = need_of(operation);
    let signed = need == Some(Need::Signature);
    operation.security = Some(if signed || need == Some(Need::Nothing) {
        Vec::new()
    } else {
        vec![SecurityRequirement::new::<_, [&str; 0], &str>(SCHEME, [])]
    });
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with('2')
        {
            if asks || !(is_query || signed) {
                response.headers.insert(POSITION.to_string(), position().into());
            }
            if asks {
                response.headers.insert(AGE.to_string(), age().into());
            }
        }
    }
    for kind in problems_of(operation, is_query, has_id) {
        add_problem(operation, kind);
    }
    if asks {
        add_problem(operation, ProblemType::Stale);
    }
    let key = (!is_query && !signed).then(idempotency_key);
    let common = key.into_iter().chain(asks.then(at_least)).map(Into::into);
    operation.parameters.get_or_insert_default().extend(common);
}

/// The problems that any operation of this kind can answer.
fn problems_of(operation: &Operation, is_query: bool, has_id: bool) -> Vec<ProblemType> {
    let mut kinds = vec![
        ProblemType::Unauthenticated,
        ProblemType::Forbidden,
        ProblemType::RateLimited,
        ProblemType::Internal,
        ProblemType::Unavailable,
        ProblemType::LogUntrusted,
        ProblemType::Timeout,
    ];
    kinds.extend(has_id.then_some(ProblemType::NotFound));
    let in_query = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => false,
    };
    let has_parameters = operation.parameters.iter().flatten().any(in_query);
    kinds.extend(has_parameters.then_some(ProblemType::InvalidQuery));
    if is_query {
        kinds.push(ProblemType::InvalidHeader);
    } else {
        kinds.extend([
            ProblemType::InvalidHeader,
            ProblemType::Conflict,
            ProblemType::RequestRunning,
            ProblemType::IdempotencyKeyReused,
            ProblemType::Overloaded,
            ProblemType::OutcomeUnknown,
        ]);
        if !is_platforms(operation) {
            kinds.extend([ProblemType::TenantSuspended, ProblemType::TenantTerminated]);
        }
    }
    if operation.request_body.is_some() {
        kinds.extend([
            ProblemType::MalformedJson,
            ProblemType::TooLarge,
            ProblemType::UnsupportedMediaType,
            ProblemType::InvalidBody,
        ]);
    }
    kinds
}

/// Whether an operation is the platform administrator's.
fn is_platforms(operation: &Operation) -> bool {
    matches!(need_of(operation), Some(Need::Platform))
}

/// Problems of one status share a response; its description lists their codes.
fn add_problem(operation: &mut Operation, kind: ProblemType) {
    let status = kind.status().as_u16().to_string();
    let line = format!("`{}`: {}.", kind.code(), kind.title());
    match operation.responses.responses.get_mut(&status) {
        Some(RefOr::T(response)) if response.description.contains(&format!("`{}`", kind.code())) => {}
        Some(RefOr::T(response)) => {
            response.description = format!("{} {line}", response.description);
        }
        _ => {
            operation
                .responses
                .responses
                .insert(status, RefOr::T(problem(&line)));
        }
    }
}

fn problem(description: &str) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    ResponseBuilder::new()
        .description(description)
        .content(MEDIA_TYPE, content)
        .build()
}

fn position() -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(
            "Where a change stands, or what a query's answer is true of.",
        ))
        .build()
}

fn age() -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(
            "How old what the answer is true of may be, in seconds: the answer has seen everything that was \
             acknowledged so long ago.",
        ))
        .build()
}

fn at_least() -> Parameter {
    ParameterBuilder::new()
        .name(AT_LEAST.as_str())
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "What the answer must have seen: positions, separated by commas. It waits for them for 5 seconds, unless the \
             operator chose another time, and then answers 412 `stale` with its own position.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some("^[emd][0-9]{1,5}-[0-9]{1,19}(, ?[emd][0-9]{1,5}-[0-9]{1,19})*$")),
        ))
        .build()
}

fn idempotency_key() -> Parameter {
    ParameterBuilder::new()
        .name(KEY.as_str())
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A name of your choice for this request, 1 to 255 visible ASCII characters: sent again under it within a \
             day, the request happens once and gets the same answer, marked `Idempotent-Replayed: true`.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some("^[!-~]{1,255}$")),
        ))
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use crate::router;

    const PERMISSIONS: &str = "\
# Permissions

What each call needs. A key may make a call if one of its scopes covers the permission: `*`, or the permission itself with
any of its parts as `*`; the scope `tenant` covers `team` and `own`. `platform` is the platform administrator's key and no
other, `none` a call that proves itself otherwise, `signature` one that another system signs. With the administrator's key, the
calls of `audit.read.tenant` read the platform's own trail, and no tenant's. Keys and scopes are described in `docs/operating.md`.

| permission | calls |
|---|---|
";

    /// Where a parameter is sent, for every operation.
    #[test]
    fn parameters_stand_where_they_are_read() {
        let document = serde_json::to_value(router::operations().1).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            let operations = item.as_object().unwrap().values();
            let parameters = operations
                .filter_map(|operation| operation["parameters"].as_array())
                .flatten();
            for parameter in parameters {
                let name = parameter["name"].as_str().unwrap();
                let expected = match name {
                    "tidings-at-least" | "idempotency-key" => "header",
                    name if path.contains(&format!("{{{name}}}")) => "path",
                    _ => "query",
                };
                assert_eq!(parameter["in"], expected, "{path}: {name}");
            }
        }
    }

    /// The table in `docs/permissions.md` is the one made from the code; `UPDATE_GOLDEN=1` writes it anew.
    #[test]
    fn the_published_table_of_permissions_is_the_one_the_code_makes() {
        let document = serde_json::to_value(router::operations().1).unwrap();
        let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let need = operation["x-permission"].as_str().unwrap().to_owned();
                let call = format!("`{} {path}`", method.to_uppercase());
                calls.entry(need).or_default().push(call);
            }
        }
        let rows = calls
            .iter()
            .map(|(need, calls)| format!("| `{need}` | {} |\n", calls.join(", ")));
        let text = format!("{PERMISSIONS}{}", rows.collect::<String>());
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/permissions.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            published, text,
            "docs/permissions.md is out of date: run this test with UPDATE_GOLDEN=1"
        );
    }

    /// The document under `schemas/` is the one made from the code; `UPDATE_GOLDEN=1` writes it anew.
    #[test]
    fn the_published_document_is_the_one_the_code_makes() {
        let (_, document) = router::operations();
        let text = format!("{}\n", document.to_pretty_json().unwrap());
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            published, text,
            "schemas/openapi.json is out of date: run this test with UPDATE_GOLDEN=1"
        );
    }
}
