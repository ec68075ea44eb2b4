//! Bodies that came before under another id, as replays of requests do whose id is not signed.

use hashlink::LinkedHashMap;
use sha2::{Digest, Sha256};

use crate::event::Source;
use crate::message::Name;

/// The latest bodies of sources whose ids are not signed, as many as were asked for.
#[derive(Debug)]
pub struct Repeats {
    /// The key that each body came under first, the latest body last.
    keys: LinkedHashMap<[u8; 32], Name>,
    bodies_max: usize,
}

impl Repeats {
    /// Remembers so many bodies, each in some hundred bytes.
    pub fn new(bodies_max: usize) -> Self {
        Self { keys: LinkedHashMap::new(), bodies_max }
    }

    /// Notes a verified body and the key of its event: `true` if the same body came before under another key.
    pub fn note(&mut self, source: &Source, body: &[u8], key: &Name) -> bool {
        let name = source.as_str().as_bytes();
        let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(body).finalize().into();
        if let Some(first) = self.keys.get(&digest) {
            let is_other = first != key;
            self.keys.to_back(&digest);
            return is_other;
        }
        self.keys.insert(digest, key.clone());
        if self.keys.len() > self.bodies_max {
            self.keys.pop_front();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_body_under_another_id_is_noticed() {
        let mut repeats = Repeats::new(2);
        let (one, other) = (Source::new("one").unwrap(), Source::new("other").unwrap());
        let name = |text| Name::new(text).unwrap();
        assert!(!repeats.note(&one, b"a", &name("1")));
        assert!(!repeats.note(&one, b"a", &name("1")), "a retry");
        assert!(repeats.note(&one, b"a", &name("2")));
        assert!(repeats.note(&one, b"a", &name("3")));
        assert!(!repeats.note(&other, b"a", &name("2")), "another source");
        // The body that was seen least lately is forgotten.
        assert!(repeats.note(&one, b"a", &name("2")));
        assert!(!repeats.note(&one, b"b", &name("4")));
        assert!(!repeats.note(&other, b"a", &name("9")));
        assert!(!repeats.note(&one, b"a", &name("9")));
    }
}
