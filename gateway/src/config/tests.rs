//! Tests of the configuration; they use flags only, since the environment belongs to the whole process.

use super::*;

fn overrides(settings: &[(&'static str, &str)]) -> Overrides {
    settings
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect()
}

fn parse(settings: &[(&'static str, &str)]) -> Result<Config, String> {
    let configuration =
        Configuration::read(None, &overrides(settings)).map_err(|failure| failure.to_string())?;
    configuration.parse().map_err(|failure| failure.to_string())
}

#[test]
fn the_defaults_are_an_embedded_installation_for_development() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.profile, Profile::Development);
    assert_eq!(config.http.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.http.body_limit, 1 << 20);
    assert_eq!(config.http.bulk_body_limit, 8 << 20);
    assert!(matches!(config.storage.engine, EngineChoice::Embedded));
    assert_eq!(config.roles, [Role::Gateway, Role::Projections, Role::Delivery]);
}

#[test]
fn production_is_the_default_where_others_can_reach_the_service() {
    assert_eq!(
        parse(&[("listen", "0.0.0.0:8080")]).unwrap().profile,
        Profile::Production
    );
    let cluster = [
        ("nats_url", "nats://127.0.0.1:4222"),
        ("database_url", "postgres://a@127.0.0.1/b"),
    ];
    assert_eq!(parse(&cluster).unwrap().profile, Profile::Production);
    let asked = parse(&[("listen", "0.0.0.0:8080"), ("profile", "development")]);
    assert_eq!(asked.unwrap().profile, Profile::Development);
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = parse(&[
        ("listen", "nowhere"),
        ("body_limit", "much"),
        ("roles", "gateway,king"),
    ])
    .unwrap_err();
    for part in [
        "listen (flag): ",
        "body_limit (flag): ",
        "\"king\" is none of",
        "help: ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn half_a_cluster_is_a_mistake() {
    let text = parse(&[("nats_url", "nats://127.0.0.1:4222")]).unwrap_err();
    assert!(text.contains("nats_url is set but database_url is not"), "{text}");
    let delivery_only = parse(&[("nats_url", "nats://127.0.0.1:4222"), ("roles", "delivery")]);
    assert!(delivery_only.is_ok(), "who only delivers needs no database");
    let text = parse(&[("database_url", "postgres://a@127.0.0.1/b")]).unwrap_err();
    assert!(text.contains("database_url is set but nats_url is not"), "{text}");
}

#[test]
fn secrets_are_never_shown() {
    let settings = [
        ("admin_key", "tdk_0123456789abcdef0123456789abcdef"),
        ("nats_url", "nats://app:hush@127.0.0.1:4222"),
        ("database_url", "postgres://app:hush@127.0.0.1/b"),
    ];
    let configuration = Configuration::read(None, &overrides(&settings)).unwrap();
    let shown = format!("{configuration} {:?}", configuration.parse().unwrap());
    assert!(
        !shown.contains("0123456789abcdef") && !shown.contains("hush"),
        "{shown}"
    );
    assert!(shown.contains("nats://app:********@127.0.0.1:4222"), "{shown}");
}

#[test]
fn a_file_gives_settings_and_unknown_ones_are_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidings.toml");
    std::fs::write(
        &file,
        "roles = [\"gateway\", \"delivery\"]\nbody_limit = 2048\ncolour = \"red\"\n",
    )
    .unwrap();
    let configuration = Configuration::read(Some(&file), &Overrides::new()).unwrap();
    let text = configuration.parse().unwrap_err().to_string();
    assert!(text.contains("there is no setting named colour"), "{text}");
    assert!(configuration.to_string().contains("body_limit = \"2048\"  # "));

    std::fs::write(&file, "roles = [\"gateway\", \"delivery\"]\nbody_limit = 2048\n").unwrap();
    let config = Configuration::read(Some(&file), &overrides(&[("roles", "projections")]))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        (config.roles, config.http.body_limit),
        (vec![Role::Projections], 2048)
    );
}

#[test]
fn the_default_file_says_what_the_defaults_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidings.toml");
    let text = default_file();
    let settings: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.contains(" = \""))
        .collect();
    assert_eq!(settings.len(), table::SETTINGS.len());
    std::fs::write(&file, settings.join("\n")).unwrap();
    assert!(
        Configuration::read(Some(&file), &Overrides::new())
            .unwrap()
            .parse()
            .is_ok()
    );
}

#[test]
fn times_and_sizes_have_units() {
    assert_eq!(parse::duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(parse::duration("30d"), Ok(Duration::from_hours(30 * 24)));
    for text in ["", "5", "s", "-5s", "5 weeks", "0s", "99999999999999999d"] {
        assert!(parse::duration(text).is_err(), "{text:?} was accepted");
    }
    assert!(parse::age("5m").is_ok() && parse::age("4m").is_err());
    assert_eq!(parse::size("8 MiB"), Ok(8 << 20));
    for text in ["", "MiB", "0", "2GiB", "99999999999999999999"] {
        assert!(parse::size(text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn the_operators_guide_names_every_setting() {
    let guide = include_str!("../../../docs/operating.md");
    for setting in table::SETTINGS {
        let default = match setting.default {
            "" => "–".to_owned(),
            text => format!("`{text}`"),
        };
        let key = setting.key;
        let row = format!(
            "| `{key}` | `TIDINGS_{}` | {default} | {} |",
            key.to_uppercase(),
            setting.about
        );
        assert!(
            guide.contains(&row),
            "docs/operating.md lacks or misstates {key}: {row}"
        );
    }
}
