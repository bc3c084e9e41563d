//! One command: its route, and how its parts become a request.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method};
use bytes::Bytes;
use domain::Permission;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{RefOr, Required};

use crate::guard::{Need, need_of};
use crate::problem::Problem;

/// What stands as it is in a part of an address (RFC 3986, section 2.3).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The one kind of body that commands have.
const JSON: &str = "application/json";

/// What stands in an address, by name.
pub(crate) type Parameters = BTreeMap<String, String>;

/// A command's route.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// The method of its operation.
    pub(crate) method: Method,
    /// The path of its operation, as `/v1/users/{id}`.
    pub(crate) path: String,
    /// What it is for, in a few words.
    pub(crate) summary: String,
    /// What a key needs for it.
    pub(crate) permission: Permission,
    /// What stands in the path, in its order.
    pub(crate) in_path: Vec<String>,
    /// What may stand in the query.
    pub(crate) in_query: Vec<String>,
    /// Whether it takes data.
    pub(crate) data: Data,
}

/// Whether a command takes data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// It has no body.
    None,
    /// It does without.
    Optional,
    /// It needs some.
    Required,
}

impl Command {
    /// The command of an operation that changes something; none where its name cannot be used in a call of many:
    /// it needs no tenant's key, it has no JSON body, or it is itself a call of many.
    pub(super) fn read(method: &Method, path: &str, operation: &Operation) -> Option<(String, Self)> {
        let Some(Need::Permission(permission)) = need_of(operation) else {
            return None;
        };
        if path.ends_with("/bulk") || path == "/v1/commands" {
            return None;
        }
        let data = match &operation.request_body {
            None => Data::None,
            Some(RefOr::T(body)) if body.content.contains_key(JSON) => match body.required {
                Some(Required::True) => Data::Required,
                _ => Data::Optional,
            },
            Some(_) => return None,
        };
        let parameters = operation.parameters.iter().flatten();
        let named = |place: ParameterIn| {
            let parameters = parameters.clone().filter_map(move |parameter| match parameter {
                RefOr::T(parameter) if parameter.parameter_in == place => Some(parameter.name.clone()),
                _ => None,
            });
            parameters.collect::<Vec<_>>()
        };
        let mut in_path = named(ParameterIn::Path);
        in_path.sort_by_key(|name| path.find(&format!("{{{name}}}")));
        let command = Self {
            method: method.clone(),
            path: path.to_owned(),
            summary: operation.summary.clone().unwrap_or_default(),
            permission,
            in_path,
            in_query: named(ParameterIn::Query),
            data,
        };
        Some((pascal_case(operation.operation_id.as_deref()?), command))
    }

    /// Whether data given, or none, can be its body; what is missing its route tells.
    pub(crate) fn check(&self, data: Option<&RawValue>) -> Result<(), Problem> {
        if self.data == Data::None && data.is_some() {
            return Err(Problem::invalid_body("data", "this command takes no data"));
        }
        Ok(())
    }

    /// The parameters that are given for it; `id` alone stands for the one parameter of the path.
    pub(crate) fn parameters(
        &self,
        id: Option<String>,
        mut others: Parameters,
    ) -> Result<Parameters, Problem> {
        if let Some(id) = id {
            let [name] = self.in_path.as_slice() else {
                return Err(Problem::invalid_body("id", self.takes()));
            };
            if others.insert(name.clone(), id).is_some() {
                return Err(Problem::invalid_body("id", format!("params has {name} too")));
            }
        }
        let known = |name: &String| self.in_path.contains(name) || self.in_query.contains(name);
        if let Some(unknown) = others.keys().find(|name| !known(name)) {
            return Err(Problem::invalid_body(format!("params.{unknown}"), self.takes()));
        }
        match self.in_path.iter().find(|name| !others.contains_key(*name)) {
            Some(missing) => Err(Problem::invalid_body(format!("params.{missing}"), "is missing")),
            None => Ok(others),
        }
    }

    fn takes(&self) -> String {
        let names: Vec<_> = self.in_path.iter().chain(&self.in_query).collect();
        match names.as_slice() {
            [] => "this command takes no parameters".to_owned(),
            names => {
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                format!("the parameters of this command are {}", names.join(", "))
            }
        }
    }

    /// What the command is about, where it says so: the first part of its path that varies.
    pub(crate) fn target<'a>(&self, parameters: &'a Parameters) -> Option<&'a str> {
        parameters.get(self.in_path.first()?).map(String::as_str)
    }

    /// The request of its route.
    pub(super) fn request(
        &self,
        parameters: &Parameters,
        data: Option<&RawValue>,
    ) -> Result<Request, Problem> {
        let body = match (self.data, data) {
            (Data::None, _) => None,
            (Data::Required, None) => Some(Bytes::from_static(b"{}")),
            (_, data) => data.map(|data| Bytes::copy_from_slice(data.get().as_bytes())),
        };
        let has_body = body.is_some();
        let body = body.map_or_else(Body::empty, Body::from);
        let mut request = super::bare(&self.method, self.address(parameters), body)?;
        if has_body {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        Ok(request)
    }

    fn address(&self, parameters: &Parameters) -> String {
        let plain = |name: &str| {
            let value = parameters.get(name).map_or("", String::as_str);
            utf8_percent_encode(value, PLAIN).to_string()
        };
        let mut address = self.path.clone();
        for name in &self.in_path {
            address = address.replace(&format!("{{{name}}}"), &plain(name));
        }
        let mut separator = '?';
        for name in self.in_query.iter().filter(|name| parameters.contains_key(*name)) {
            address.push(separator);
            address.extend([name.as_str(), "=", &plain(name)]);
            separator = '&';
        }
        address
    }
}

/// `register_user` as `RegisterUser`.
pub(crate) fn pascal_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut letters = word.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(path: &str, in_path: &[&str], in_query: &[&str]) -> Command {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Command {
            method: Method::PUT,
            path: path.to_owned(),
            summary: String::new(),
            permission: Permission::on_tenant("users", "write"),
            in_path: texts(in_path),
            in_query: texts(in_query),
            data: Data::Required,
        }
    }

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[test]
    fn an_address_holds_its_parameters_and_nothing_they_say() {
        let command = command("/v1/users/{id}/roles/{role}", &["id", "role"], &["until"]);
        let given = parameters(&[("id", "usr_1"), ("role", "a/b?c=d#.."), ("until", "now & then")]);
        assert_eq!(
            command.address(&given),
            "/v1/users/usr_1/roles/a%2Fb%3Fc%3Dd%23..?until=now%20%26%20then"
        );
        assert_eq!(command.target(&given), Some("usr_1"));
    }

    #[test]
    fn parameters_are_all_there_and_known() {
        let one = command("/v1/users/{id}", &["id"], &["force"]);
        assert_eq!(
            one.parameters(Some("u".to_owned()), Parameters::new()).unwrap(),
            parameters(&[("id", "u")])
        );
        assert!(
            one.parameters(None, parameters(&[("id", "u"), ("force", "true")]))
                .is_ok()
        );
        assert!(one.parameters(None, Parameters::new()).is_err());
        assert!(
            one.parameters(Some("u".to_owned()), parameters(&[("id", "v")]))
                .is_err()
        );
        assert!(
            one.parameters(Some("u".to_owned()), parameters(&[("x", "v")]))
                .is_err()
        );
        let two = command("/v1/a/{a}/b/{b}", &["a", "b"], &[]);
        assert!(two.parameters(Some("u".to_owned()), Parameters::new()).is_err());
        assert!(
            two.parameters(None, parameters(&[("a", "1"), ("b", "2")]))
                .is_ok()
        );
    }

    #[test]
    fn names_are_written_as_types_are() {
        assert_eq!(pascal_case("register_user"), "RegisterUser");
        assert_eq!(pascal_case("publish"), "Publish");
    }
}
