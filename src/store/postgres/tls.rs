//! How the way to the server is protected.

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

/// Makes what encrypts connections; none where nothing is to be encrypted.
///
/// # Errors
/// The file of the authorities cannot be read, or has none in it.
pub(super) fn connector(
    protection: &Protection,
    binding: ChannelBinding,
) -> Result<Option<Connector>, Cause> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (authorities, any_host) = match protection {
        Protection::None => return Ok(None),
        Protection::IfOffered | Protection::Encrypted => (None, true),
        Protection::Authority(root) => (Some(authorities(root, &provider)?), true),
        Protection::Host(root) => (Some(authorities(root, &provider)?), false),
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

/// Looks at the certificate of the server as far as `sslmode` asks for it.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Where none are named any certificate will do, as with `libpq`.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Whatever host it is for.
    any_host: bool,
    /// `channel_binding=require`: who authenticates is to be who holds the key of the certificate.
    is_bound: bool,
}

impl Verifier {
    /// Whether the server holds the key of a certificate that nothing else is asked of. Where this library cannot say, the
    /// connection is encrypted all the same: who stands in between could show a certificate of his own, too.
    fn verify_key(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = certificate::Key::of(certificate)?;
        if key.is_beyond_us(signature.scheme) && !self.is_bound {
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
            // Looked at last, when everything else is right.
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

    /// Also one that cannot be verified: a server that has no other shows its certificate only then, and what is wrong
    /// with it can be said.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        schemes.push(certificate::BEYOND_US);
        schemes
    }
}

/// What is not supported about a certificate, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unsupported(&'static str);

fn unsupported(why: &'static str) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Unsupported(why)))))
}

/// TLS could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct HandshakeFailed {
    why: &'static str,
    source: io::Error,
}

/// Encrypts connections.
#[derive(Clone)]
pub(super) struct Connector(MakeRustlsConnect);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

/// Encrypts one.
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

/// Why TLS could not be had, if that is what failed.
pub(super) fn failure(error: &tokio_postgres::Error) -> Option<&'static str> {
    let source = std::error::Error::source(error)?;
    if let Some(HandshakeFailed { why, .. }) = source.downcast_ref() {
        return Some(why);
    }
    (source.to_string() == "server does not support TLS")
        .then_some("TLS: the server does not offer it; set ssl=on there, or sslmode=prefer here")
}

/// What a failed handshake means to who has to mend it.
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
            "TLS: the certificate of the database is of no authority in sslrootcert"
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
