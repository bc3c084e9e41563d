//! What the rows of a file say of users: columns by their names, or members of an object, as the body of a registration.

use std::collections::HashMap;

use domain::RoleId;
use domain::role::Roles;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::export::unguarded;
use crate::problem::Problem;

/// What an export tells beside what an import takes.
const IGNORED: [&str; 5] = ["id", "status", "deactivated_reason", "created_at", "updated_at"];

/// How the column of one attribute begins.
const ATTRIBUTE: &str = "attributes.";

/// The ids of a tenant's roles by their names, folded.
#[derive(Debug, Default)]
pub(super) struct RoleNames(HashMap<String, RoleId>);

impl RoleNames {
    /// Of these roles.
    pub(super) fn of(roles: &Roles) -> Self {
        let names = roles
            .iter()
            .map(|(id, role)| (fold(role.name.as_str()), id.clone()));
        Self(names.collect())
    }

    /// The id of a role that is named or given by its id; what is neither stays for the registration to refuse.
    fn id(&self, role: &str) -> String {
        let known = self.0.get(&fold(role));
        known.map_or_else(|| role.to_owned(), ToString::to_string)
    }
}

fn fold(name: &str) -> String {
    name.trim().to_lowercase()
}

/// The columns of a CSV file, by its first line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns(Vec<Column>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Email,
    Name,
    /// Names or ids, separated by semicolons.
    Roles,
    /// All attributes as a JSON object.
    Attributes,
    /// One attribute as a text.
    Attribute(String),
    Ignored,
}

impl Columns {
    /// Reads the line of names.
    pub(super) fn read(names: &[String]) -> Result<Self, Problem> {
        let mut columns: Vec<Column> = Vec::with_capacity(names.len());
        for name in names {
            let column = match name.trim() {
                "email" => Column::Email,
                "name" => Column::Name,
                "roles" => Column::Roles,
                "attributes" => Column::Attributes,
                other if IGNORED.contains(&other) => Column::Ignored,
                other => match other.strip_prefix(ATTRIBUTE) {
                    Some(key) if !key.is_empty() => Column::Attribute(key.to_owned()),
                    _ => return Err(unknown(other)),
                },
            };
            if column != Column::Ignored && columns.contains(&column) {
                return Err(Problem::invalid_body(name, "is there twice"));
            }
            columns.push(column);
        }
        for (column, name) in [(Column::Email, "email"), (Column::Name, "name")] {
            if !columns.contains(&column) {
                return Err(Problem::invalid_body(name, "is missing in the first line"));
            }
        }
        Ok(Self(columns))
    }

    /// A row as the body of a registration.
    pub(super) fn registration(&self, cells: &[String], roles: &RoleNames) -> Result<Box<RawValue>, Problem> {
        if cells.len() != self.0.len() {
            let (cells, columns) = (cells.len(), self.0.len());
            let message = format!("has {cells} cells where the first line has {columns}");
            return Err(Problem::invalid_body(".", message));
        }
        let (mut body, mut attributes) = (Map::new(), Map::new());
        for (column, cell) in self.0.iter().zip(cells) {
            let cell = unguarded(cell);
            match column {
                Column::Email => drop(body.insert("email".to_owned(), cell.into())),
                Column::Name => drop(body.insert("name".to_owned(), cell.into())),
                Column::Roles => {
                    let names = cell.split(';').filter(|name| !name.trim().is_empty());
                    let ids: Vec<_> = names.map(|name| roles.id(name).into()).collect();
                    body.insert("roles".to_owned(), Value::Array(ids));
                }
                Column::Attributes if cell.is_empty() => {}
                Column::Attributes => match serde_json::from_str::<Map<_, _>>(cell) {
                    Ok(members) => attributes.extend(members),
                    Err(_) => return Err(Problem::invalid_body("attributes", "must be a JSON object")),
                },
                Column::Attribute(key) if !cell.is_empty() => {
                    attributes.insert(key.clone(), cell.into());
                }
                Column::Attribute(_) | Column::Ignored => {}
            }
        }
        if !attributes.is_empty() {
            body.insert("attributes".to_owned(), attributes.into());
        }
        written(&body)
    }

    /// What tells a row from the others for who sent it.
    pub(super) fn email<'a>(&self, cells: &'a [String]) -> &'a str {
        let place = self.0.iter().position(|column| *column == Column::Email);
        place
            .and_then(|place| cells.get(place))
            .map_or("", String::as_str)
    }
}

fn unknown(name: &str) -> Problem {
    Problem::invalid_body(
        name,
        "is no column; the columns are email, name, roles, attributes, attributes.<key>",
    )
}

/// A line as the body of a registration, and what tells it from the others.
pub(super) fn line(text: &str, roles: &RoleNames) -> Result<(Box<RawValue>, String), Problem> {
    let mut body: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| Problem::invalid_body(".", format!("must be a JSON object: {error}")))?;
    for name in IGNORED {
        body.remove(name);
    }
    if let Some(Value::Array(given)) = body.get_mut("roles") {
        for role in given {
            if let Value::String(name) = role {
                *name = roles.id(name);
            }
        }
    }
    let email = body.get("email").and_then(Value::as_str).unwrap_or_default();
    let email = email.to_owned();
    Ok((written(&body)?, email))
}

fn written(body: &Map<String, Value>) -> Result<Box<RawValue>, Problem> {
    serde_json::value::to_raw_value(body).map_err(|error| Problem::invalid_body(".", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    fn names() -> RoleNames {
        let id: RoleId = "rol_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        RoleNames(HashMap::from([("admin".to_owned(), id)]))
    }

    fn registration(columns: &[&str], cells: &[&str]) -> Value {
        let columns = Columns::read(&texts(columns)).unwrap();
        let body = columns.registration(&texts(cells), &names()).unwrap();
        serde_json::from_str(body.get()).unwrap()
    }

    #[test]
    fn a_row_becomes_the_body_of_a_registration() {
        let columns = ["name", "email", "roles", "attributes", "attributes.plan", "id"];
        let cells = [
            "'=Ada",
            "ada@example.org",
            "Admin; rol_x",
            "{\"n\":1.5}",
            "team",
            "usr_1",
        ];
        let wanted = serde_json::json!({
            "name": "=Ada", "email": "ada@example.org",
            "roles": ["rol_01ARZ3NDEKTSV4RRFFQ69G5FAV", " rol_x"],
            "attributes": { "n": 1.5, "plan": "team" },
        });
        assert_eq!(registration(&columns, &cells), wanted);
        let empty = registration(
            &["email", "name", "attributes", "attributes.plan"],
            &["e", "n", "", ""],
        );
        assert_eq!(empty, serde_json::json!({ "email": "e", "name": "n" }));
    }

    #[test]
    fn columns_are_known_and_there_once() {
        for wrong in [
            ["email", "colour"].as_slice(),
            &["email"],
            &["name"],
            &["email", "name", "email"],
            &["email", "name", "attributes."],
        ] {
            assert!(Columns::read(&texts(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_row_has_as_many_cells_as_there_are_columns() {
        let columns = Columns::read(&texts(&["email", "name"])).unwrap();
        for cells in [["a"].as_slice(), &["a", "b", "c"]] {
            assert!(columns.registration(&texts(cells), &names()).is_err());
        }
    }

    #[test]
    fn a_line_leaves_out_what_only_an_export_tells() {
        let text =
            r#"{"id":"usr_1","email":"a@b.org","name":"A","roles":["ADMIN"],"status":"active","colour":1}"#;
        let (body, email) = line(text, &names()).unwrap();
        let body: Value = serde_json::from_str(body.get()).unwrap();
        let wanted = serde_json::json!({
            "email": "a@b.org", "name": "A", "colour": 1, "roles": ["rol_01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        });
        assert_eq!((body, email.as_str()), (wanted, "a@b.org"));
        for text in ["[]", "{", "7", "\"x\""] {
            assert!(line(text, &names()).is_err(), "{text}");
        }
    }
}
