//! What the documents say, held to the code, in both directions.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use lyftr::config::{Args, Config, Environment};
use lyftr::metrics::{METHODS, PATHS, WebhookResult};
use lyftr::server::Limits;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::openapi;
use crate::support::process::Process;
use crate::support::service::Service;

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/lyftr.json");
const README: &str = include_str!("../../README.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const HTTP_API: &str = include_str!("../../docs/http-api.md");
const INSTALL: &str = include_str!("../../docs/operations/install.md");
const PROXIES: &str = include_str!("../../docs/operations/proxies.md");
const RUNBOOK: &str = include_str!("../../docs/operations/runbook.md");
const WATCH: &str = include_str!("../../docs/operations/watch.md");

/// The text of `lyftr --help`.
fn help() -> String {
    let finished = Process::builder().args(&["--help"]).run();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished.stdout
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The secrets, as the help lists them.
fn secrets(help: &str) -> BTreeSet<String> {
    let (_, after) = help.split_once("Secrets come from the environment").expect("a list of secrets");
    let lines = after.lines().skip(1).take_while(|line| line.starts_with("  "));
    lines
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| is_name(word))
        .map(ToOwned::to_owned)
        .collect()
}

/// Every setting that the code has, and its default.
fn settings(help: &str) -> BTreeMap<String, String> {
    let command = Args::augment_args(clap::Command::new("lyftr"));
    let mut settings: BTreeMap<String, String> =
        secrets(help).into_iter().map(|name| (name, "none".into())).collect();
    for argument in command.get_arguments() {
        let name = argument.get_env().expect("every flag is a variable too").to_str().unwrap();
        let default = argument.get_default_values().first().map_or("none", |value| value.to_str().unwrap());
        settings.insert(name.to_owned(), default.to_owned());
    }
    settings
}

/// The rows "| `NAME` | `default` | …" of a document's tables.
fn documented_settings(document: &str) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in document.lines() {
        let Some((name, rest)) = line.strip_prefix("| `").and_then(|line| line.split_once("` |")) else {
            continue;
        };
        if !is_name(name) {
            continue;
        }
        let default = rest.split('|').next().unwrap().trim().trim_matches('`').to_owned();
        assert!(rows.insert(name.to_owned(), default).is_none(), "{name} twice");
    }
    rows
}

#[test]
fn every_setting_is_documented_with_its_default_and_no_other() {
    let settings = settings(&help());
    assert_eq!(documented_settings(CONFIGURATION), settings, "docs/configuration.md");
}

#[test]
fn connections_are_kept_for_longer_than_the_proxies_of_the_documents_keep_them() {
    let kept = settings(&help())["KEEP_ALIVE_SECS"].parse::<u64>().unwrap();
    assert_eq!(Limits::default().idle_timeout, Duration::from_secs(kept));
    assert!(kept > 60, "nginx and ALB keep them for 60 s");
    let nginx = PROXIES.split("    keepalive_timeout ").skip(1).map(|rest| rest.split_once("s;").unwrap().0);
    let nginx: Vec<u64> = nginx.map(|seconds| seconds.parse().unwrap()).collect();
    assert!(!nginx.is_empty() && nginx.iter().all(|seconds| *seconds < kept), "{nginx:?}");
    for example in
        [PROXIES, include_str!("../../docs/scaling.md"), include_str!("../../deploy/haproxy/haproxy.cfg")]
    {
        let haproxy = example.split("pool-purge-delay ").skip(1).map(|rest| rest.split_once('s').unwrap().0);
        let haproxy: Vec<u64> = haproxy.map(|seconds| seconds.parse().unwrap()).collect();
        assert!(!haproxy.is_empty() && haproxy.iter().all(|seconds| *seconds < kept), "{haproxy:?}");
    }
}

#[test]
fn the_help_names_every_setting_its_flag_and_its_default() {
    // However the terminal's width breaks the lines.
    let help = help().split_whitespace().collect::<Vec<_>>().join(" ");
    let command = Args::augment_args(clap::Command::new("lyftr"));
    for argument in command.get_arguments() {
        let name = argument.get_env().unwrap().to_str().unwrap();
        let flag = name.to_lowercase().replace('_', "-");
        assert_eq!(argument.get_long(), Some(&*flag), "a flag is called as its variable");
        assert!(help.contains(&format!("--{flag} ")), "--{flag}:\n{help}");
        // Without its value, in whose place a secret may stand.
        assert!(help.contains(&format!("[env: {name}]")), "{name}:\n{help}");
        for default in argument.get_default_values() {
            let default = default.to_str().unwrap();
            assert!(help.contains(&format!("[default: {default}]")), "{default}:\n{help}");
        }
    }
}

/// The secrets that the configuration asks the environment for, each with the variable that names its file.
fn secrets_asked_for() -> BTreeSet<String> {
    thread_local! {
        static ASKED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }
    let environment = Environment::of(|name| {
        ASKED.with_borrow_mut(|asked| asked.insert(name.to_owned()));
        None
    });
    let args = Args::augment_args(clap::Command::new("lyftr")).get_matches_from(["lyftr"]);
    Config::check(&Args::from_arg_matches(&args).unwrap(), environment).unwrap_err();
    let asked = ASKED.take();
    asked.iter().filter(|name| asked.contains(&format!("{name}_FILE"))).cloned().collect()
}

#[test]
fn every_secret_that_is_asked_for_is_in_the_help_and_has_a_file_form() {
    let asked = secrets_asked_for();
    assert!(asked.contains("WEBHOOK_SECRET"));
    assert_eq!(secrets(&help()), asked);
    for name in asked {
        assert!(CONFIGURATION.contains(&format!("`{name}_FILE`")), "{name}_FILE");
    }
}

/// Whether a word is the name of a metric by its end.
fn is_metric(word: &str) -> bool {
    const ENDS: [&str; 13] = [
        "_total",
        "_ms",
        "_seconds",
        "_messages",
        "_messages_max",
        "followers_max",
        "bodies_bytes_max",
        "_lag",
        "_bytes",
        "_open",
        "_info",
        "_fds",
        "_threads",
    ];
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && ENDS.iter().any(|end| word.ends_with(end))
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let service = Service::start();
    let page = service.client().metrics();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeMap<&str, &str> = types.map(|line| line.split_once(' ').unwrap()).collect();
    assert!(served.keys().all(|name| is_metric(name)), "{served:?}");
    let rows: BTreeMap<&str, &str> = WATCH
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| is_metric(name))
        .map(|(name, rest)| (name, rest.split(" |").next().unwrap()))
        .collect();
    assert_eq!(rows, served, "docs/operations/watch.md");
    // `latency_ms` is a key of the log.
    for document in [WATCH, RUNBOOK, INSTALL] {
        let mentioned =
            document.split('`').skip(1).step_by(2).filter(|word| is_metric(word) && *word != "latency_ms");
        for name in mentioned {
            assert!(served.contains_key(name), "docs/operations/ speaks of {name}");
        }
    }
}

#[test]
fn every_alert_has_a_heading_that_it_names_and_there_is_no_other() {
    let after = |key: &'static str| ALERTS.lines().filter_map(move |line| line.trim().strip_prefix(key));
    let alerts: Vec<&str> = after("- alert: ").collect();
    let section = RUNBOOK.split("\n## Alerts\n").nth(1).expect("a section").split("\n## ").next().unwrap();
    let headings: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(
        headings, alerts,
        "docs/operations/runbook.md and deploy/prometheus/alerts.yml, in the same order"
    );
    let runbooks: Vec<&str> = after("runbook: ").collect();
    let anchor = |alert: &&str| format!("docs/operations/runbook.md#{}", alert.to_lowercase());
    assert_eq!(runbooks, alerts.iter().map(anchor).collect::<Vec<_>>());
    for key in ["expr: ", "for: ", "labels: {severity: ", "summary: ", "description: "] {
        assert_eq!(after(key).count(), alerts.len(), "every alert has one: {key}");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are_and_the_dashboard_for_all() {
    let service = Service::start();
    let page = service.client().metrics();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let asked = |text: &'static str| -> BTreeSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        let ends = ["_bucket", "_sum", "_count"];
        let names = words.map(|word| ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word));
        names.filter(|name| is_metric(name)).collect()
    };
    assert_eq!(asked(DASHBOARD), served, "deploy/grafana/lyftr.json");
    let unknown: Vec<_> = asked(ALERTS).into_iter().filter(|name| !served.contains(name)).collect();
    assert!(unknown.is_empty(), "deploy/prometheus/alerts.yml asks for {unknown:?}");
}

#[test]
fn every_result_is_documented() {
    for result in WebhookResult::ALL.map(WebhookResult::label) {
        for (document, text) in [("watch.md", WATCH), ("http-api.md", HTTP_API)] {
            assert!(text.contains(&format!("`{result}`")), "{result} in {document}");
        }
    }
}

/// The routes that docs/openapi.json lists, each with its methods.
fn listed_routes() -> BTreeMap<&'static str, BTreeSet<String>> {
    let paths = openapi::document()["paths"].as_object().unwrap();
    let methods = |item: &Value| {
        let operations = item.as_object().unwrap().iter().filter(|(_, item)| item.get("responses").is_some());
        operations.map(|(method, _)| method.to_ascii_uppercase()).collect()
    };
    paths.iter().map(|(path, item)| (path.as_str(), methods(item))).collect()
}

#[test]
fn the_documents_and_the_metrics_name_the_same_routes() {
    let listed: BTreeSet<&str> = listed_routes().into_keys().collect();
    let counted: BTreeSet<&str> = PATHS.into_iter().filter(|path| *path != "other").collect();
    assert_eq!(listed, counted, "docs/openapi.json and PATHS");
    for path in listed {
        assert!(
            HTTP_API.contains(&format!("`{path}`")) || HTTP_API.contains(&format!(" {path}`")),
            "{path} in http-api.md"
        );
    }
}

#[test]
fn a_route_has_the_methods_that_the_document_lists_and_no_other() {
    let sources = crate::sources::parse(
        "[[source]]\nname = \"wa\"\nkind = \"whatsapp\"\nsecrets = [{ name = \"s\", env = \"SECRET\" }]",
        &[("SECRET", "a secret")],
        &[],
    );
    let service = Service::builder()
        .read_token("a-token")
        .admin_token("a-token-for-whoever-erases")
        .sources(sources.unwrap())
        .start();
    let mut client = service.client();
    for (path, listed) in listed_routes() {
        for method in METHODS {
            let target = if path == "/webhook/{name}" { "/webhook/wa" } else { path };
            let reply = client.request(method, target, &[], b"");
            // No cursor is called as its template.
            assert!(reply.status != 404 || path.contains('{'), "{method} {path}");
            assert_eq!(reply.status != 405, listed.contains(method), "{method} {path}");
            if reply.status == 405 {
                let allowed = reply.header("allow").unwrap().split(',');
                let allowed = allowed.map(|method| method.trim().to_owned()).collect();
                assert_eq!(listed, allowed, "{method} {path}");
            }
        }
    }
}

/// Calls `visit` with every schema that has examples, and each of them.
fn examples(value: &Value, visit: &mut impl FnMut(&Value, &Value)) {
    match value {
        Value::Object(members) => {
            if let Some(schema) = members.get("schema") {
                members.get("example").into_iter().for_each(|example| visit(schema, example));
                let named = members
                    .get("examples")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flat_map(|all| all.values());
                named.for_each(|example| visit(schema, &example["value"]));
            }
            members.values().for_each(|member| examples(member, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| examples(item, visit)),
        _ => {}
    }
}

#[test]
fn every_example_in_the_document_is_valid() {
    let mut count = 0;
    examples(openapi::document(), &mut |schema, example| {
        count += 1;
        openapi::validate(schema, example).unwrap_or_else(|why| panic!("{example} by {schema}: {why}"));
    });
    assert!(count > 30, "{count} examples");
}

#[test]
fn every_schema_in_the_document_is_one() {
    for (name, _) in openapi::document()["components"]["schemas"].as_object().unwrap() {
        // Whether it is valid does not matter; that the schema can be used does.
        let _verdict =
            openapi::validate(&json!({"$ref": format!("#/components/schemas/{name}")}), &Value::Null);
    }
}

/// Posts what a document shows as a message.
#[track_caller]
fn accept(client: &mut Client, text: &str) {
    let reply = client.send_bytes(text.as_bytes());
    assert_eq!(reply.line(), r#"200 {"status":"ok"}"#, "{text}");
}

#[test]
fn the_messages_that_the_documents_show_are_accepted() {
    let service = Service::start();
    let mut client = service.client();
    let in_readme: Vec<&str> =
        README.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap().trim()).collect();
    assert!(!in_readme.is_empty());
    for text in in_readme {
        accept(&mut client, text);
    }
    let is_message = |line: &&str| line.trim_start().starts_with(r#"{"message_id""#);
    let in_http_api: Vec<&str> = HTTP_API.lines().filter(is_message).map(str::trim).collect();
    assert!(!in_http_api.is_empty());
    for text in in_http_api {
        accept(&mut client, text);
    }
    let content =
        &openapi::document()["paths"]["/webhook"]["post"]["requestBody"]["content"]["application/json"];
    let examples = content["examples"].as_object().unwrap();
    assert!(!examples.is_empty());
    for example in examples.values() {
        accept(&mut client, &example["value"].to_string());
    }
}

#[test]
fn the_signature_that_the_document_shows_is_right() {
    let after = |text: &'static str, mark: &str, end: char| {
        text.split_once(mark).unwrap().1.split(end).next().unwrap()
    };
    let secret = after(HTTP_API, "export WEBHOOK_SECRET='", '\'');
    let body = after(HTTP_API, "BODY='", '\'');
    let shown = after(HTTP_API, "the signature is `", '`');
    assert_eq!(lyftr::signature::Key::new(secret.as_bytes()).sign(body.as_bytes()), shown);
}

/// The folder of the package, and so of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository with this extension.
fn files_with(extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                // Build folders, virtual environments and others that are no part of the repository.
                if !name.starts_with('.') && !name.starts_with("target") && name != "node_modules" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files
}

/// The lines of a Markdown text that are not inside a code block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors that GitHub gives to the headings of a Markdown text.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in prose(text).filter(|line| line.starts_with('#')) {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        assert!(anchors.insert(anchor), "a heading twice, so that its anchor is ambiguous: {heading}");
    }
    anchors
}

/// The targets of the links in a Markdown text.
fn links(text: &str) -> Vec<String> {
    let text = prose(text).collect::<Vec<_>>().join("\n");
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut count = 0;
    let mut dead = Vec::new();
    for file in files_with("md") {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (path, anchor) =
                link.split_once('#').map_or((&*link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            let leads = target.exists()
                && anchor.is_none_or(|anchor| {
                    std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor))
                });
            if !leads {
                dead.push(format!("{}: {link}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(count > 100, "{count} links");
    assert!(dead.is_empty(), "links that lead nowhere: {dead:#?}");
}

#[test]
fn every_source_file_that_a_document_names_is_there() {
    let sources = files_with("rs");
    let (mut count, mut missing) = (0, Vec::new());
    for file in files_with("md") {
        // Decisions and runs tell of the code as it was.
        if file.starts_with(root().join("docs/decisions")) || file.starts_with(root().join("docs/runs")) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let text = prose(&text).collect::<Vec<_>>().join("\n");
        let quoted = text.split('`').skip(1).step_by(2);
        let is_source = |word: &&str| Path::new(word).extension().is_some_and(|found| found == "rs");
        for name in quoted.filter(is_source).filter(|word| !word.contains(['*', ' ', '\n'])) {
            count += 1;
            if !sources.iter().any(|source| source.ends_with(name)) {
                missing.push(format!("{}: {name}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(count > 30, "{count} names");
    assert!(missing.is_empty(), "files that are not there: {missing:#?}");
}
