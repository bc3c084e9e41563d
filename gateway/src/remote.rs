//! Subcommands that ask a running service: operators' part of the HTTP API, in a terminal.
//!
//! What they do, any client of the API can do; the service decides and carries out, so that it makes no difference
//! whether the terminal stays open.

mod client;
mod forms;
mod print;
pub(crate) mod projections;
pub(crate) mod replay;
pub(crate) mod replays;
pub(crate) mod verify;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use clap::Args;

use crate::cli::Failure;
use crate::config::{Config, Configuration, Overrides};
use crate::keys::ADMIN_FILE;

pub(crate) use client::Client;

/// Which service is asked, and how answers are shown.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The service's address, as `http://127.0.0.1:8080` [default: where the configuration says it listens]
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// The service's data folder, whose `admin.key` is used where `TIDINGS_ADMIN_KEY` is not set [default: ./tidings-data]
    #[arg(long, value_name = "FOLDER", global = true)]
    data: Option<String>,
    /// Print the service's answers as JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Remote {
    /// Whether answers are shown as they come.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A client of the service, with the administrator's key.
    pub(crate) fn client(&self, file: Option<&Path>) -> Result<Client, Failure> {
        let data = self.data.clone().map(|data| ("data", data));
        let overrides: Overrides = data.into_iter().collect();
        let config = Configuration::read(file, &overrides)?.parse()?;
        let url = match &self.url {
            Some(url) => checked(url)?,
            None => address(config.http.listen)?,
        };
        Client::new(&url, &admin_key(&config)?)
    }
}

fn checked(url: &str) -> Result<String, Failure> {
    let wrong = || {
        let help = "give it as http://127.0.0.1:8080 or https://tidings.example.org";
        Failure::usage(
            vec![format!("--url {url}: this is no address of a service")],
            help,
        )
    };
    let parsed = url::Url::parse(url).map_err(|_| wrong())?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(wrong());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// The address under which a service that listens so is reached from the same machine.
fn address(listen: SocketAddr) -> Result<String, Failure> {
    if listen.port() == 0 {
        let help = "give the address that `tidings serve` printed: --url http://127.0.0.1:…";
        return Err(Failure::usage(
            vec!["the configuration does not say at which port the service listens".to_owned()],
            help,
        ));
    }
    let ip: IpAddr = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(ip, listen.port())))
}

fn admin_key(config: &Config) -> Result<String, Failure> {
    if let Some(given) = &config.keys.admin {
        return Ok(given.expose().to_owned());
    }
    let file = config.storage.data.join(ADMIN_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(Failure::new(
            format!(
                "the platform administrator's key cannot be read from {}: {error}",
                file.display()
            ),
            "set TIDINGS_ADMIN_KEY, or name the service's data folder with --data",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_listens_everywhere_is_asked_here() {
        let at = |text: &str| address(text.parse().unwrap());
        assert_eq!(at("0.0.0.0:80").unwrap(), "http://127.0.0.1:80");
        assert_eq!(at("[::]:80").unwrap(), "http://[::1]:80");
        assert_eq!(at("192.0.2.7:8080").unwrap(), "http://192.0.2.7:8080");
        assert!(at("127.0.0.1:0").is_err());
    }

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        assert_eq!(checked("http://localhost:1/").unwrap(), "http://localhost:1");
        for text in ["localhost:8080", "ftp://x", "http://", ""] {
            assert!(checked(text).is_err(), "{text:?}");
        }
    }
}
