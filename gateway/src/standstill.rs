//! What is still answered while the log is not trusted: queries, to whoever this process knew before.
//!
//! Nothing is asked of the log any more, so a caller is recognised by what was proved before, and only while the read
//! model says that the key is good.

use std::time::SystemTime;

use axum::http::{HeaderMap, Method};
use broker::Distrust;
use domain::Timestamp;
use projections::ApiKeyStatus;

use crate::app::App;
use crate::auth::Principal;
use crate::guard::Need;
use crate::problem::Problem;
use crate::tenancy::changes;

/// Who sends a query; everything else is refused, before anything is stored.
pub(crate) async fn admit(
    app: &App,
    need: &Need,
    method: &Method,
    headers: &HeaderMap,
    why: &Distrust,
) -> Result<Principal, Problem> {
    let refused = || Problem::log_untrusted(why);
    if changes(need, method) {
        return Err(refused());
    }
    let principal = app.authority.recall(headers)?.ok_or_else(refused)?;
    if let Principal::Key(holder) = &principal {
        let found = app.read_models.api_keys(&holder.tenant).get(&holder.key).await;
        let row = found.map_err(|error| Problem::unavailable(&error))?.data;
        let now = Timestamp::from(SystemTime::now());
        row.filter(|row| row.status(now) == ApiKeyStatus::Active)
            .ok_or_else(refused)?;
    }
    Ok(principal)
}
