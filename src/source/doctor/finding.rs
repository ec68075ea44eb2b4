//! What can be wrong with a request or with its source, in words.

use std::fmt;

use super::super::mac::Hash;

/// One thing that explains why a signature does not verify. Displays as a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A header is absent.
    Absent(String),
    /// An older header is there, which is not looked at.
    OnlyOlder {
        /// The header that counts.
        needed: String,
        /// The one that is there.
        found: &'static str,
    },
    /// A header stands more than once.
    Repeated(String),
    /// The header has another form than the provider's.
    Form(String),
    /// The prefix of the signature is missing.
    NoPrefix(String),
    /// Another prefix stands before the signature.
    OtherPrefix,
    /// Hexadecimal digits where Base64 is due.
    HexForBase64,
    /// Base64 where hexadecimal digits are due.
    Base64ForHex,
    /// The alphabet of Base64 for URLs.
    UrlSafeBase64,
    /// The time is in milliseconds.
    Milliseconds,
    /// The sender signs with another hash.
    Hash(Hash),
    /// The configured secret differs from the sender's in this way.
    Secret {
        /// The name of the secret.
        name: String,
        /// What would make it the sender's.
        flaw: SecretFlaw,
    },
    /// The body is not the one that was signed.
    Body(BodyFlaw),
    /// Twilio signs another address.
    Url(UrlFlaw),
    /// The newer scheme of Twilio names a secret that the source does not have.
    UnknownKey,
    /// The address has no `bodySHA256`, and the body is no form.
    NoBodyHash,
    /// The `bodySHA256` of the address is that of another body.
    OtherBodyHash,
    /// The clocks differ.
    Clock {
        /// Seconds that the signed time lies before the clock; negative if it lies after it.
        behind: i64,
        /// What is allowed both ways.
        tolerance_secs: u64,
    },
    /// Nothing else explains it.
    OtherSecretOrBody,
}

/// How a configured secret differs from the one that the sender signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of `Finding` say it")]
pub enum SecretFlaw {
    SenderHasLineEnd,
    Blanks,
    Quotes,
    NotBase64Decoded,
    NotHexDecoded,
    Decoded,
    Prefix,
}

/// How a body differs from the one that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of `Finding` say it")]
pub enum BodyFlaw {
    LineEndAdded,
    LineEndCut,
    LineEnds,
    Serialized,
    Unescaped,
    Escaped,
    InnerJson,
    Empty,
}

/// How the address that Twilio signed differs from the one that the source is configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of `Finding` say it")]
pub enum UrlFlaw {
    Scheme,
    NoQuery,
    QueryOrder,
    Slash,
    Path,
    Host,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(name) => write!(f, "the header {name} is absent"),
            Self::OnlyOlder { needed, found } => {
                write!(f, "the header {needed} is absent; {found} is there, which is not accepted")
            }
            Self::Repeated(name) => write!(f, "the header {name} stands more than once"),
            Self::Form(name) => write!(f, "the header {name} has another form than the provider's"),
            Self::NoPrefix(prefix) => write!(f, "`{prefix}` is missing before the signature"),
            Self::OtherPrefix => f.write_str("another prefix than the configured one stands before the signature"),
            Self::HexForBase64 => f.write_str("the signature is in hexadecimal digits and should be in Base64"),
            Self::Base64ForHex => f.write_str("the signature is in Base64 and should be in hexadecimal digits"),
            Self::UrlSafeBase64 => f.write_str("the signature is in Base64 for URLs and should be in plain Base64"),
            Self::Milliseconds => f.write_str("the time is in milliseconds and should be in seconds"),
            Self::Hash(hash) => {
                let word = match hash {
                    Hash::Sha1 => "sha1",
                    Hash::Sha256 => "sha256",
                    Hash::Sha512 => "sha512",
                };
                write!(f, "the sender signs with another hash: hash = \"{word}\"")
            }
            Self::Secret { name, flaw } => write!(f, "secret `{name}` {flaw}"),
            Self::Body(flaw) => flaw.fmt(f),
            Self::Url(flaw) => flaw.fmt(f),
            Self::UnknownKey => {
                f.write_str("X-Twilio-Webhooks-Signature-Settings names a key that is no secret of the source")
            }
            Self::NoBodyHash => f.write_str("nothing covers the body: it is no form, and the address has no bodySHA256"),
            Self::OtherBodyHash => f.write_str("the signature is right, and bodySHA256 is that of another body"),
            Self::Clock { behind, tolerance_secs } => {
                let (secs, word) = (behind.unsigned_abs(), if *behind < 0 { "after" } else { "before" });
                write!(
                    f,
                    "the signature is right, and was made {secs} seconds {word} the time of this clock; \
                     {tolerance_secs} are allowed"
                )
            }
            Self::OtherSecretOrBody => f.write_str(
                "the sender has another secret, or the body was changed on its way in a manner that cannot be guessed",
            ),
        }
    }
}

impl fmt::Display for SecretFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SenderHasLineEnd => {
                "has a line end at its end where the sender has it, which is not configured"
            }
            Self::Blanks => "has blanks or a line end around it, which the sender's does not have",
            Self::Quotes => "has quotation marks around it, which the sender's does not have",
            Self::NotBase64Decoded => "is used by the sender after decoding it from Base64",
            Self::NotHexDecoded => "is used by the sender after decoding it from hexadecimal digits",
            Self::Decoded => "is used by the sender as text, without decoding it from Base64",
            Self::Prefix => "is used by the sender without its prefix `whsec_`",
        })
    }
}

impl fmt::Display for BodyFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineEndAdded => "the body has a line end at its end that was not signed",
            Self::LineEndCut => "the line end at the end of the body is gone",
            Self::LineEnds => "the line ends of the body were changed",
            Self::Serialized => "the body was serialized again: its blanks are not those that were signed",
            Self::Unescaped => "characters of the body that were escaped when it was signed no longer are",
            Self::Escaped => "characters of the body are escaped that were not when it was signed",
            Self::InnerJson => "the sender signed the JSON within the form, and should sign the form",
            Self::Empty => "the sender signed an empty body",
        })
    }
}

impl fmt::Display for UrlFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the address was signed with the other of http:// and https://; see `public_url`",
            Self::NoQuery => "the address was signed without its query",
            Self::QueryOrder => "the address was signed with its query in another order",
            Self::Slash => "the address was signed with or without a slash at the end of its path",
            Self::Path => "the address was signed without the path of `public_url`",
            Self::Host => "the address was signed with the host of the request; see `public_url`",
        })
    }
}
