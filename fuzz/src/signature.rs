//! A header and a body: only the signature of exactly this body is taken for it.

use std::fmt::Write as _;

use lyftr::signature::{Key, Signature};
use sha2::{Digest, Sha256};

const SECRET: &[u8] = b"the secret of the fuzz targets";

/// The first line is the header, what follows is the body.
///
/// # Panics
/// If a header is read that is not 64 hex digits, or not read that is; if any but the right one verifies, or a
/// changed one still does.
pub fn signature(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (header, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (key, right) = (Key::new(SECRET), hmac(body));
    assert_eq!(key.sign(body), right);

    for header in [header, right.as_bytes(), right.to_uppercase().as_bytes()] {
        let parsed = Signature::parse(header);
        assert_eq!(parsed.is_ok(), header.len() == 64 && header.iter().all(u8::is_ascii_hexdigit));
        let is_right = header.eq_ignore_ascii_case(right.as_bytes());
        assert_eq!(parsed.is_ok_and(|signature| key.verify(body, &signature).is_ok()), is_right);
    }

    let signature = Signature::parse(right.as_bytes()).unwrap();
    for changed in changes(right.as_bytes()) {
        // The one change that is none: a letter's case.
        let same = changed.eq_ignore_ascii_case(right.as_bytes());
        let verifies = Signature::parse(&changed).is_ok_and(|changed| key.verify(body, &changed).is_ok());
        assert_eq!(verifies, same, "{:?}", String::from_utf8_lossy(&changed));
    }
    for changed in changes(body) {
        assert!(key.verify(&changed, &signature).is_err(), "{changed:?}");
    }
}

/// The bytes with one bit changed: each bit of at most some sixteen bytes.
pub(super) fn changes(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = bytes.len().div_ceil(16).max(1);
    (0..bytes.len()).step_by(step).flat_map(|at| (0..8).map(move |bit| (at, bit))).map(move |(at, bit)| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << bit;
        changed
    })
}

/// HMAC-SHA256 as RFC 2104 defines it, for a secret shorter than a block, in hexadecimal.
fn hmac(body: &[u8]) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(SECRET).for_each(|(byte, secret)| *byte ^= secret);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(body).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").unwrap();
        digits
    })
}
