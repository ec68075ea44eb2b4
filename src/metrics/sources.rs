//! The metrics of the configured sources, which come and go with the configuration.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};

use super::text::Page;
use super::{Counter, KeyUse, WebhookResult, labels};
use crate::event::Source;
use crate::source::Refusal;

/// The metrics of one source.
#[derive(Debug)]
pub struct SourceMetrics {
    name: Source,
    counts: Arc<Counts>,
    /// The secrets by name, in the order of the configuration.
    keys: Vec<(String, Arc<KeyUse>)>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: [Counter; WebhookResult::OF_SOURCES.len()],
    refused: [Counter; Refusal::ALL.len()],
    events: [Counter; WebhookResult::STORED.len()],
    malformed: Counter,
    repeated: Counter,
}

impl SourceMetrics {
    /// The name of the source.
    pub fn name(&self) -> &Source {
        &self.name
    }

    /// Counts a request by its result, and by the reason if its signature was refused.
    pub fn request(&self, result: WebhookResult, refusal: Option<Refusal>) {
        if let Some(counter) = labels::counter(&WebhookResult::OF_SOURCES, &self.counts.requests, &result) {
            counter.increment();
        }
        let refused =
            refusal.and_then(|refusal| labels::counter(&Refusal::ALL, &self.counts.refused, &refusal));
        if let Some(counter) = refused {
            counter.increment();
        }
    }

    /// Counts a request whose signature the `nth` secret verified, at this Unix time.
    pub fn verified(&self, nth: usize, now_s: u64) {
        if let Some((_, key)) = self.keys.get(nth) {
            key.count(now_s);
        }
    }

    /// Counts an event by its result.
    pub fn event(&self, result: WebhookResult) {
        if let Some(counter) = labels::counter(&WebhookResult::STORED, &self.counts.events, &result) {
            counter.increment();
        }
    }

    /// Counts an event that was stored though it could not be understood.
    pub fn malformed(&self) {
        self.counts.malformed.increment();
    }

    /// Counts a body that came before under another id.
    pub fn repeated(&self) {
        self.counts.repeated.increment();
    }
}

/// The metrics of all sources that are configured now.
#[derive(Debug, Default)]
pub(super) struct Sources(RwLock<Vec<Arc<SourceMetrics>>>);

impl Sources {
    /// Replaces the sources, each given by its name and those of its secrets. What was counted for a source or a secret that
    /// stays goes on.
    pub(super) fn replace<'a>(
        &self,
        sources: impl IntoIterator<Item = (&'a Source, Vec<&'a str>)>,
    ) -> Vec<Arc<SourceMetrics>> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = sources.into_iter().map(|(name, keys)| {
            let before = current.iter().find(|source| source.name == *name);
            let key = |key: &str| {
                let known = before.and_then(|source| source.keys.iter().find(|(name, _)| name == key));
                (key.to_owned(), known.map(|(_, key)| Arc::clone(key)).unwrap_or_default())
            };
            Arc::new(SourceMetrics {
                name: name.clone(),
                counts: before.map(|source| Arc::clone(&source.counts)).unwrap_or_default(),
                keys: keys.into_iter().map(key).collect(),
            })
        });
        let replaced: Vec<_> = replaced.collect();
        current.clone_from(&replaced);
        replaced
    }

    /// The sources that are configured now.
    pub(super) fn all(&self) -> Vec<Arc<SourceMetrics>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes the requests by their results, as lines of a metric whose head is written already.
pub(super) fn write_requests(sources: &[Arc<SourceMetrics>], page: &mut Page) {
    let results = ("result", WebhookResult::OF_SOURCES.map(WebhookResult::label));
    write_by(sources, page, "webhook_requests_total", results, |counts| &counts.requests);
}

/// Writes the lines of a metric that has a count for each value of a label.
fn write_by<const N: usize>(
    sources: &[Arc<SourceMetrics>],
    page: &mut Page,
    name: &str,
    (label, values): (&str, [&str; N]),
    counters: fn(&Counts) -> &[Counter; N],
) {
    for source in sources {
        for (value, counter) in values.iter().zip(counters(&source.counts)) {
            let labels = format!("{{source=\"{}\",{label}=\"{value}\"}}", source.name.as_str());
            page.line(name, &labels, counter.get());
        }
    }
}

/// The uses of all secrets: the label's values, and the use.
pub(super) fn keys(sources: &[Arc<SourceMetrics>]) -> impl Iterator<Item = (&str, &str, &KeyUse)> {
    sources.iter().flat_map(|source| {
        source.keys.iter().map(|(key, used)| (source.name.as_str(), key.as_str(), used.as_ref()))
    })
}

/// Writes the metrics that only configured sources have.
pub(super) fn write(sources: &[Arc<SourceMetrics>], page: &mut Page) {
    let help =
        "Requests to configured sources that were refused, by the reason, which the client does not learn.";
    page.head("webhook_refused_total", "counter", help);
    let reasons = ("reason", Refusal::ALL.map(Refusal::label));
    write_by(sources, page, "webhook_refused_total", reasons, |counts| &counts.refused);
    page.head("webhook_events_total", "counter", "Events of configured sources, by what became of them.");
    let results = ("result", WebhookResult::STORED.map(WebhookResult::label));
    write_by(sources, page, "webhook_events_total", results, |counts| &counts.events);
    let mut of_each = |name: &str, help: &str, counter: fn(&Counts) -> &Counter| {
        page.head(name, "counter", help);
        for source in sources {
            let labels = format!("{{source=\"{}\"}}", source.name.as_str());
            page.line(name, &labels, counter(&source.counts).get());
        }
    };
    let help = "Events that were stored as malformed, since their delivery could not be understood.";
    of_each("webhook_malformed_events_total", help, |counts| &counts.malformed);
    let help = "Bodies that came before under another id, which the provider does not sign: perhaps replays.";
    of_each("webhook_repeated_bodies_total", help, |counts| &counts.repeated);
}

impl KeyUse {
    /// Counts a request, at this Unix time.
    pub(super) fn count(&self, now_s: u64) {
        self.requests.increment();
        self.last_s.store(now_s, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_for_what_stays_and_end_with_what_goes() {
        let sources = Sources::default();
        let (one, two) = (Source::new("one").unwrap(), Source::new("two").unwrap());
        let first = sources.replace([(&one, vec!["a", "b"]), (&two, vec!["a"])]);
        first[0].request(WebhookResult::Created, None);
        first[0].verified(1, 7);
        let second = sources.replace([(&one, vec!["b", "c"])]);
        // A request that began before the change.
        first[0].request(WebhookResult::Created, None);
        second[0].verified(0, 8);
        let mut page = Page(String::new());
        write_requests(&sources.all(), &mut page);
        assert!(page.0.contains("{source=\"one\",result=\"created\"} 2\n"), "{}", page.0);
        assert!(!page.0.contains("two"), "{}", page.0);
        let used: Vec<_> = keys(&second).map(|(_, key, used)| (key, used.requests.get())).collect();
        assert_eq!(used, [("b", 2), ("c", 0)]);
    }
}
