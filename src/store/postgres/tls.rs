//! TLS to the server.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use tokio_postgres::Socket;
use tokio_postgres::config::ChannelBinding;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::certificate;
use crate::store::Cause;

/// The protection of a connection, by the names of libpq's `sslmode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// Without TLS.
    Disable,
    /// With TLS if the server offers it; any certificate.
    Prefer,
    /// With TLS; any certificate.
    Require,
    /// With TLS; a certificate that one of the authorities in this file has signed.
    VerifyCa(PathBuf),
    /// As [`VerifyCa`](Self::VerifyCa), and the certificate is for the host in the URL.
    VerifyFull(PathBuf),
}

/// The TLS connector for a mode; none for [`TlsMode::Disable`].
///
/// # Errors
/// The file of `sslrootcert` cannot be read, or has no certificate in it.
pub(super) fn connector(tls_mode: &TlsMode, binding: ChannelBinding) -> Result<Option<Connector>, Cause> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (authorities, any_host) = match tls_mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Prefer | TlsMode::Require => (None, true),
        TlsMode::VerifyCa(root) => (Some(authorities(root, &provider)?), true),
        TlsMode::VerifyFull(root) => (Some(authorities(root, &provider)?), false),
    };
    let is_bound = binding == ChannelBinding::Require;
    let verifier = Verifier { provider: Arc::clone(&provider), authorities, any_host, is_bound };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Some(Connector(MakeRustlsConnect::new(config))))
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

/// Verifies the certificate of the server as far as `sslmode` asks for it.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None if any certificate will do, as with `libpq`.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Accept a certificate for any host.
    any_host: bool,
    /// `channel_binding=require`: the server that authenticates must hold the key of the certificate.
    is_bound: bool,
}

impl Verifier {
    /// Verifies that the server holds the key of its certificate, in the modes that accept any certificate. A signature that
    /// this library cannot verify is accepted: in these modes an attacker in between could show a certificate of his own
    /// anyway.
    fn verify_key(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = certificate::Key::of(certificate)?;
        if key.is_unverifiable_by(signature.scheme) && !self.is_bound {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let fitting =
            mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme).flat_map(|(_, all)| *all);
        if fitting.into_iter().any(|algorithm| key.signed(*algorithm, message, signature.signature())) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(key.unsupported().map_or(Error::InvalidCertificate(CertificateError::BadSignature), unsupported))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let verified = authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        if let Some(why) = certificate::unsupported(certificate, verified.as_ref().err()) {
            return Err(unsupported(why));
        }
        match verified {
            // The library checks the name last, when everything else is right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_host => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.authorities.is_none() {
            return self.verify_key(message, certificate, signature);
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.authorities.is_none() {
            return self.verify_key(message, certificate, signature);
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    /// Includes one scheme that cannot be verified: a server that has no other shows its certificate only then, and the
    /// error can name the fault.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        schemes.push(certificate::UNVERIFIABLE);
        schemes
    }
}

/// The unsupported feature of a certificate, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unsupported(&'static str);

fn unsupported(why: &'static str) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Unsupported(why)))))
}

/// The TLS handshake failed.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct HandshakeFailed {
    why: &'static str,
    source: io::Error,
}

/// Makes TLS handshakes.
#[derive(Clone)]
pub(super) struct Connector(MakeRustlsConnect);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

/// The handshake of one connection.
pub(super) struct Handshake(<MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = Handshake;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, host).map(Handshake)
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type Error = Cause;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Cause>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let connecting = self.0.connect(socket);
        Box::pin(async {
            connecting.await.map_err(|source| HandshakeFailed { why: words(&source), source }.into())
        })
    }
}

/// The reason if it was TLS that failed.
pub(super) fn failure(error: &tokio_postgres::Error) -> Option<&'static str> {
    let source = std::error::Error::source(error)?;
    if let Some(HandshakeFailed { why, .. }) = source.downcast_ref() {
        return Some(why);
    }
    (source.to_string() == "server does not support TLS")
        .then_some("TLS: the server does not support it; set ssl=on there, or sslmode=prefer here")
}

/// The cause of a failed handshake, in words for the operator.
fn words(error: &io::Error) -> &'static str {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(error)) = error else {
        return "TLS: the handshake with the database failed";
    };
    match error {
        CertificateError::Other(OtherError(other)) => other
            .downcast_ref()
            .map_or("TLS: the certificate of the database is refused", |Unsupported(why)| why),
        CertificateError::UnknownIssuer => {
            "TLS: the certificate of the database is not signed by an authority in sslrootcert"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "TLS: the certificate of the database is not for the host in the URL; what counts is its subjectAltName, not \
             its common name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "TLS: the certificate of the database has expired"
        }
        _ => "TLS: the certificate of the database is refused",
    }
}
