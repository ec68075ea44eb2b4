//! Each `sslmode` against a server with a certificate for `localhost`.

use std::path::Path;

use lyftr::store::postgres::{Postgres, Tuning};

use super::address;
use crate::support::certificates::Certificates;
use crate::support::postgres::Cluster;
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
        let of = |ssl| {
            database.number(&format!(
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE application_name = 'lyftr' AND ssl = {ssl}"
            ))
        };
        assert!(of(encrypted) > 0 && of(!encrypted) == 0, "{parameters}");
        drop(store);
        crate::support::eventually("the connections end", || (of(encrypted) == 0).then_some(()));
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
