//! Certificates for servers that a test starts.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority, and a certificate that it gave out for `localhost`, with its key: all as PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        Self { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A certificate of a kind that `rcgen` does not make, as people make it: with `openssl`, which comes with Debian's
/// PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As the manual of PostgreSQL makes it: signed by an authority, X.509 version 1.
    VersionOne,
    /// For `localhost`, with a key on the curve P-521.
    P521,
    /// An authority's own, for `localhost`, as `openssl req -x509` makes it.
    Authority,
    /// For `localhost`, by an authority whose own key is on the curve P-521.
    ByP521,
}

impl Certificates {
    pub(crate) fn by_openssl(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &str| openssl(folder.path(), arguments);
        let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let curve = |curve: &str| format!("-newkey ec -pkeyopt ec_paramgen_curve:{curve}");
        let (of_authority, of_server) = match kind {
            Kind::VersionOne | Kind::Authority => {
                ("-newkey rsa:2048".to_owned(), "-newkey rsa:2048".to_owned())
            }
            Kind::P521 => (curve("P-256"), curve("P-521")),
            Kind::ByP521 => (curve("P-521"), curve("P-256")),
        };
        std::fs::write(
            folder.path().join("v3"),
            "subjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n",
        )
        .unwrap();
        let subject = "-nodes -days 36500 -subj /CN=localhost";
        run(&format!(
            "req -new -x509 {of_authority} {subject} -addext subjectAltName=DNS:localhost -keyout ca.key -out ca.crt"
        ));
        if kind == Kind::Authority {
            return Self { authority: file("ca.crt"), certificate: file("ca.crt"), key: file("ca.key") };
        }
        run(&format!("req -new {of_server} {subject} -keyout key -out request"));
        let extensions = if kind == Kind::VersionOne { "" } else { "-extfile v3" };
        let sign = format!(
            "x509 -req -in request -days 36500 -CA ca.crt -CAkey ca.key -CAcreateserial {extensions}"
        );
        run(&format!("{sign} -out certificate"));
        let text = run("x509 -in certificate -noout -text");
        let version = if kind == Kind::VersionOne { "Version: 1 " } else { "Version: 3 " };
        assert!(text.contains(version), "{text}");
        Self { authority: file("ca.crt"), certificate: file("certificate"), key: file("key") }
    }
}

fn openssl(folder: &Path, arguments: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(folder);
    let done = command.output().expect("openssl is missing; to run these tests: apt-get install openssl");
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
