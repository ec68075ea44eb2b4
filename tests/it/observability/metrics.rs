//! The page of metrics: its format, its closed set of series, and that its figures agree with each other.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use lyftr::metrics::{METHODS, PATHS, STATUSES, WebhookResult};

use super::traffic;
use crate::support::client::Client;
use crate::support::service::{Fault, Service};
use crate::support::{eventually, message, on_sqlite};

/// A sample: the name and labels as on the page, and the value.
type Samples = BTreeMap<String, f64>;

/// The page as Prometheus reads it: text format 0.0.4, where each metric's HELP and TYPE come before its samples
/// and all of a metric stands together.
#[track_caller]
fn parse(page: &str) -> (BTreeMap<String, String>, Samples) {
    let (mut types, mut helps, mut samples) = (BTreeMap::new(), BTreeSet::new(), Samples::new());
    let mut current = String::new();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a text");
            assert!(!text.trim().is_empty() && helps.insert(name.to_owned()), "{line}");
            name.clone_into(&mut current);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, current, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().unwrap();
            let kind = types.get(&current).unwrap_or_else(|| panic!("no TYPE before {line}"));
            let family = match kind.as_str() {
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).expect(line)
                }
                _ => name,
            };
            assert_eq!(family, current, "stands with its own: {line}");
            check_labels(series);
            let value = if value == "+Inf" { f64::INFINITY } else { value.parse().expect(line) };
            assert!(value >= 0.0, "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    assert_eq!(helps, types.keys().cloned().collect());
    (types, samples)
}

/// `name` or `name{label="value",…}`, of plain characters only.
#[track_caller]
fn check_labels(series: &str) {
    let plain =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b"_".contains(&b));
    let (name, labels) =
        series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
    assert!(plain(name), "{series}");
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').expect(series);
        assert!(plain(name), "{series}");
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect(series);
        assert!(!value.contains(['"', '\\', '\n']), "{series}");
    }
}

#[track_caller]
fn scrape(client: &mut Client) -> Samples {
    parse(&client.metrics()).1
}

/// The sum of all samples whose series begins so.
fn sum(samples: &Samples, begin: &str) -> f64 {
    samples.iter().filter(|(series, _)| series.starts_with(begin)).map(|(_, value)| value).sum()
}

#[test]
fn the_page_is_prometheus_text_before_and_after_traffic() {
    let service = Service::start();
    let mut client = service.client();
    for _ in 0..3 {
        let (types, samples) = parse(&client.metrics());
        for (name, kind) in types {
            if kind == "counter" {
                assert!(name.ends_with("_total"), "{name}");
            }
            if kind == "histogram" {
                check_histogram(&samples, &name);
            }
        }
        traffic(&mut client);
    }
}

/// For each set of labels, buckets go up in both bound and count, and the last one holds everything.
fn check_histogram(samples: &Samples, name: &str) {
    let mut histograms: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, count) in samples {
        let Some(labels) = series.strip_prefix(&format!("{name}_bucket{{")) else { continue };
        let (labels, bound) = labels.split_once("le=\"").unwrap();
        let bound = bound.strip_suffix("\"}").unwrap();
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        histograms.entry(labels.trim_end_matches(',').to_owned()).or_default().push((bound, *count));
    }
    assert!(!histograms.is_empty(), "{name}");
    for (labels, mut buckets) in histograms {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rise = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        assert!(buckets.len() > 2 && rise, "{name} {labels}: {buckets:?}");
        let (bound, all) = buckets[buckets.len() - 1];
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        assert_eq!((bound, all), (f64::INFINITY, samples[&format!("{name}_count{braced}")]));
        assert!(all > 0.0 || samples[&format!("{name}_sum{braced}")] == 0.0);
    }
}

#[test]
fn counters_never_go_down() {
    let service = Service::start();
    let mut client = service.client();
    let mut before = scrape(&mut client);
    for _ in 0..3 {
        traffic(&mut client);
        let now = scrape(&mut client);
        for (series, value) in
            before.iter().filter(|(series, _)| series.contains("_total") || series.contains("_bucket"))
        {
            assert!(now[series] >= *value, "{series}");
        }
        before = now;
    }
}

#[test]
fn the_page_tells_what_the_store_takes_and_what_is_left_unless_it_is_on_a_server() {
    let service = Service::start();
    let mut client = service.client();
    let before = scrape(&mut client);
    if !on_sqlite() {
        assert!(!before.contains_key("store_bytes") && !before.contains_key("store_disk_free_bytes"));
        return;
    }
    for n in 0..50 {
        client.send(&message(&format!("m{n}")));
    }
    let after = scrape(&mut client);
    assert!(after["store_bytes"] > before["store_bytes"], "{before:?} {after:?}");
    assert!(after["store_disk_free_bytes"] > 0.0);
}

#[test]
fn the_page_comes_without_the_sizes_of_a_disk_that_hangs() {
    let service = Service::start();
    let mut client = service.client();
    service.faulty().spaces.all(Fault::Block);
    for _ in 0..2 {
        let samples = scrape(&mut client);
        assert!(!samples.contains_key("store_bytes") && !samples.contains_key("store_disk_free_bytes"));
    }
    assert_eq!(service.faulty().spaces.blocked(), 1, "one thread waits, not one a scrape");
    service.faulty().heal();
    assert_eq!(scrape(&mut client).contains_key("store_disk_free_bytes"), on_sqlite());
}

/// A word as a scanner might guess it.
fn word(rng: &mut Rng) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-._~%";
    (0..=rng.usize(..12)).map(|_| char::from(LETTERS[rng.usize(..LETTERS.len())])).collect()
}

#[test]
fn a_scan_adds_no_series() {
    let service = Service::start();
    let mut client = service.client();
    // A path of each template, and a name that no cursor may have.
    let of_template = |path: &str| path.replace("{name}", "c").replace("{position}", "x");
    let mut paths: Vec<_> = PATHS.map(of_template).into();
    paths.retain(|path| path != "other");
    let known = paths.clone();
    paths.extend(["/nowhere".to_owned(), "/cursors/~".to_owned()]);
    for path in &paths {
        for method in METHODS {
            client.request(method, path, &[], b"");
        }
    }
    let first = scrape(&mut client);
    let mut rng = Rng::with_seed(4711);
    let mut scan = |requests: usize| {
        for _ in 0..requests {
            let known = &known[rng.usize(..known.len())];
            let path = match rng.usize(..4) {
                0 => known.clone(),
                1 => format!("{known}/{}", word(&mut rng)),
                2 => format!("{known}?{}={}", word(&mut rng), word(&mut rng)),
                _ => format!("/{}/{}", word(&mut rng), word(&mut rng)),
            };
            let method = match rng.usize(..3) {
                0 => METHODS[rng.usize(..METHODS.len())].to_owned(),
                1 => "GET".to_owned(),
                _ => word(&mut rng).replace(['~', '%'], ""),
            };
            let method = if method.is_empty() { "GET".to_owned() } else { method };
            client.request(&method, &path, &[], b"");
        }
        scrape(&mut client)
    };
    let second = scan(1000);
    let added: Vec<_> = second.keys().filter(|series| !first.contains_key(*series)).collect();
    assert!(added.is_empty(), "{added:?}");
    for series in second.keys().filter_map(|series| series.strip_prefix("http_requests_total{")) {
        let values: Vec<_> = series.split('"').skip(1).step_by(2).collect();
        assert!(METHODS.contains(&values[0]) && PATHS.contains(&values[1]), "{series}");
        assert!(values[2] == "other" || STATUSES.contains(&values[2].parse().unwrap()), "{series}");
    }
    let all = METHODS.len() * paths.len() + 1 + 1000;
    assert_eq!(sum(&second, "http_requests_total"), all as f64, "the first scrape is counted too");
}

#[test]
fn requests_results_latencies_and_lines_agree() {
    let service = Service::start();
    let mut client = service.client();
    for _ in 0..3 {
        traffic(&mut client);
    }
    service.faulty().inserts.nth(1, Fault::Unavailable);
    client.send(&message("m9"));
    let samples = scrape(&mut client);
    let lines = || service.log().values();
    let requests = sum(&samples, "http_requests_total");
    assert_eq!(requests, samples["request_latency_ms_count"]);
    assert_eq!(requests, sum(&samples, "http_request_duration_seconds_count"));
    // The line of the scrape is not counted on its own page.
    eventually("as many lines as requests", || (lines().len() as f64 == requests + 1.0).then_some(()));
    let posted = sum(&samples, "http_requests_total{method=\"POST\",path=\"/webhook\"");
    assert_eq!(posted, sum(&samples, "webhook_requests_total"));
    for result in WebhookResult::ALL.map(WebhookResult::label) {
        let counted = samples[&format!("webhook_requests_total{{result=\"{result}\"}}")];
        let logged = lines().iter().filter(|line| line["result"] == result).count();
        assert_eq!(counted, logged as f64, "{result}");
    }
    for status in STATUSES {
        let counted: f64 = samples
            .iter()
            .filter(|(series, _)| series.contains(&format!("status=\"{status}\"")))
            .map(|(_, value)| value)
            .sum();
        let logged = lines().iter().filter(|line| line["status"] == status).count() as f64;
        let scrape = if status == 200 { 1.0 } else { 0.0 };
        assert_eq!(counted + scrape, logged, "{status}");
    }
    assert_eq!(samples["store_errors_total"], 1.0);
    assert_eq!(samples["connections_open"], 1.0);
}
