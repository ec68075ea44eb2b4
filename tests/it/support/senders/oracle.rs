//! What was sent and what was acknowledged, and whether what is stored agrees with that.

use std::collections::{BTreeMap, HashSet};
use std::ops::AddAssign;
use std::sync::Mutex;

use fastrand::Rng;
use serde_json::Value;

/// Wrongs that are told in words; the others are only counted.
const TOLD_MAX: usize = 10;
/// Longest text of one of them, in characters.
const TOLD_CHARS_MAX: usize = 300;

/// Remembers every message that was sent, and every 200.
#[derive(Debug, Default)]
pub(crate) struct Oracle(Mutex<BTreeMap<String, Known>>);

/// What is known of one id.
#[derive(Debug, Default)]
struct Known {
    /// The contents that may be stored. Once something is known to be stored, one sent later cannot be it.
    candidates: Vec<Value>,
    /// Some answer was 200, or a read has found it.
    stored: bool,
}

/// How what is stored differs from what must be.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) altered: usize,
    pub(crate) invented: usize,
    /// Stored, though never acknowledged: no wrong, but how one sees that a hurt hit something under way.
    pub(crate) unanswered: usize,
    /// The first wrongs in words.
    pub(crate) told: Vec<String>,
}

impl Oracle {
    /// To be called before the first byte is sent.
    pub(crate) fn sending(&self, message: &Value) {
        let mut known = self.0.lock().unwrap();
        let known = known.entry(id(message).to_owned()).or_default();
        if !known.stored && !known.candidates.contains(message) {
            known.candidates.push(message.clone());
        }
    }

    pub(crate) fn acknowledged(&self, message: &Value) {
        self.0.lock().unwrap().get_mut(id(message)).unwrap().stored = true;
    }

    /// Something that was sent before, by anybody.
    pub(crate) fn any(&self, rng: &mut Rng) -> Option<Value> {
        let known = self.0.lock().unwrap();
        let nth = rng.usize(..known.len().max(1));
        known.values().nth(nth).map(|known| known.candidates[0].clone())
    }

    /// Holds everything that was read against everything that is known.
    pub(crate) fn judge(&self, rows: &[Value]) -> Judgement {
        let mut known = self.0.lock().unwrap();
        let mut judgement = Judgement::default();
        let mut seen = HashSet::new();
        for row in rows {
            if !seen.insert(id(row)) {
                judgement.doubled += 1;
                judgement.tell(&format!("doubled: {row}"));
            }
            match known.get_mut(id(row)) {
                None => {
                    judgement.invented += 1;
                    judgement.tell(&format!("invented: {row}"));
                }
                Some(known) if !known.candidates.iter().any(|sent| same(sent, row)) => {
                    judgement.altered += 1;
                    judgement.tell(&format!("altered: {row}\n  may be: {:?}", known.candidates));
                }
                Some(known) => {
                    judgement.unanswered += usize::from(!known.stored);
                    known.stored = true;
                    known.candidates.retain(|sent| same(sent, row));
                }
            }
        }
        for (id, known) in known.iter().filter(|(id, known)| known.stored && !seen.contains(id.as_str())) {
            judgement.lost += 1;
            judgement.tell(&format!("lost: {id} {:?}", known.candidates));
        }
        judgement
    }
}

impl Judgement {
    pub(crate) fn is_good(&self) -> bool {
        self.lost + self.doubled + self.altered + self.invented == 0
    }

    fn tell(&mut self, wrong: &str) {
        if self.told.len() < TOLD_MAX {
            self.told.push(wrong.chars().take(TOLD_CHARS_MAX).collect());
        }
    }
}

impl AddAssign for Judgement {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.altered += other.altered;
        self.invented += other.invented;
        self.unanswered += other.unanswered;
        self.told.extend(other.told);
    }
}

pub(crate) fn id(message: &Value) -> &str {
    message["message_id"].as_str().unwrap()
}

/// A text that is absent comes back as null.
fn same(sent: &Value, row: &Value) -> bool {
    ["message_id", "from", "to", "ts", "text"]
        .iter()
        .all(|field| sent.get(field).unwrap_or(&Value::Null) == &row[field])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::message;

    #[test]
    fn every_kind_of_wrong_is_noticed() {
        let oracle = Oracle::default();
        for id in ["kept", "lost", "altered", "refused"] {
            oracle.sending(&message(id));
        }
        for id in ["kept", "lost", "altered"] {
            oracle.acknowledged(&message(id));
        }
        let row = |id: &str| message(id);
        let mut altered = row("altered");
        altered["text"] = "other".into();
        let rows = [row("kept"), row("kept"), altered, row("invented"), row("refused")];
        let judgement = oracle.judge(&rows);
        let Judgement { lost, doubled, altered, invented, unanswered, .. } = judgement;
        assert_eq!((lost, doubled, altered, invented, unanswered), (1, 1, 1, 1, 1));
        assert!(!judgement.is_good());
        assert_eq!(judgement.told.len(), 4);
        // What a read has found must stay.
        assert_eq!(oracle.judge(&[row("kept"), row("altered"), row("lost")]).lost, 1);
    }
}
