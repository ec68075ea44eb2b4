//! How the way to the server is protected.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::Cause;

/// What the connection to the server is to withstand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Protection {
    /// Nothing.
    None,
    /// Eavesdropping, if the server can do it.
    IfOffered,
    /// Eavesdropping.
    Encrypted,
    /// Also a server without a certificate of one of these authorities.
    Authority(PathBuf),
    /// Also a server with a certificate for another host.
    Host(PathBuf),
}

/// Makes what encrypts connections.
///
/// # Errors
/// The file of the authorities cannot be read, or has none in it.
pub(super) fn connector(protection: &Protection) -> Result<MakeRustlsConnect, Cause> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let any_host = |authorities| AnyHost { provider: Arc::clone(&provider), authorities };
    let verifier: Arc<dyn ServerCertVerifier> = match protection {
        Protection::None | Protection::IfOffered | Protection::Encrypted => Arc::new(any_host(None)),
        Protection::Authority(root) => Arc::new(any_host(Some(authorities(root, &provider)?))),
        Protection::Host(root) => authorities(root, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn authorities(root: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Cause> {
    let unusable = |why: &dyn std::fmt::Display| format!("cannot use sslrootcert {}: {why}", root.display());
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        store.add(certificate).map_err(|error| unusable(&error))?;
    }
    if store.is_empty() {
        return Err(unusable(&"there is no certificate in it").into());
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
    Ok(builder.build()?)
}

/// Takes a certificate of the right authorities whatever host it is for; any certificate where none are named, as
/// `libpq` does for `sslmode=require`.
#[derive(Debug)]
struct AnyHost {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // Looked at last, when everything else is right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
