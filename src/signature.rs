//! Signatures of deliveries: HMAC-SHA256 (RFC 2104) over the raw bytes of the body, before anything parses them.
//!
//! Pure: no I/O, no clock. What a request brings is compared with secrets here alone, in constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Bytes of a SHA-256 digest.
const DIGEST_BYTES: usize = 32;

/// A key for signatures. `Debug` does not print it.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// The valid keys: the current one, and former ones that senders still use. Each with the number of its secret, since one
/// secret can have several forms, each of which is a key.
#[derive(Debug, Clone)]
pub struct Keys(Vec<(usize, Key)>);

/// A well-formed signature that is not verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; DIGEST_BYTES]);

/// The signature is missing, malformed or wrong. The client does not learn which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid signature")]
pub struct InvalidSignature;

impl Signature {
    /// Reads the value of `X-Signature`: 64 hexadecimal digits of either case and nothing else.
    ///
    /// # Errors
    /// [`InvalidSignature`] for any other form.
    pub fn parse(header: &[u8]) -> Result<Self, InvalidSignature> {
        if header.len() != 2 * DIGEST_BYTES {
            return Err(InvalidSignature);
        }
        let mut digest = [0; DIGEST_BYTES];
        base16ct::mixed::decode(header, &mut digest).map_err(|_| InvalidSignature)?;
        Ok(Self(digest))
    }
}

impl Key {
    /// Makes a key from the bytes of a secret, of any length.
    pub fn new(secret: &[u8]) -> Self {
        // HMAC takes keys of every length (RFC 2104, section 2), so the fallback is never used.
        Self(
            Hmac::new_from_slice(secret)
                .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default())),
        )
    }

    /// Signs a body: 64 lower-case hexadecimal digits, the value of `X-Signature`.
    pub fn sign(&self, body: &[u8]) -> String {
        base16ct::lower::encode_string(&self.digest(body))
    }

    /// Checks in constant time that `signature` was made with this key over exactly these bytes.
    ///
    /// # Errors
    /// [`InvalidSignature`] if not.
    pub fn verify(&self, body: &[u8], signature: &Signature) -> Result<(), InvalidSignature> {
        self.0.clone().chain_update(body).verify_slice(&signature.0).map_err(|_| InvalidSignature)
    }

    fn digest(&self, body: &[u8]) -> [u8; DIGEST_BYTES] {
        self.0.clone().chain_update(body).finalize().into_bytes().into()
    }
}

impl Keys {
    /// Makes keys from secrets, the current one first, each in all its forms.
    pub fn new<'a, Forms: IntoIterator<Item = &'a [u8]>>(secrets: impl IntoIterator<Item = Forms>) -> Self {
        let numbered = secrets.into_iter().enumerate();
        let keys = numbered.flat_map(|(nth, forms)| forms.into_iter().map(move |form| (nth, Key::new(form))));
        Self(keys.collect())
    }

    /// Checks that `signature` was made with one of the keys over exactly these bytes, and returns the number of the secret,
    /// 0 for the current one. Tries every key in any case, so that the time tells nothing.
    ///
    /// # Errors
    /// [`InvalidSignature`] if it was made with none of the keys.
    pub fn verify(&self, body: &[u8], signature: &Signature) -> Result<usize, InvalidSignature> {
        let tried = self.0.iter().map(|(nth, key)| key.verify(body, signature).map(|()| *nth));
        tried.reduce(Result::or).unwrap_or(Err(InvalidSignature))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

/// Compares two secrets in a time that depends on their lengths only.
pub fn same_secret(given: &[u8], expected: &[u8]) -> bool {
    given.ct_eq(expected).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signs_as_github_publishes() {
        // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
        assert_eq!(
            Key::new(b"It's a Secret to Everybody").sign(b"Hello, World!"),
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }

    #[test]
    fn signs_as_rfc_4231_says() {
        // Test cases 1, 2, 3, 4, 6 and 7 (5 is about truncation).
        let cases: [(Vec<u8>, Vec<u8>, &str); 6] = [
            (vec![0x0b; 20], b"Hi There".to_vec(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (vec![0xaa; 20], vec![0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            ((1..=25).collect(), vec![0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                vec![0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.".to_vec(),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (secret, body, expected) in cases {
            assert_eq!(Key::new(&secret).sign(&body), expected);
        }
    }

    #[test]
    fn either_case_is_accepted() {
        let key = Key::new(b"secret");
        let signed = key.sign(b"body");
        for header in [signed.clone(), signed.to_uppercase()] {
            let signature = Signature::parse(header.as_bytes()).unwrap();
            assert_eq!(key.verify(b"body", &signature), Ok(()));
        }
    }

    #[test]
    fn each_of_several_keys_verifies_and_is_told_apart() {
        let secrets: [&[u8]; 4] = [b"current", b"previous", b"the one before", b"previous\n"];
        let [current, previous, before, other_form] = secrets;
        let keys = Keys::new([vec![current], vec![previous, other_form], vec![before]]);
        let verify = |secret: &[u8]| {
            keys.verify(b"body", &Signature::parse(Key::new(secret).sign(b"body").as_bytes()).unwrap())
        };
        assert_eq!(secrets.map(verify), [Ok(0), Ok(1), Ok(2), Ok(1)]);
        assert_eq!(verify(b"another"), Err(InvalidSignature));
        let signature = Signature::parse(Key::new(b"current").sign(b"body").as_bytes()).unwrap();
        assert_eq!(
            Keys::new([[]; 0]).verify(b"body", &signature),
            Err(InvalidSignature),
            "no key lets nobody in"
        );
    }

    #[test]
    fn other_forms_are_malformed() {
        let signed = Key::new(b"secret").sign(b"body");
        let (short, shorter) = (signed.get(1..).unwrap(), signed.get(2..).unwrap());
        for bad in [
            String::new(),
            short.to_owned(),
            format!("{signed}0"),
            format!("sha256={signed}"),
            format!(" {short}"),
            format!("g{short}"),
            format!("{shorter}é"),
        ] {
            assert_eq!(Signature::parse(bad.as_bytes()), Err(InvalidSignature), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_the_same_in_every_byte_or_not_at_all() {
        assert!(same_secret(b"token", b"token"));
        for other in [&b""[..], b"t", b"toke", b"tokens", b"Token", b"tokeN"] {
            assert!(!same_secret(other, b"token"), "{other:?}");
        }
    }

    #[test]
    fn a_key_prints_nothing_of_itself() {
        assert_eq!(format!("{:?}", Key::new(b"hunter2")), "Key([redacted])");
    }

    proptest! {
        #[test]
        fn one_changed_bit_is_noticed(body in proptest::collection::vec(any::<u8>(), 1..100), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let key = Key::new(b"secret");
            let signature = Signature::parse(key.sign(&body).as_bytes()).unwrap();
            prop_assert_eq!(key.verify(&body, &signature), Ok(()));
            let mut changed = body.clone();
            changed[at.index(body.len())] ^= 1 << bit;
            prop_assert_eq!(key.verify(&changed, &signature), Err(InvalidSignature));
        }

        #[test]
        fn headers_never_panic(header in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _any = Signature::parse(&header);
        }
    }
}
