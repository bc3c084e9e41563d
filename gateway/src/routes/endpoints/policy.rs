//! From a policy as it is asked for to one with names in the place of secrets, and what these names stand for.

use delivery::{SecretText, check_certificate};
use domain::endpoint::policy::{Authentication, Header, HeaderValue};
use domain::endpoint::{Policy, PolicyChange};
use domain::{Edit, EndpointId, SecretId, TenantId};

use super::forms::{AuthenticationForm, HeaderForm, PolicyForm};
use crate::app::App;
use crate::auth::Member;
use crate::extract::Strict;
use crate::problem::{Problem, ProblemType};

/// A change of a policy whose secrets only have names, and the secrets by their names.
pub(super) struct Sealed {
    pub(super) change: PolicyChange,
    pub(super) texts: Vec<(SecretId, SecretText)>,
}

impl Sealed {
    /// Names are drawn from the request, so that one that is repeated names them the same.
    pub(super) fn of(form: PolicyForm, member: &Member) -> Result<Self, Problem> {
        let mut texts = Vec::new();
        let mut seal = |what: &str, text: SecretText| {
            let name = SecretId::new(member.ulid(what));
            texts.push((name.clone(), text));
            name
        };
        let headers = form.headers.map(|headers| {
            let headers = headers.into_iter().enumerate();
            let sealed = headers.map(|(number, Strict(form))| header(number, form, &mut seal));
            sealed.collect()
        });
        let authentication = match form.authentication {
            Edit::Keep => Edit::Keep,
            Edit::Reset => Edit::Reset,
            Edit::Set(Strict(form)) => Edit::Set(authentication(form, &mut seal)?),
        };
        let change = PolicyChange {
            filter: form.filter,
            retry_schedule: form.retry_schedule,
            retry_jitter: form.retry_jitter,
            timeout_ms: form.timeout_ms,
            max_in_flight: form.max_in_flight,
            rate_limit: form.rate_limit.map(|Strict(limit)| limit),
            breaker: form.breaker,
            disable_after_hours: form.disable_after_hours,
            headers,
            format: form.format,
            method: form.method,
            authentication,
            signature: form.signature,
            ordering: form.ordering.map(|Strict(ordering)| ordering),
        };
        Ok(Self { change, texts })
    }
}

fn header(number: usize, form: HeaderForm, seal: &mut impl FnMut(&str, SecretText) -> SecretId) -> Header {
    let value = if form.secret {
        HeaderValue::Secret(seal(&format!("endpoint header {number}"), form.value.seal()))
    } else {
        HeaderValue::Plain(form.value.reveal())
    };
    Header {
        name: form.name,
        value,
    }
}

fn authentication(
    form: AuthenticationForm,
    seal: &mut impl FnMut(&str, SecretText) -> SecretId,
) -> Result<Authentication, Problem> {
    let mut seal = |text| seal("endpoint authentication", text);
    Ok(match form {
        AuthenticationForm::Basic { username, password } => Authentication::Basic {
            username,
            password: seal(password.seal()),
        },
        AuthenticationForm::Bearer { token } => Authentication::Bearer {
            token: seal(token.seal()),
        },
        AuthenticationForm::Oauth2 {
            token_url,
            client_id,
            client_secret,
            scope,
        } => Authentication::Oauth2 {
            token_url,
            client_id,
            client_secret: seal(client_secret.seal()),
            scope,
        },
        AuthenticationForm::Mtls { certificate, key } => {
            let key = key.seal();
            check_certificate(&certificate, key.reveal())
                .map_err(|error| Problem::invalid_body("authentication.certificate", error.to_string()))?;
            Authentication::Mtls {
                certificate,
                key: seal(key),
            }
        }
    })
}

/// Refuses addresses that receivers may not have, where tokens are asked for.
pub(super) async fn check_egress(app: &App, policy: &Policy) -> Result<(), Problem> {
    let Some(Authentication::Oauth2 { token_url, .. }) = &policy.authentication else {
        return Ok(());
    };
    token_url
        .check_host()
        .map_err(|host| Problem::invalid_body("authentication.token_url", host.to_string()))?;
    app.egress.check(token_url.as_url()).await.map_err(|refused| {
        let detail = "Choose a server for tokens on the public internet.";
        Problem::new(ProblemType::UrlRefused, detail).at("authentication.token_url", refused.to_string())
    })
}

/// Keeps what an endpoint's policy is about to name.
pub(super) async fn keep(
    app: &App,
    tenant: &TenantId,
    id: &EndpointId,
    texts: &[(SecretId, SecretText)],
) -> Result<(), Problem> {
    for (name, text) in texts {
        let kept = app.secrets.keep_text(tenant, id, name, text).await;
        kept.map_err(|error| Problem::unavailable(&error))?;
    }
    Ok(())
}
