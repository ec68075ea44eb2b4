//! Features of a server's certificate that the TLS library does not support, and does not name in its errors.

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use rustls::{CertificateError, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};

/// A signature scheme that `ring` cannot verify, and that servers in use have.
pub(super) const UNVERIFIABLE: SignatureScheme = SignatureScheme::ECDSA_NISTP521_SHA512;
/// The curve of the keys of [`UNVERIFIABLE`] ([RFC 5480](https://www.rfc-editor.org/rfc/rfc5480#section-2.1.1.1)).
const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

const VERSION: &str = "TLS: the certificate of the database is of X.509 version 1, which is not supported where certificates \
    are verified; make one of version 3 with the host in its subjectAltName (openssl x509 -req -extfile …), or encrypt \
    without verifying: sslmode=require and no sslrootcert";
const KEY: &str = "TLS: the certificate of the database has a key or a signature that is not supported where it is to be \
    verified, such as ECDSA with P-521; make one with RSA of 2048 bits or more, ECDSA with P-256 or P-384, or Ed25519, or \
    encrypt without verifying: sslmode=require and no sslrootcert";
const AUTHORITY: &str = "TLS: the certificate of the database is an authority's own (CA:TRUE), which is not supported for a \
    server where certificates are verified; make one for the server that the authority signs, or encrypt without \
    verifying: sslmode=require and no sslrootcert";

/// The unsupported feature of a certificate that is to be verified, if it has one. `error` is the result of its
/// verification.
pub(super) fn unsupported(certificate: &CertificateDer<'_>, error: Option<&Error>) -> Option<&'static str> {
    let parsed = Certificate::from_der(certificate).ok()?;
    if parsed.tbs_certificate.version != Version::V3 {
        return Some(VERSION);
    }
    match error {
        Some(Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        )) => Some(KEY),
        // The library reports it in this way alone.
        Some(Error::InvalidCertificate(CertificateError::Other(other)))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            Some(AUTHORITY)
        }
        _ => Key::of(certificate).ok()?.unsupported(),
    }
}

/// The public key in a certificate of any X.509 version.
pub(super) struct Key {
    /// The algorithm of the key, as DER.
    algorithm: Vec<u8>,
    is_p521: bool,
    bytes: Vec<u8>,
}

impl Key {
    /// Reads the key.
    ///
    /// # Errors
    /// The certificate is not valid DER.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let key = Certificate::from_der(certificate).map_err(bad)?.tbs_certificate.subject_public_key_info;
        let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as().ok());
        Ok(Self {
            algorithm: key.algorithm.to_der().map_err(bad)?,
            is_p521: curve == Some(SECP521R1),
            bytes: key.subject_public_key.raw_bytes().to_owned(),
        })
    }

    /// Whether this key makes signatures by `scheme`, and they cannot be verified here.
    pub(super) fn is_unverifiable_by(&self, scheme: SignatureScheme) -> bool {
        self.is_p521 && scheme == UNVERIFIABLE
    }

    /// The unsupported feature of this key, if it has one.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        self.is_p521.then_some(KEY)
    }

    /// Whether `signature` over `message` was made with this key.
    pub(super) fn signed(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        // `ring` names a kind of key without the two bytes that its DER begins with.
        self.algorithm.get(2..) == Some(algorithm.public_key_alg_id().as_ref())
            && algorithm.verify_signature(&self.bytes, message, signature).is_ok()
    }
}
