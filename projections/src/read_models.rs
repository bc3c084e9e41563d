//! The read models of an installation, opened: the way to every query.

use std::path::PathBuf;
use std::sync::Arc;

use broker::{Finding, Severity};
use domain::TenantId;
use serde_json::Value as Json;
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use crate::checkpoints::{self, Live};
use crate::engine::{Database, Kind, copies, postgres, sqlite};
use crate::models::{
    self, ApiKeys, Audit, Deliveries, Endpoints, EventTypes, Invitations, Messages, Permissions, RolesOf,
    SeriesOf, SettingsOf, Sources, StatsOf, Teams, Tenants, Tree, UsageOf, Users,
};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::progress::Progress;
use crate::projection::Projection;
use crate::sql::{Statement, int, text};
use crate::table::{Column, Type};

/// Where the read models are kept.
#[derive(Clone)]
pub enum Target {
    /// In the file `read.db` of a folder, which is made where it is missing.
    Sqlite {
        /// The folder.
        folder: PathBuf,
    },
    /// In a PostgreSQL database of their own.
    Postgres {
        /// `postgres://user:password@host:port/database`.
        url: String,
    },
}

impl std::fmt::Debug for Target {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite { folder } => f.debug_struct("Sqlite").field("folder", folder).finish(),
            Self::Postgres { .. } => f.debug_struct("Postgres").finish_non_exhaustive(),
        }
    }
}

/// How read models are opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where they are kept.
    pub target: Target,
    /// Whether missing migrations are applied; otherwise the schema must be up to date.
    pub migrate: bool,
}

/// Why read models could not be opened; the text tells an operator what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing answered, or the file could not be opened.
    #[error("cannot reach the read database at {what}: check that it runs, its address and its credentials")]
    Unreachable {
        /// The address or file.
        what: String,
        /// What went wrong underneath.
        #[source]
        source: sqlx::Error,
    },
    /// It answered, but cannot be used as it is.
    #[error("the read database at {what} cannot be used: {advice}")]
    Unfit {
        /// The address.
        what: String,
        /// What is wrong and what to do.
        advice: String,
    },
    /// The schema is older than this program, and migrating was not asked for.
    #[error("the read database at {what} lacks {missing} migrations: run `tidings migrate` as its owner")]
    NotMigrated {
        /// The address or file.
        what: String,
        /// How many.
        missing: usize,
    },
    /// The schema is older than this program, and the login may not change it.
    #[error(
        "the read database at {what} lacks {missing} migrations and this login may not apply them: run `tidings \
         migrate` as its owner"
    )]
    MayNotMigrate {
        /// The address.
        what: String,
        /// How many.
        missing: usize,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The schema was made by a newer program.
    #[error(
        "the read database at {what} has migration {version}, which this program does not know: run a newer one"
    )]
    SchemaNewer {
        /// The address or file.
        what: String,
        /// The migration unknown here.
        version: i64,
    },
    /// A migration failed.
    #[error("a migration of the read database at {what} failed")]
    Migration {
        /// The address or file.
        what: String,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

impl OpenError {
    pub(crate) fn unreachable(what: &str, source: sqlx::Error) -> Self {
        Self::Unreachable {
            what: what.to_owned(),
            source,
        }
    }

    pub(crate) fn unfit(what: &str, advice: String) -> Self {
        Self::Unfit {
            what: what.to_owned(),
            advice,
        }
    }
}

/// The read models; clones share connections and the knowledge of how far projectors in this process have come.
#[derive(Debug, Clone)]
pub struct ReadModels {
    pub(crate) database: Database,
    pub(crate) progress: Arc<Progress>,
    #[cfg(feature = "unfiltered")]
    pub(crate) seen: Option<crate::Seen>,
}

impl ReadModels {
    /// Opens them; see [`OpenError`] for what is refused.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let database = match &settings.target {
            Target::Sqlite { folder } => sqlite::open(folder, settings.migrate).await?,
            Target::Postgres { url } => postgres::open(url, settings.migrate).await?,
        };
        Ok(Self {
            database,
            progress: Arc::default(),
            #[cfg(feature = "unfiltered")]
            seen: None,
        })
    }

    /// Applies the missing migrations, for a login that owns the schema and does nothing else.
    pub async fn migrate(target: &Target) -> Result<(), OpenError> {
        sqlx::any::install_default_drivers();
        match target {
            Target::Sqlite { folder } => {
                let database = sqlite::open(folder, true).await?;
                database.close().await;
            }
            Target::Postgres { url } => {
                postgres::migrated(url, true).await?;
            }
        }
        Ok(())
    }

    /// Looks at the database as `tidings doctor` does: every finding, the good ones too.
    pub async fn examine(&self) -> Vec<Finding> {
        let finding = |severity, message: String| Finding {
            severity,
            subject: self.database.address.clone(),
            message,
        };
        let mut findings = Vec::new();
        match self.query(&TenantId::platform(), &[]).await {
            Ok(_) => findings.push(finding(Severity::Fine, "The read database answers.".to_owned())),
            Err(error) => {
                let message =
                    format!("The read database does not answer: {error}. Start it, or correct its address.");
                findings.push(finding(Severity::Failure, message));
                return findings;
            }
        }
        if self.database.kind == Kind::Postgres {
            let proof = match self.database.reader.acquire().await {
                Ok(mut connection) => {
                    postgres::prove_isolation(&mut connection, &self.database.address).await
                }
                Err(error) => Err(OpenError::unreachable(&self.database.address, error)),
            };
            findings.push(match proof {
                Ok(()) => finding(
                    Severity::Fine,
                    "Row-level security confines every query to its tenant.".to_owned(),
                ),
                Err(error) => finding(Severity::Failure, error.to_string()),
            });
        }
        findings
    }

    /// Lets go of the database, once what is running has ended.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// The tenants of the installation.
    pub fn tenants(&self) -> Tenants<'_> {
        Tenants { read_models: self }
    }

    /// A tenant's users.
    pub fn users<'a>(&'a self, tenant: &'a TenantId) -> Users<'a> {
        Users {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's roles.
    pub fn roles<'a>(&'a self, tenant: &'a TenantId) -> RolesOf<'a> {
        RolesOf {
            read_models: self,
            tenant,
        }
    }

    /// What a tenant's users may do, and why.
    pub fn permissions<'a>(&'a self, tenant: &'a TenantId) -> Permissions<'a> {
        Permissions {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's teams.
    pub fn teams<'a>(&'a self, tenant: &'a TenantId) -> Teams<'a> {
        Teams {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's invitations.
    pub fn invitations<'a>(&'a self, tenant: &'a TenantId) -> Invitations<'a> {
        Invitations {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's API keys.
    pub fn api_keys<'a>(&'a self, tenant: &'a TenantId) -> ApiKeys<'a> {
        ApiKeys {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's endpoints.
    pub fn endpoints<'a>(&'a self, tenant: &'a TenantId) -> Endpoints<'a> {
        Endpoints {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's event types.
    pub fn event_types<'a>(&'a self, tenant: &'a TenantId) -> EventTypes<'a> {
        EventTypes {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's sources.
    pub fn sources<'a>(&'a self, tenant: &'a TenantId) -> Sources<'a> {
        Sources {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's audit trail.
    pub fn audit<'a>(&'a self, tenant: &'a TenantId) -> Audit<'a> {
        Audit {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's messages.
    pub fn messages<'a>(&'a self, tenant: &'a TenantId) -> Messages<'a> {
        Messages {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's deliveries, attempts and dead letters.
    pub fn deliveries<'a>(&'a self, tenant: &'a TenantId) -> Deliveries<'a> {
        Deliveries {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's settings.
    pub fn settings<'a>(&'a self, tenant: &'a TenantId) -> SettingsOf<'a> {
        SettingsOf {
            read_models: self,
            tenant,
        }
    }

    /// What a tenant has of what quotas count.
    pub fn usage<'a>(&'a self, tenant: &'a TenantId) -> UsageOf<'a> {
        UsageOf {
            read_models: self,
            tenant,
        }
    }

    /// The tree over a tenant's records in a shard.
    pub fn tree<'a>(&'a self, tenant: &'a TenantId, shard: u16) -> Tree<'a> {
        Tree {
            read_models: self,
            tenant,
            shard,
        }
    }

    /// The course of a tenant's figures.
    pub fn series<'a>(&'a self, tenant: &'a TenantId) -> SeriesOf<'a> {
        SeriesOf {
            read_models: self,
            tenant,
        }
    }

    /// A tenant's figures.
    pub fn stats<'a>(&'a self, tenant: &'a TenantId) -> StatsOf<'a> {
        StatsOf {
            read_models: self,
            tenant,
        }
    }

    /// What queries of some projections would be true of now.
    pub async fn seen(&self, tenant: &TenantId, projections: &[&str]) -> Result<Answer<()>, QueryError> {
        self.query(tenant, projections).await?.answer(()).await
    }

    /// Begins a query on behalf of a tenant: one state of the database throughout, and on PostgreSQL nothing but
    /// the tenant's rows.
    pub(crate) async fn query(&self, tenant: &TenantId, projections: &[&str]) -> Result<Query, QueryError> {
        let kind = self.database.kind;
        let mut transaction = self.database.reader.begin_with(kind.begin_read()).await?;
        if kind == Kind::Postgres {
            Statement::new("SELECT set_config('tidings.tenant', $1, true)")
                .with(tenant.as_str())
                .rows(&mut transaction)
                .await?;
        }
        let known = models::all();
        let versions: Vec<_> = known
            .iter()
            .filter(|projection| projections.contains(&projection.name()))
            .map(|projection| (projection.name(), projection.version()))
            .collect();
        let live = checkpoints::positions(&mut transaction, &versions).await?;
        Ok(Query {
            transaction,
            live,
            #[cfg(feature = "unfiltered")]
            seen: self.seen.clone(),
        })
    }
}

/// A query under way.
pub(crate) struct Query {
    transaction: Transaction<'static, Any>,
    live: Live,
    #[cfg(feature = "unfiltered")]
    seen: Option<crate::Seen>,
}

/// A part of a list whose rows are in the order of some columns, the greatest first.
pub(crate) struct Keyset<'k> {
    /// The list's name, for its cursors.
    pub(crate) list: &'static str,
    /// Selects what the list is made of; ends inside its `WHERE`.
    pub(crate) select: Statement,
    /// The columns that the rows are in the order of, which must tell any two apart: as the statement names them.
    pub(crate) order: &'k [Column],
    /// Which part is wanted.
    pub(crate) page: &'k Page,
}

impl Keyset<'_> {
    /// A row's values of the columns, as a cursor holds them.
    fn key_of(&self, row: &AnyRow) -> Result<Vec<Json>, sqlx::Error> {
        let value = |column: &Column| {
            let name = column.name.rsplit('.').next().unwrap_or(column.name);
            match column.holds {
                Type::Int => int(row, name).map(Json::from),
                Type::Text | Type::Bytes => text(row, name).map(Json::from),
            }
        };
        self.order.iter().map(value).collect()
    }

    /// The statement that selects the page's rows, and one more if there is one.
    fn statement(&self) -> Result<Statement, QueryError> {
        let mut select = self.select.clone();
        let named = |format: fn(&str) -> String| {
            let columns: Vec<_> = self.order.iter().map(|column| format(column.name)).collect();
            columns.join(", ")
        };
        if let Some(after) = self.page.after_key(self.list, self.order)? {
            select
                .push(&format!(" AND ({}) < ", named(str::to_owned)))
                .bind_rows([after]);
        }
        select
            .push(&format!(
                " ORDER BY {} LIMIT ",
                named(|column| format!("{column} DESC"))
            ))
            .bind(self.page.size() as u64 + 1);
        Ok(select)
    }
}

impl Query {
    /// The name of a table in its live generation; the query was opened with its projection.
    pub(crate) fn table(&self, name: &str) -> String {
        let known = models::all();
        let keeps = |projection: &&Arc<dyn Projection>| {
            let tables = projection.tables();
            tables.iter().any(|table| table.name == name)
        };
        let projection = known.iter().find(keeps).map(|projection| projection.name());
        let generation = projection.and_then(|projection| self.live.generations.get(projection));
        format!(
            "{name}{}",
            copies::suffix(generation.copied().unwrap_or_default())
        )
    }

    /// The rows a statement selects.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<AnyRow>, QueryError> {
        #[cfg(feature = "unfiltered")]
        let statement = match &self.seen {
            Some(seen) => seen.unfiltered(statement),
            None => statement,
        };
        Ok(statement.rows(&mut self.transaction).await?)
    }

    /// One page of a list.
    pub(crate) async fn page<T>(
        &mut self,
        keyset: Keyset<'_>,
        read: impl Fn(&AnyRow) -> Result<T, sqlx::Error>,
    ) -> Result<Listing<T>, QueryError> {
        let rows = self.rows(keyset.statement()?).await?;
        let rows = rows.iter().map(|row| Ok((keyset.key_of(row)?, read(row)?)));
        let rows = rows.collect::<Result<Vec<_>, sqlx::Error>>()?;
        let listing = Listing::new(rows, keyset.page, keyset.list, |(key, _)| key.clone());
        Ok(Listing {
            data: listing.data.into_iter().map(|(_, row)| row).collect(),
            next_cursor: listing.next_cursor,
        })
    }

    /// One page of a list, and the end of the query.
    pub(crate) async fn list<T>(
        mut self,
        keyset: Keyset<'_>,
        read: impl Fn(&AnyRow) -> Result<T, sqlx::Error>,
    ) -> Result<Answer<Listing<T>>, QueryError> {
        let listing = self.page(keyset, read).await?;
        self.answer(listing).await
    }

    /// Ends the query with what it found.
    pub(crate) async fn answer<T>(self, data: T) -> Result<Answer<T>, QueryError> {
        self.transaction.commit().await?;
        Ok(Answer {
            data,
            positions: self.live.positions,
            fresh_at: self.live.fresh_at,
        })
    }
}
