//! `/v1/commands`: many commands in one call, each with the answer of its own route.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::Extension;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use domain::Position;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access_log::Shows;
use crate::app::App;
use crate::auth::Member;
use crate::catalog::{Answered, Carrier, Catalog, Command, Data, Parameters};
use crate::consistency::{List, with_positions};
use crate::extract::{BulkBody, object};
use crate::guard::{may, needs};
use crate::idempotency::{Unfinished, is_for_good};
use crate::layers::RequestContext;
use crate::problem::{Problem, ProblemBody};

const TAG: &str = "commands";

/// The most commands of one call.
const MAX_COMMANDS: usize = 1_000;

/// How many of them are carried out at the same time.
const AT_ONCE: usize = 64;

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_COMMANDS, routes!(list_commands)))
        .routes(needs(may::EXECUTE_COMMANDS, routes!(execute_commands)))
}

/// Commands to carry out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCommands {
    /// 1 to 1,000 commands. Those that name the same thing in their path are carried out in this order; others may
    /// overtake each other.
    #[schema(value_type = Vec<NewCommand>, min_items = 1, max_items = 1000)]
    commands: Vec<Item>,
    /// Carry all of them out one after the other, in this order: slower.
    #[serde(default)]
    ordered: bool,
}

/// One command.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "command": "RegisterUser", "data": { "email": "ada@example.org", "name": "Ada" } }))]
#[serde(deny_unknown_fields)]
struct NewCommand {
    /// Its name, as `GET /v1/commands` lists it.
    #[schema(example = "RegisterUser")]
    command: String,
    /// What its path names, where that is one thing.
    id: Option<String>,
    /// What its path and query name.
    #[serde(default)]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    params: Parameters,
    /// The body that its own route takes.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

/// One of several commands: an object, whatever else serde would take for one.
#[derive(Debug, Deserialize)]
struct Item(#[serde(deserialize_with = "object")] NewCommand);

/// What became of one command: a success with where it stands and what its own route answers, or a problem.
#[derive(Debug, Serialize, ToSchema)]
struct CommandResult {
    /// The status that its own route answers.
    #[schema(example = 201)]
    status: u16,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "e0-7")]
    position: Option<String>,
    /// The answer of its own route, where that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    body: Option<Box<RawValue>>,
    /// Why it was not carried out; paths start with `data`, `params`, `id` or `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// What became of each command, in the order in which they were sent.
#[derive(Debug, Serialize, ToSchema)]
struct Executed {
    /// One result per command.
    results: Vec<CommandResult>,
}

/// A command that can be carried out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Command)]
struct CommandView {
    /// Its name.
    #[schema(example = "UpdateUser")]
    command: String,
    /// What it is for.
    #[schema(example = "Change a user")]
    summary: String,
    /// The method of its own route.
    #[schema(example = "PATCH")]
    method: String,
    /// The path of its own route.
    #[schema(example = "/v1/users/{id}")]
    path: String,
    /// What a key needs for it.
    #[schema(example = "users.write.tenant")]
    permission: String,
    /// What it takes as `params`; `id` alone may stand for one parameter of the path.
    params: Vec<String>,
    /// Whether it takes `data`.
    data: bool,
}

/// List commands
///
/// Every operation that changes something of a tenant, save those that take many things in one call.
#[utoipa::path(
    get, path = "/v1/commands", tag = TAG,
    responses((status = 200, description = "All commands, by name.", body = List<CommandView>))
)]
async fn list_commands(
    _member: Member,
    Extension(catalog): Extension<Arc<Catalog>>,
) -> axum::Json<List<CommandView>> {
    let data = catalog.commands().map(|(name, command)| CommandView {
        command: name.to_owned(),
        summary: command.summary.clone(),
        method: command.method.to_string(),
        path: command.path.clone(),
        permission: command.permission.to_string(),
        params: [command.in_path.clone(), command.in_query.clone()].concat(),
        data: command.data != Data::None,
    });
    axum::Json(List {
        data: data.collect(),
        next_cursor: None,
    })
}

/// Carry out up to 1,000 commands
///
/// Each is judged by itself, as if it came to its own route: the key needs that route's permission too, and one that
/// is refused stops no other. A body that is not valid carries out none. Sent again under its `Idempotency-Key`, a call
/// carries out what the service could not do then, and nothing twice.
#[utoipa::path(
    post, path = "/v1/commands", tag = TAG, request_body = NewCommands,
    responses((status = 200, description = "What became of each command.", body = Executed))
)]
async fn execute_commands(
    parts: Parts,
    Extension(catalog): Extension<Arc<Catalog>>,
    BulkBody(new): BulkBody<NewCommands>,
) -> Result<Response, Problem> {
    let count = new.commands.len();
    if !(1..=MAX_COMMANDS).contains(&count) {
        return Err(Problem::invalid_body(
            "commands",
            format!("must hold 1 to {MAX_COMMANDS} commands"),
        ));
    }
    let carrier = Carrier::of(&parts);
    let (tasks, mut done) = sorted(&catalog, new);
    let carried_out = tasks.into_values().map(|queue| {
        let (catalog, carrier) = (catalog.clone(), carrier.clone());
        in_turn(catalog, carrier, queue)
    });
    let carried_out = stream::iter(carried_out);
    done.extend(carried_out.buffer_unordered(AT_ONCE).concat().await);
    done.sort_by_key(|(index, _)| *index);
    let highest = highest(&done);
    let finished = done.iter().all(|(_, answered)| match &answered.outcome {
        Ok(_) => true,
        Err(problem) => is_for_good(problem.kind()),
    });
    let request_id = RequestContext::of(&parts.headers, &parts.extensions).id;
    let shown = done.iter().flat_map(|(_, answered)| answered.shows.clone());
    let shown = shown.collect();
    let results = done
        .into_iter()
        .map(|(_, answered)| result(answered, &request_id));
    let body = Executed {
        results: results.collect(),
    };
    let mut response = with_positions(axum::Json(body).into_response(), &highest);
    Shows::mark(&mut response, shown);
    if !finished {
        response.extensions_mut().insert(Unfinished);
    }
    Ok(response)
}

/// A command that can be sent to its route.
struct Task {
    index: usize,
    command: Arc<Command>,
    parameters: Parameters,
    data: Option<Box<RawValue>>,
}

/// What is about the same thing, and so must keep its order.
#[derive(PartialEq, Eq, Hash)]
enum Queue {
    All,
    About(String),
    Alone(usize),
}

type Done = Vec<(usize, Answered)>;

/// The commands in their queues, and the answers of those that cannot be sent.
fn sorted(catalog: &Catalog, new: NewCommands) -> (HashMap<Queue, Vec<Task>>, Done) {
    let mut queues: HashMap<_, Vec<_>> = HashMap::new();
    let mut refused = Vec::new();
    for (index, Item(item)) in new.commands.into_iter().enumerate() {
        let command = catalog.command(&item.command);
        let known = command.and_then(|command| {
            let parameters = command.parameters(item.id, item.params)?;
            command.check(item.data.as_deref())?;
            Ok((command, parameters))
        });
        let (command, parameters) = match known {
            Ok(known) => known,
            Err(problem) => {
                refused.push((index, Answered::from(problem)));
                continue;
            }
        };
        let queue = match command.target(&parameters) {
            _ if new.ordered => Queue::All,
            Some(target) => Queue::About(target.to_owned()),
            None => Queue::Alone(index),
        };
        queues.entry(queue).or_default().push(Task {
            index,
            command,
            parameters,
            data: item.data,
        });
    }
    (queues, refused)
}

/// Carries commands out one after the other.
async fn in_turn(catalog: Arc<Catalog>, carrier: Carrier, tasks: Vec<Task>) -> Done {
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        let carrier = carrier.drawing(carrier.draw().nth(task.index));
        let answered = catalog
            .carry_out(&carrier, &task.command, &task.parameters, task.data.as_deref())
            .await;
        done.push((task.index, answered.within("data")));
    }
    done
}

/// The last position in each log.
fn highest(done: &Done) -> Vec<Position> {
    let mut highest: HashMap<_, Position> = HashMap::new();
    let texts = done
        .iter()
        .filter_map(|(_, answered)| answered.position.as_deref());
    for position in texts
        .flat_map(|text| text.split(','))
        .filter_map(|text| text.parse::<Position>().ok())
    {
        let known = highest
            .entry((position.source, position.shard))
            .or_insert(position);
        *known = position.max(*known);
    }
    let mut highest: Vec<_> = highest.into_values().collect();
    highest.sort();
    highest
}

fn result(answered: Answered, request_id: &str) -> CommandResult {
    let (body, problem) = match answered.outcome {
        Ok(body) => (body, None),
        Err(problem) => (None, Some(problem.body(request_id))),
    };
    CommandResult {
        status: answered.status.as_u16(),
        position: answered.position,
        body,
        problem,
    }
}
