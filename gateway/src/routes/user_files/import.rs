//! `POST /v1/users/import`: a file of users, each registered as by its own route while the file still arrives.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::role::Roles;
use domain::{Position, TenantId};
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio_util::codec::FramedRead;
use tokio_util::io::StreamReader;
use utoipa::{IntoParams, ToSchema};

use super::columns::{Columns, RoleNames, line};
use super::cut::{Broken, Cutter, Form, Row};
use super::report::{Counts, Gone, Progress, Refused, Report, Stopped, Summary, report};
use crate::app::App;
use crate::auth::Member;
use crate::catalog::{Answered, Carrier, Catalog, Command, Parameters as Named};
use crate::draw::Draw;
use crate::extract::Parameters;
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::routes::users;

/// The command that a row is.
const REGISTER: &str = "RegisterUser";

/// How many rows are registered at the same time.
const AT_ONCE: usize = 256;

/// How many turns there are to take: far more than rows at the same time.
const TURNS: u64 = 4_096;

/// The most rows of a file.
const MAX_ROWS: u64 = 1_000_000;

/// After how many rows the report tells how far it is.
const PROGRESS: u64 = 1_000;

/// How often a row is tried that the service cannot take now, and the first pause; each one after is twice as long.
const TRIES: u32 = 7;
const PAUSE: Duration = Duration::from_millis(100);

/// How many imports this process carries out at the same time.
static IMPORTS: Semaphore = Semaphore::const_new(4);

/// How long the next row may take to arrive.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a row's own words are shown.
const MAX_VALUE: usize = 254;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// Look at every row and register none. Whether an address is taken shows only when it is registered.
    #[serde(default)]
    dry_run: bool,
}

/// A line of the report.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the answer, whose lines are written one by one"
)]
pub(super) enum ReportLine {
    /// A row that was refused.
    Refused(Refused),
    /// How far the import is.
    Progress(Progress),
    /// The last line of an import that could not go on.
    Stopped(Stopped),
    /// The last line of any other.
    Summary(Summary),
}

/// Import users from a file
///
/// As CSV, its first line names the columns: `email`, `name`, and where wanted `roles` (names or ids, separated by
/// `;`), `attributes` (a JSON object) and `attributes.<key>` (a text). As JSON lines, each is the body of a
/// registration, with roles by name or id. What else an export tells is passed over. A row is at most 65,536 bytes
/// long, a file at most 1,000,000 rows.
///
/// Each row is registered by itself, as if it came to `POST /v1/users`, while the file still arrives; the answer
/// begins at once and is best read while sending. It is JSON lines: one per refused row, now and then one that tells
/// the progress, and in the end one that counts, or says where the import had to stop. Who disconnects stops it.
/// Sent again under its `Idempotency-Key`, a file registers no row twice.
#[utoipa::path(
    post, path = "/v1/users/import", tag = "users", params(ImportQuery),
    request_body(content((String = "text/csv"), (String = "application/jsonl"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "The report.", body = ReportLine, content_type = "application/jsonl"),
        (status = 503, description = "`overloaded`: Too many imports are under way.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn import_users(
    member: Member,
    State(app): State<App>,
    Parameters(query): Parameters<ImportQuery>,
    Extension(catalog): Extension<Arc<Catalog>>,
    request: Request,
) -> Result<Response, Problem> {
    let permit = IMPORTS.try_acquire().map_err(|_| {
        Problem::new(
            ProblemType::Overloaded,
            "This process carries out as many imports as it can; send it again later.",
        )
    })?;
    let (parts, body) = request.into_parts();
    let form = form(&parts)?;
    let mut rows = Box::pin(rows(body, form));
    let columns = match form {
        Form::Lines => None,
        Form::Csv => Some(columns(rows.next().await)?),
    };
    let import = Import {
        names: names(&app, &member.tenant).await?,
        begun: end(&app).await?,
        command: catalog.command(REGISTER)?,
        carrier: Carrier::of(&parts),
        catalog,
        columns,
        dry_run: query.dry_run,
        turns: (0..TURNS).map(|_| Mutex::default()).collect(),
    };
    let (report, answer) = report();
    let gone = report.gone();
    tokio::spawn(async move {
        tokio::select! {
            () = gone => tracing::debug!("the client of an import has gone"),
            _ = import.run(rows, report, permit) => {}
        }
    });
    let mut response = Response::new(answer);
    let media_type = HeaderValue::from_static("application/jsonl");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

/// The form that a request declares its body to have.
fn form(parts: &Parts) -> Result<Form, Problem> {
    let media_type = parts.headers.get(CONTENT_TYPE);
    let media_type = media_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "text/csv" => Ok(Form::Csv),
        "application/jsonl" | "application/x-ndjson" => Ok(Form::Lines),
        _ => Err(Problem::new(
            ProblemType::UnsupportedMediaType,
            "Send the file as CSV, with the header `Content-Type: text/csv`, or as JSON lines, with \
             `Content-Type: application/jsonl`.",
        )),
    }
}

type Cut = Result<Result<Row, Broken>, std::io::Error>;

/// The rows of a body, which breaks off where nothing more of it comes: who holds one of the few imports uses it.
fn rows(body: Body, form: Form) -> impl Stream<Item = Cut> + Send {
    let bytes = body.into_data_stream().map_err(std::io::Error::other);
    let rows = FramedRead::new(StreamReader::new(bytes), Cutter::new(form));
    futures::stream::unfold(Box::pin(rows), async |mut rows| {
        let next = tokio::time::timeout(PATIENCE, rows.next()).await;
        let next = next.unwrap_or_else(|late| Some(Err(late.into())));
        next.map(|row| (row, rows))
    })
}

/// The columns, by the first row.
fn columns(first: Option<Cut>) -> Result<Columns, Problem> {
    match first {
        Some(Ok(Ok(Row::Cells(names)))) => Columns::read(&names),
        Some(Ok(Ok(Row::Line(_)))) | None => {
            Err(Problem::invalid_body(".", "must begin with a line of names"))
        }
        Some(Ok(Err(broken))) => Err(Problem::invalid_body(
            ".",
            format!("the line of names {}", broken.message),
        )),
        Some(Err(_)) => Err(Problem::new(
            ProblemType::MalformedJson,
            "The body did not arrive whole.",
        )),
    }
}

async fn names(app: &App, tenant: &TenantId) -> Result<RoleNames, Problem> {
    let loaded = app
        .dispatcher
        .load::<Roles>(tenant, tenant.as_str(), Duration::ZERO);
    let roles = loaded.await.map_err(|error| Problem::unavailable(&error))?;
    Ok(RoleNames::of(&roles.aggregate))
}

/// Where the log ended before the import: what stands there already was registered by an earlier one.
async fn end(app: &App) -> Result<Position, Problem> {
    let end = app.dispatcher.end().await;
    end.map_err(|error| Problem::unavailable(&error))
}

/// One import.
struct Import {
    catalog: Arc<Catalog>,
    carrier: Carrier,
    command: Arc<Command>,
    /// Of CSV.
    columns: Option<Columns>,
    names: RoleNames,
    begun: Position,
    dry_run: bool,
    /// By hashes of addresses: rows with the same one are registered in the order of the file.
    turns: Vec<Mutex<()>>,
}

/// What became of one row.
enum Outcome {
    Registered(Option<Position>),
    Unchanged,
    Refused(Refused),
    /// The import cannot go on from here.
    Stopped(Refused),
    /// The body broke off.
    Broken,
}

impl Import {
    /// Registers the rows, and reports; ends early where the client does.
    async fn run(
        &self,
        rows: impl Stream<Item = Cut> + Send,
        mut report: Report,
        _one_of_few: SemaphorePermit<'_>,
    ) -> Result<(), Gone> {
        let mut counts = Counts::default();
        let mut last: Option<Position> = None;
        let rows = rows.zip(futures::stream::iter(1_u64..));
        let outcomes = rows.map(|(row, number)| self.row(number, row)).buffered(AT_ONCE);
        let mut outcomes = std::pin::pin!(outcomes);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Outcome::Registered(position) => {
                    counts.registered += 1;
                    last = last.max(position);
                }
                Outcome::Unchanged => counts.unchanged += 1,
                Outcome::Refused(refused) => {
                    counts.refused += 1;
                    report.line(&refused).await?;
                }
                Outcome::Stopped(stopped) => {
                    report.line(&Stopped { stopped, counts }).await?;
                    return report.flush().await;
                }
                Outcome::Broken => return Err(Gone),
            }
            counts.rows += 1;
            if counts.rows.is_multiple_of(PROGRESS) {
                let progress = counts.clone();
                report.line(&Progress { progress }).await?;
                report.flush().await?;
            }
        }
        let position = last.map(|position| position.to_string());
        report.line(&Summary { counts, position }).await?;
        report.flush().await
    }

    async fn row(&self, number: u64, row: Cut) -> Outcome {
        let Ok(row) = row else {
            return Outcome::Broken;
        };
        let (body, value) = self.read(row);
        let body = match body {
            Ok(body) => body,
            Err(problem) => return Outcome::Refused(refused(number, &problem, &value)),
        };
        if number > MAX_ROWS {
            let problem = Problem::new(ProblemType::TooLarge, "A file may have at most 1,000,000 rows.");
            return Outcome::Stopped(refused(number, &problem, &value));
        }
        if self.dry_run {
            return match users::check(body.get().as_bytes()) {
                Ok(()) => Outcome::Registered(None),
                Err(problem) => Outcome::Refused(refused(number, &problem, &value)),
            };
        }
        let answered = {
            // Of rows with one address the first is registered.
            let _turn = self.turn(&value).await;
            self.register(number, &body).await
        };
        match answered.outcome {
            Ok(_) => {
                let position = answered.position.and_then(|text| text.parse().ok());
                if position.is_some_and(|position: Position| position <= self.begun) {
                    Outcome::Unchanged
                } else {
                    Outcome::Registered(position)
                }
            }
            Err(problem) if is_of_the_caller(&problem) => Outcome::Stopped(refused(number, &problem, &value)),
            Err(problem) => Outcome::Refused(refused(number, &problem, &value)),
        }
    }

    async fn turn(&self, email: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        email.trim().to_lowercase().hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS).unwrap_or_default();
        self.turns[index].lock().await
    }

    /// The body of a row's registration, or what is wrong with it; and what tells it from the others.
    fn read(&self, row: Result<Row, Broken>) -> (Result<Box<RawValue>, Problem>, String) {
        match (row, &self.columns) {
            (Ok(Row::Cells(cells)), Some(columns)) => {
                let email = columns.email(&cells).to_owned();
                (columns.registration(&cells, &self.names), email)
            }
            (Ok(Row::Line(text)), _) => match line(&text, &self.names) {
                Ok((body, email)) => (Ok(body), email),
                Err(problem) => (Err(problem), text.chars().take(MAX_VALUE).collect()),
            },
            (Ok(Row::Cells(_)), None) => {
                let problem = Problem::invalid_body(".", "has no columns");
                (Err(problem), String::new())
            }
            (Err(broken), _) => {
                let problem = Problem::invalid_body(".", broken.message);
                (Err(problem), broken.excerpt)
            }
        }
    }

    /// Registers a row as its own route would; tries again what cannot be done now.
    async fn register(&self, number: u64, body: &RawValue) -> Answered {
        let content = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(body.get()));
        let mut draw = self.carrier.draw().apart(&format!("row/{number}/{content}"));
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let carrier = self.carrier.drawing(draw.clone());
            let answered = self
                .catalog
                .carry_out(&carrier, &self.command, &Named::new(), Some(body))
                .await;
            let again = matches!(&answered.outcome, Err(problem) if is_for_now(problem));
            if !again || tries == TRIES {
                return answered;
            }
            // It may have happened all the same, and is then recognised.
            draw = Draw::again(&draw.seed());
            tokio::time::sleep(pause).await;
            pause *= 2;
            tries += 1;
        }
    }
}

/// What may be over a moment later.
fn is_for_now(problem: &Problem) -> bool {
    problem.kind().status().is_server_error() || problem.kind() == ProblemType::RateLimited
}

/// What does not lie in the row: no other row would fare better.
fn is_of_the_caller(problem: &Problem) -> bool {
    let of_the_caller = [
        ProblemType::Unauthenticated,
        ProblemType::TenantSuspended,
        ProblemType::TenantTerminated,
    ];
    is_for_now(problem) || of_the_caller.contains(&problem.kind())
}

fn refused(row: u64, problem: &Problem, value: &str) -> Refused {
    Refused {
        row,
        code: problem.kind().code(),
        detail: problem.detail().to_owned(),
        errors: problem.errors().to_vec(),
        value: value.chars().take(MAX_VALUE).collect(),
    }
}
