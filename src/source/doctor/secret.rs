//! What can be wrong with a secret.

use super::super::mac::{Encoding, base64};
use super::super::{Provider, Settings};
use super::finding::SecretFlaw;
use super::{Change, Finding, What};

/// Other values of each secret that may have been meant.
pub(super) fn changes(settings: &Settings) -> Vec<Change> {
    let is_decoded = settings.provider == Provider::StandardWebhooks;
    let secrets = settings.secrets.iter().enumerate().filter(|(_, secret)| !secret.key.is_public());
    let changes = secrets.flat_map(|(nth, secret)| {
        values(secret.given.expose(), is_decoded).into_iter().map(move |(bytes, flaw)| Change {
            what: What::Secret(nth, bytes),
            finding: Finding::Secret { name: secret.name.clone(), flaw },
        })
    });
    changes.collect()
}

/// Other values, each with what would then be wrong with the one that is configured.
fn values(given: &[u8], is_decoded: bool) -> Vec<(Vec<u8>, SecretFlaw)> {
    let mut values = Vec::new();
    for end in ["\n", "\r\n"] {
        values.push(([given, end.as_bytes()].concat(), SecretFlaw::SenderHasLineEnd));
    }
    let trimmed = given.trim_ascii();
    if trimmed != given {
        values.push((trimmed.to_vec(), SecretFlaw::Blanks));
    }
    if let [first @ (b'"' | b'\''), within @ .., last] = trimmed
        && first == last
    {
        values.push((within.to_vec(), SecretFlaw::Quotes));
    }
    if is_decoded {
        values.push((given.to_vec(), SecretFlaw::Decoded));
    }
    if let Some(rest) = trimmed.strip_prefix(b"whsec_") {
        let flaw = if is_decoded { SecretFlaw::Decoded } else { SecretFlaw::Prefix };
        values.push((rest.to_vec(), flaw));
        values.extend(base64(rest).map(|bytes| (bytes, SecretFlaw::NotBase64Decoded)));
    }
    values.extend(base64(trimmed).map(|bytes| (bytes, SecretFlaw::NotBase64Decoded)));
    let bytes = Encoding::Hex.decode(trimmed, trimmed.len() / 2);
    values.extend(bytes.map(|bytes| (bytes, SecretFlaw::NotHexDecoded)));
    values
}
