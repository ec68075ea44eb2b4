//! Tables in a schema of their own, users with other search paths, and an extension that is somewhere else.

use lyftr::store::Store;

use super::{Numbers, assert_answers, assert_right, numbers, open, store, try_open};
use crate::support::postgres::{Cluster, Database};
use crate::support::settle;

/// A database whose users come to a schema of this name.
fn with_schema(schema: &str) -> Database {
    let database = Database::new();
    database.query(&format!("CREATE SCHEMA \"{schema}\""), &[]);
    lead_to(&database, schema);
    database
}

fn lead_to(database: &Database, schema: &str) {
    database.query(&format!("ALTER DATABASE {} SET search_path = \"{schema}\"", database.name()), &[]);
}

#[test]
fn a_manual_change_on_another_search_path_is_noticed_and_touches_nothing_else() {
    let schema = "In Box";
    let database = with_schema(schema);
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    let session = database.session();
    // Names that a statement without a schema would find.
    session.run(
        "CREATE SCHEMA postgres; CREATE TABLE postgres.derived (is_void boolean);
         INSERT INTO postgres.derived VALUES (false);
         CREATE SEQUENCE postgres.event_batch; CREATE SEQUENCE postgres.event_change;
         CREATE FUNCTION postgres.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT ''DROP TABLE mine''';
         SET search_path = '$user'",
    );
    session.run(&format!(r#"DELETE FROM "{schema}".message WHERE message_id = 'm7'"#));
    let left: Numbers = (0..40).filter(|n| *n != 7).collect();
    assert_right(&service, &database, &left);
    session.run(&format!(
        r#"SET search_path = postgres, pg_catalog;
           DELETE FROM "{schema}".message WHERE message_id = 'm8';
           INSERT INTO "{schema}".message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
           SELECT message_id || '00', 0, sender, recipient, ts_second, ts_nanosecond, ts_digits, text
           FROM "{schema}".message WHERE false"#
    ));
    let left: Numbers = (0..40).filter(|n| ![7, 8].contains(n)).collect();
    assert_right(&service, &database, &left);
    assert_eq!(database.number("SELECT count(*) FROM postgres.derived WHERE is_void"), 0);
    assert_eq!(database.number("SELECT last_value FROM postgres.event_batch"), 1);
}

#[test]
fn a_schema_may_get_another_name() {
    let database = with_schema("before");
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    service.close();
    let session = database.session();
    session.run("ALTER SCHEMA before RENAME TO \"After\"");
    lead_to(&database, "After");
    let service = open(&database);
    session.run("SET search_path = pg_catalog; DELETE FROM \"After\".message WHERE message_id = 'm7'");
    session.run("INSERT INTO \"After\".message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
        SELECT 'm7', 1, sender, recipient, ts_second, ts_nanosecond, ts_digits, text FROM \"After\".message WHERE false");
    let left: Numbers = (0..40).filter(|n| *n != 7).collect();
    assert_right(&service, &database, &left);
    // And into another database, by a dump that names it.
    service.close();
    let other = Database::new();
    lead_to(&other, "After");
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let dump = dump.to_str().unwrap();
    Cluster::shared().tool("pg_dump", &database, &["--format=custom"], Some(dump));
    Cluster::shared().tool("pg_restore", &other, &[dump], None);
    let service = open(&other);
    assert_answers(&service, &left);
    other
        .session()
        .run("SET search_path = pg_catalog; DELETE FROM \"After\".message WHERE message_id = 'm9'");
    let left: Numbers = left.into_iter().filter(|n| *n != 9).collect();
    store(&service, 40..50);
    assert_right(&service, &other, &left.into_iter().chain(40..50).collect());
}

#[test]
fn an_inbox_that_the_search_path_no_longer_leads_to_is_not_taken_for_an_empty_one() {
    let database = with_schema("inbox");
    let service = open(&database);
    store(&service, 0..10);
    service.close();
    database.query(&format!("ALTER DATABASE {} RESET search_path", database.name()), &[]);
    let refused = try_open(&database).unwrap_err().to_string();
    assert!(refused.contains("search_path"), "{refused}");
    assert_eq!(database.number("SELECT count(*) FROM pg_tables WHERE tablename = 'event'"), 1);
    lead_to(&database, "inbox");
    assert_right(&open(&database), &database, &numbers(0..10));
}

#[test]
fn a_schema_without_its_content_is_refused_in_words() {
    let database = Database::new();
    let service = open(&database);
    service.close();
    database.query("DELETE FROM lyftr_schema", &[]);
    let refused = try_open(&database).unwrap_err().to_string();
    assert!(refused.contains("INSERT INTO lyftr_schema (version) VALUES (5)"), "{refused}");
    database.query("INSERT INTO lyftr_schema (version) VALUES (5)", &[]);
    database.query("DELETE FROM derived", &[]);
    let service = open(&database);
    store(&service, 0..10);
    assert_right(&service, &database, &numbers(0..10));
}

#[test]
fn an_extension_in_a_schema_of_its_own_is_found() {
    let database = Database::new();
    database.session().run("CREATE SCHEMA \"Ext ensions\"; CREATE EXTENSION pg_trgm SCHEMA \"Ext ensions\"");
    let service = open(&database);
    store(&service, 0..40);
    assert_right(&service, &database, &numbers(0..40));
    assert_eq!(
        database.number("SELECT count(*) FROM pg_tables WHERE tablename = 'event' AND schemaname = 'public'"),
        1
    );
}

/// Goes to the database as a user that may make tables there, and little else.
#[track_caller]
fn refusal_of_a_user(database: &Database) -> String {
    let role = format!("{}_owner", database.name());
    let session = database.session();
    session.run(&format!("CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}"));
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let refused = super::super::refusal(&url);
    session.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    refused
}

#[test]
fn an_extension_that_is_not_there_and_cannot_be_made_is_asked_for_in_words() {
    let refused = refusal_of_a_user(&Database::new());
    assert!(refused.contains("superuser run CREATE EXTENSION pg_trgm"), "{refused}");
}

#[test]
fn an_extension_that_may_not_be_used_is_asked_for_in_words() {
    let database = Database::new();
    database.session().run("CREATE SCHEMA closed; CREATE EXTENSION pg_trgm SCHEMA closed");
    let refused = refusal_of_a_user(&database);
    assert!(refused.contains("GRANT USAGE"), "{refused}");
}
