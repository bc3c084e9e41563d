//! Clients that show a certificate. Connections made with one are never used for another endpoint, so each has an HTTP
//! client of its own, with its own connections.

use std::error::Error;
use std::time::Duration;

use domain::SecretId;
use domain::endpoint::policy::CertificateChain;
use moka::sync::Cache;
use reqwest::{Client, ClientBuilder, Identity};
use zeroize::Zeroizing;

use super::install_crypto;
use super::proof::Certificate;

/// For how many certificates clients are kept.
const KEPT: u64 = 256;
/// One that is not used for so long is closed.
const CLOSED_AFTER: Duration = Duration::from_mins(10);

/// Why a certificate cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// The texts do not hold one or more certificates and one private key.
    #[error(
        "the certificate or its private key cannot be read; both must be in PEM form, the key not encrypted"
    )]
    Unreadable,
    /// They do not belong together, or are of a kind that TLS does not take.
    #[error("the certificate cannot be used with this private key: {0}")]
    Unusable(String),
}

/// Whether a certificate with a key can be shown to receivers.
pub fn check_certificate(chain: &CertificateChain, key: &str) -> Result<(), InvalidCertificate> {
    install_crypto();
    client(Client::builder(), chain, key).map(drop)
}

/// The clients that show certificates.
#[derive(Debug, Clone)]
pub(super) struct Certificates(Cache<SecretId, Client>);

impl Certificates {
    pub(super) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(KEPT)
            .time_to_idle(CLOSED_AFTER)
            .build();
        Self(cache)
    }

    /// The client that shows this certificate.
    pub(super) fn client(
        &self,
        certificate: &Certificate,
        builder: impl FnOnce() -> ClientBuilder,
    ) -> Result<Client, InvalidCertificate> {
        if let Some(client) = self.0.get(&certificate.name) {
            return Ok(client);
        }
        let client = client(builder(), &certificate.chain, certificate.key.reveal())?;
        self.0.insert(certificate.name.clone(), client.clone());
        Ok(client)
    }
}

fn client(builder: ClientBuilder, chain: &CertificateChain, key: &str) -> Result<Client, InvalidCertificate> {
    let pem = Zeroizing::new(format!("{}\n{key}\n", chain.as_str()));
    let identity = Identity::from_pem(pem.as_bytes()).map_err(|_| InvalidCertificate::Unreadable)?;
    builder.identity(identity).build().map_err(|error| {
        let mut cause: &(dyn Error + 'static) = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        InvalidCertificate::Unusable(cause.to_string())
    })
}
