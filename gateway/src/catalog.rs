//! The commands a tenant's key can carry out, by name, and how a call that carries many does so.
//!
//! A command is an operation of the OpenAPI document that changes something: its name is the operation's id in the
//! form `RegisterUser`. The catalog is made from the document once, so that a new operation is in it without a line.
//! Carrying a command out is a request to its own route inside the one that brought it: the same guard, the same
//! validation, the same answers.

mod carrier;
mod command;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use serde_json::value::RawValue;
use tower::ServiceExt as _;
use utoipa::openapi::OpenApi;

use crate::problem::{Problem, ProblemType};

pub(crate) use carrier::{Answered, Carrier};
pub(crate) use command::{Command, Data, Parameters, pascal_case};

/// How many known names an unknown one is answered with.
const SUGGESTIONS: usize = 3;

/// How alike two names must be, of 1, for one to be suggested for the other.
const ALIKE: f64 = 0.75;

/// The commands by name, and the routes that carry them out.
#[derive(Debug)]
pub(crate) struct Catalog {
    commands: BTreeMap<String, Arc<Command>>,
    router: Router,
}

impl Catalog {
    /// The commands that a document has, carried out by its routes.
    pub(crate) fn new(document: &OpenApi, router: Router) -> Self {
        Self {
            commands: commands(document),
            router,
        }
    }

    /// All commands, by name.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&str, &Command)> {
        self.commands
            .iter()
            .map(|(name, command)| (name.as_str(), &**command))
    }

    /// A command; an unknown name is a problem that tells which it may have meant.
    pub(crate) fn command(&self, name: &str) -> Result<Arc<Command>, Problem> {
        self.commands
            .get(name)
            .cloned()
            .ok_or_else(|| Problem::invalid_body("command", self.unknown(name)))
    }

    fn unknown(&self, name: &str) -> String {
        let likeness = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
        let mut near: Vec<_> = self
            .commands
            .keys()
            .map(|known| (likeness(known), known.as_str()))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        near.sort_by(|one, other| other.0.total_cmp(&one.0));
        near.truncate(SUGGESTIONS);
        if near.is_empty() {
            return "is no command; GET /v1/commands lists them".to_owned();
        }
        let names: Vec<_> = near.into_iter().map(|(_, known)| known).collect();
        format!(
            "is no command; the nearest are {}; GET /v1/commands lists them",
            names.join(", ")
        )
    }

    /// Carries a command out as a part of the call that brought it.
    pub(crate) async fn carry_out(
        &self,
        carrier: &Carrier,
        command: &Command,
        parameters: &Parameters,
        data: Option<&RawValue>,
    ) -> Answered {
        let request = match command.request(parameters, data) {
            Ok(request) => carrier.load(request),
            Err(problem) => return Answered::from(problem),
        };
        match self.router.clone().oneshot(request).await {
            Ok(response) => Answered::of(response).await,
            Err(never) => match never {},
        }
    }
}

/// A request before its carrier has given it what all of its requests share.
fn bare(method: &Method, address: String, body: Body) -> Result<Request, Problem> {
    Request::builder()
        .method(method)
        .uri(address)
        .body(body)
        .map_err(|error| Problem::caused(ProblemType::Internal, "The command has no address.", &error))
}

fn commands(document: &OpenApi) -> BTreeMap<String, Arc<Command>> {
    let mut commands = BTreeMap::new();
    for (path, item) in &document.paths.paths {
        let operations = [
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            let named = operation
                .as_ref()
                .and_then(|operation| Command::read(&method, path, operation));
            commands.extend(named.map(|(name, command)| (name, Arc::new(command))));
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router;

    fn catalog() -> Catalog {
        Catalog::new(&router::operations().1, Router::new())
    }

    #[test]
    fn what_changes_something_of_a_tenant_is_a_command() {
        let catalog = catalog();
        for name in ["RegisterUser", "UpdateUser", "CreateEndpoint", "PublishEvent"] {
            assert!(catalog.command(name).is_ok(), "{name}");
        }
        for name in [
            "ListUsers",
            "ProvisionTenant",
            "ExecuteCommands",
            "PublishEvents",
            "register_user",
            "",
        ] {
            assert!(catalog.command(name).is_err(), "{name}");
        }
    }

    /// Two operations of one name would hide one another.
    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let document = serde_json::to_value(router::operations().1).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(seen.insert(id.to_owned()), "{path}: {id} is there twice");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let catalog = catalog();
        for name in ["RegisterUsr", "registeruser", "Register"] {
            let text = catalog.unknown(name);
            assert!(text.contains("RegisterUser"), "{name}: {text}");
        }
        assert!(!catalog.unknown("Xyzzy").contains("nearest"));
    }
}
