//! Each `sslmode` against a server with a certificate for `localhost`.

use std::path::Path;

use lyftr::store::postgres::{Postgres, Tuning};

use super::address;
use crate::support::certificates::{Certificates, Kind};
use crate::support::eventually;
use crate::support::postgres::{Cluster, Database};
use crate::torture::lasting_port;

#[test]
fn each_sslmode_protects_as_libpq_says() {
    let (ours, others) = (Certificates::make(), Certificates::make());
    let folder = tempfile::tempdir().unwrap();
    let root = |name: &str, certificates: &Certificates| {
        let file = folder.path().join(name);
        std::fs::write(&file, &certificates.authority).unwrap();
        format!("sslrootcert={}", Path::display(&file))
    };
    let (right, wrong) = (root("right.pem", &ours), root("wrong.pem", &others));
    let port = lasting_port();
    let cluster = Cluster::start_with_tls(port, &ours.certificate, &ours.key);
    let database = cluster.database();
    let open = |host: &str, parameters: &str| {
        let url = format!("postgres://postgres@{host}:{port}/{}?{parameters}", database.name());
        Postgres::open(&address(&url), Tuning::default())
    };
    for (host, parameters, encrypted) in [
        ("localhost", "sslmode=disable", false),
        ("localhost", "sslmode=prefer", true),
        ("127.0.0.1", "sslmode=require", true),
        ("127.0.0.1", &format!("sslmode=require&{right}"), true),
        ("127.0.0.1", &format!("sslmode=verify-ca&{right}"), true),
        ("localhost", &format!("sslmode=verify-full&{right}"), true),
    ] {
        let store = open(host, parameters).unwrap();
        assert_eq!(are_encrypted(&database), encrypted, "{parameters}");
        drop(store);
        none_is_left(&database);
    }
    for (host, parameters) in [
        ("127.0.0.1", &format!("sslmode=verify-full&{right}")),
        ("localhost", &format!("sslmode=verify-full&{wrong}")),
        ("localhost", &format!("sslmode=verify-ca&{wrong}")),
        ("localhost", &format!("sslmode=require&{wrong}")),
        ("localhost", &"sslmode=verify-full&sslrootcert=/no/such/file".to_owned()),
    ] {
        let refused = open(host, parameters).unwrap_err().to_string();
        assert!(refused.contains("cannot use the database"), "{parameters}: {refused}");
    }
}

const OURS: &str = "FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'lyftr'";

fn are_encrypted(database: &Database) -> bool {
    let both = database.number(&format!("SELECT count(DISTINCT ssl) {OURS}"));
    assert_eq!(both, 1, "all or none");
    database.number(&format!("SELECT count(*) FILTER (WHERE ssl) {OURS}")) > 0
}

fn none_is_left(database: &Database) {
    let open = format!("SELECT count(*) {OURS}");
    eventually("the connections end", || (database.number(&open) == 0).then_some(()));
}

/// As with `libpq`: whatever the certificate is like.
#[test]
fn any_certificate_will_do_where_nothing_is_verified_and_elsewhere_it_is_said_what_is_not_supported() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    let port = lasting_port();
    let first = Certificates::by_openssl(Kind::VersionOne);
    let mut cluster = Cluster::start_with_tls(port, &first.certificate, &first.key);
    let database = cluster.database();
    for (kind, said) in [
        (Kind::VersionOne, "X.509 version 1"),
        (Kind::P521, "ECDSA with P-521"),
        (Kind::ByP521, "ECDSA with P-521"),
        (Kind::Authority, "CA:TRUE"),
    ] {
        let made = Certificates::by_openssl(kind);
        cluster.stop();
        cluster.set_certificate(&made.certificate, &made.key);
        cluster.run();
        std::fs::write(&root, &made.authority).unwrap();
        let open = |parameters: &str| {
            let url = format!("postgres://postgres@localhost:{port}/{}?{parameters}", database.name());
            Postgres::open(&address(&url), Tuning::default())
        };
        for parameters in ["", "sslmode=prefer", "sslmode=require"] {
            let store = open(parameters).expect(parameters);
            assert!(are_encrypted(&database), "{kind:?} {parameters}");
            drop(store);
            none_is_left(&database);
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let refused = open(&format!("sslmode={mode}&sslrootcert={}", Path::display(&root)));
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("TLS") && refused.contains(said), "{kind:?} {mode}: {refused}");
            assert!(refused.contains("sslmode=require and no sslrootcert"), "what to do: {refused}");
        }
        // Of whom nobody can say whether he holds the key, nobody can say that it is he who authenticates.
        let bound = open("sslmode=require&channel_binding=require");
        assert_eq!(
            bound.unwrap_err().to_string().contains("ECDSA with P-521"),
            kind == Kind::P521,
            "{kind:?}"
        );
    }
}

#[test]
fn where_tls_cannot_be_had_prefer_goes_on_without_and_the_others_say_that_it_is_tls() {
    let port = lasting_port();
    let made = Certificates::make();
    let mut cluster = Cluster::start_with_tls(port, &made.certificate, &made.key);
    let database = cluster.database();
    let open = |parameters: &str| {
        let url = format!("postgres://postgres@localhost:{port}/{}?{parameters}", database.name());
        Postgres::open(&address(&url), Tuning::default())
    };
    let only_plain = |said: &str| {
        let store = open("sslmode=prefer").unwrap();
        assert!(!are_encrypted(&database), "{said}");
        drop(store);
        none_is_left(&database);
        let refused = open("sslmode=require").unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    };
    // An older protocol than the library knows: the handshake fails.
    cluster.set("ssl_min_protocol_version=TLSv1");
    cluster.set("ssl_max_protocol_version=TLSv1.1");
    cluster.stop();
    cluster.run();
    only_plain("TLS: the handshake with the database failed");
    // None at all.
    cluster.set("ssl=off");
    cluster.stop();
    cluster.run();
    only_plain("TLS: the server does not support it");
    // One that lets nobody in with it.
    cluster.set("ssl=on");
    cluster.set("ssl_max_protocol_version=");
    let rules = cluster.data().join("pg_hba.conf");
    std::fs::write(rules, "local all all trust\nhostnossl all all 127.0.0.1/32 trust\n").unwrap();
    cluster.stop();
    cluster.run();
    only_plain("the database rejected the user or the password");
}
