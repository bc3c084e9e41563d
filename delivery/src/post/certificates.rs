//! Clients that show a certificate. Connections made with one are never used for another endpoint, so each has an HTTP
//! client of its own, with its own connections.

use std::error::Error;
use std::time::Duration;

use domain::SecretId;
use domain::endpoint::policy::CertificateChain;
use moka::sync::Cache;
use reqwest::{Client, ClientBuilder, Identity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
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

/// Whether a certificate with a key can be shown to receivers: the same checks as when it is used, without a client,
/// which would read the machine's authorities.
pub fn check_certificate(chain: &CertificateChain, key: &str) -> Result<(), InvalidCertificate> {
    install_crypto();
    identity(chain, key)?;
    let certificates = CertificateDer::pem_slice_iter(chain.as_str().as_bytes());
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let certificates = certificates.map_err(|_| InvalidCertificate::Unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| InvalidCertificate::Unreadable)?;
    ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(certificates, key)
        .map(drop)
        .map_err(|error| InvalidCertificate::Unusable(error.to_string()))
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

fn identity(chain: &CertificateChain, key: &str) -> Result<Identity, InvalidCertificate> {
    let pem = Zeroizing::new(format!("{}\n{key}\n", chain.as_str()));
    Identity::from_pem(pem.as_bytes()).map_err(|_| InvalidCertificate::Unreadable)
}

fn client(builder: ClientBuilder, chain: &CertificateChain, key: &str) -> Result<Client, InvalidCertificate> {
    builder.identity(identity(chain, key)?).build().map_err(|error| {
        let mut cause: &(dyn Error + 'static) = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        InvalidCertificate::Unusable(cause.to_string())
    })
}
