//! Bodies that came before under another id, as replays of requests do whose id is not signed.

use hashlink::LinkedHashMap;
use sha2::{Digest, Sha256};

use crate::event::Source;
use crate::message::Name;

/// What a body is known again by: a hash of it and of the name of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// That of a body.
    pub fn of(source: &Source, body: &[u8]) -> Self {
        let name = source.as_str().as_bytes();
        Self(Sha256::new().chain_update(name).chain_update([0]).chain_update(body).finalize().into())
    }
}

/// The latest bodies of sources whose ids are not signed, as many as were asked for.
#[derive(Debug)]
pub struct Repeats {
    /// The key that each body came under first, the latest body last.
    keys: LinkedHashMap<BodyDigest, Name>,
    bodies_max: usize,
}

impl Repeats {
    /// Remembers so many bodies, each in some hundred bytes.
    pub fn new(bodies_max: usize) -> Self {
        Self { keys: LinkedHashMap::new(), bodies_max }
    }

    /// Notes a verified body and the key of its event: `true` if the same body came before under another key.
    pub fn note(&mut self, digest: BodyDigest, key: &Name) -> bool {
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
        let mut note =
            |source: &Source, body: &[u8], key: &Name| repeats.note(BodyDigest::of(source, body), key);
        assert!(!note(&one, b"a", &name("1")));
        assert!(!note(&one, b"a", &name("1")), "a retry");
        assert!(note(&one, b"a", &name("2")));
        assert!(note(&one, b"a", &name("3")));
        assert!(!note(&other, b"a", &name("2")), "another source");
        // The body that was seen least lately is forgotten.
        assert!(note(&one, b"a", &name("2")));
        assert!(!note(&one, b"b", &name("4")));
        assert!(!note(&other, b"a", &name("9")));
        assert!(!note(&one, b"a", &name("9")));
    }
}
