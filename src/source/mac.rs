//! The keys that a request may be signed with, and what they make of its signed content.

use ed25519_dalek::VerifyingKey;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::config::Secret;
use crate::signature::same_secret;

/// The hash of an HMAC (RFC 2104).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1. Broken as a hash, not as the hash of an HMAC; Twilio still signs with it.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits of either case.
    Hex,
    /// Base64 of RFC 4648, section 4, with padding, in its one canonical form.
    Base64,
}

/// A secret by which a source verifies. `Debug` prints nothing of a secret.
#[derive(Debug, Clone)]
pub enum Key {
    /// The key of an HMAC.
    Shared(Secret),
    /// A public key of Ed25519 (RFC 8032). It verifies nothing but signatures of Ed25519.
    Public(Box<VerifyingKey>),
}

/// A signature as a request presents it, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// A digest that an HMAC should give.
    Digest(Vec<u8>),
    /// A signature of Ed25519.
    Ed25519(Vec<u8>),
}

impl Hash {
    /// Bytes of a digest.
    pub fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The HMAC of the parts, one after the other.
    pub fn mac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, parts),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, parts),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, parts),
        }
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // HMAC takes keys of every length (RFC 2104, section 2), so the fallback is never used.
    let mut mac = <M as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| <M as KeyInit>::new(&hmac::digest::Key::<M>::default()));
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

impl Encoding {
    /// Reads exactly `length` bytes; `None` for any other form.
    pub fn decode(self, text: &[u8], length: usize) -> Option<Vec<u8>> {
        let decoded = match self {
            Self::Hex => base16ct::mixed::decode_vec(text).ok()?,
            Self::Base64 => base64(text)?,
        };
        (decoded.len() == length).then_some(decoded)
    }

    /// Writes bytes, in lower case.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => base16ct::lower::encode_string(bytes),
            Self::Base64 => <base64ct::Base64 as base64ct::Encoding>::encode_string(bytes),
        }
    }
}

/// Reads Base64 with padding; `None` for any other form, a second spelling of the same bytes too.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    <base64ct::Base64 as base64ct::Encoding>::decode_vec(std::str::from_utf8(text).ok()?).ok()
}

impl Key {
    /// Whether this key made the signature over the parts, one after the other. Takes the same time for every digest that
    /// the key did not make.
    pub(crate) fn verifies(&self, hash: Hash, parts: &[&[u8]], signatures: &[Signature]) -> bool {
        match self {
            Self::Shared(secret) => {
                let expected = hash.mac(secret.expose(), parts);
                let matches = |signature: &Signature| match signature {
                    Signature::Digest(given) => same_secret(given, &expected),
                    Signature::Ed25519(_) => false,
                };
                // Every one is compared, whichever is right.
                signatures.iter().map(matches).fold(false, |any, one| any | one)
            }
            Self::Public(key) => {
                let given = signatures.iter().filter_map(|signature| match signature {
                    Signature::Ed25519(bytes) => ed25519_dalek::Signature::from_slice(bytes).ok(),
                    Signature::Digest(_) => None,
                });
                let mut content = None;
                given.fold(false, |any, signature| {
                    let content = content.get_or_insert_with(|| parts.concat());
                    any | key.verify_strict(content, &signature).is_ok()
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_rfcs() {
        // RFC 2202, test case 2; RFC 4231, test case 2.
        let (key, text): (&[u8], [&[u8]; 2]) = (b"Jefe", [b"what do ya want ", b"for nothing?"]);
        let digest = |hash: Hash| Encoding::Hex.encode(&hash.mac(key, &text));
        assert_eq!(digest(Hash::Sha1), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(digest(Hash::Sha256), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(
            digest(Hash::Sha512),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
    }

    #[test]
    fn only_the_one_form_of_each_encoding_is_read() {
        let bytes = [0xfb, 0xff, 0x01];
        for text in ["fbff01", "FBFF01", "fBfF01"] {
            assert_eq!(Encoding::Hex.decode(text.as_bytes(), 3).as_deref(), Some(&bytes[..]), "{text}");
        }
        for text in ["", "fbff0", "fbff", "fbff0100", "fbff0g", " fbff01", "+/8B"] {
            assert_eq!(Encoding::Hex.decode(text.as_bytes(), 3), None, "{text}");
        }
        assert_eq!(Encoding::Base64.decode(b"+/8B", 3).as_deref(), Some(&bytes[..]));
        assert_eq!(Encoding::Base64.decode(b"+/8=", 2).as_deref(), Some(&bytes[..2]));
        for text in ["-_8B", "+/8", "+/8==", "+/9=", "+/8=\n", "+/8", "\u{e9}/8="] {
            assert_eq!(Encoding::Base64.decode(text.as_bytes(), 2), None, "{text}");
        }
    }
}
