//! The one model by which every source verifies: which headers it reads, how they hold a signature, what is signed, and how
//! old it may be. The schemes of the providers are values of it.

use std::str::FromStr;

use axum::http::HeaderName;

use super::Provider;
use super::mac::{Encoding, Hash};

/// How requests of a source are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    /// The headers. Of several families the first that is complete counts; they are never mixed.
    pub headers: Vec<Headers>,
    /// How the signature's header holds signatures.
    pub form: Form,
    /// How the bytes of a signature are written.
    pub encoding: Encoding,
    /// The hash of the HMAC.
    pub hash: Hash,
    /// What is signed.
    pub signed: Template,
    /// How far the signed time may lie from Lyftr's clock, in seconds, both ways, inclusive. For schemes that sign a time.
    pub tolerance_secs: u64,
}

/// The names of the headers that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The signature's.
    pub signature: HeaderName,
    /// That of the time, in Unix seconds, where it has a header of its own.
    pub timestamp: Option<HeaderName>,
    /// That of the id, where the id is signed.
    pub id: Option<HeaderName>,
}

/// How a header holds signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// One signature after a prefix, which may be empty.
    One {
        /// What stands before it.
        prefix: String,
    },
    /// `v1,<signature> v1a,<signature>`, separated by spaces: `v1` by HMAC, `v1a` by Ed25519, others ignored.
    Versions,
    /// `t=<time>,v1=<signature>`, separated by commas: one time, any number of `v1`, others ignored.
    Pairs,
}

/// A part of the signed content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Literal(String),
    /// `{id}`: the value of the id's header.
    Id,
    /// `{timestamp}`: the time as it was sent.
    Timestamp,
    /// `{body}`: the raw bytes of the body.
    Body,
    /// `{url}`: the address that the request was sent to, as its sender knows it.
    Url,
    /// `{form}`: the fields of a form, sorted, names and values without anything between them; nothing for another body.
    Form,
}

/// The signed content: its parts, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// The text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("should hold {{body}} once, {{timestamp}} at most once, and no other braces")]
pub struct BadTemplate;

impl Template {
    /// Whether a part is signed.
    pub fn has(&self, part: &Part) -> bool {
        self.0.contains(part)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}')?;
            parts.push(Part::Literal(literal.to_owned()));
            parts.push(match name {
                "id" => Part::Id,
                "timestamp" => Part::Timestamp,
                "body" => Part::Body,
                "url" => Part::Url,
                "form" => Part::Form,
                _ => return None,
            });
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Literal(literal) if literal.is_empty()));
        let stray = |part: &Part| matches!(part, Part::Literal(literal) if literal.contains('}'));
        (!parts.iter().any(stray)).then_some(Self(parts))
    }
}

impl FromStr for Template {
    type Err = BadTemplate;

    /// Reads the template of a source of kind `hmac`, in which `{body}` and `{timestamp}` stand for themselves.
    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        let template = Self::parse(text).ok_or(BadTemplate)?;
        let count = |part: &Part| template.0.iter().filter(|other| *other == part).count();
        let foreign = count(&Part::Id) + count(&Part::Url) + count(&Part::Form);
        let is_good = count(&Part::Body) == 1 && count(&Part::Timestamp) <= 1 && foreign == 0;
        if is_good { Ok(template) } else { Err(BadTemplate) }
    }
}

/// Seconds that a signed time may lie from Lyftr's clock unless the source says otherwise.
pub const TOLERANCE_SECS: u64 = 300;

impl Scheme {
    /// The scheme of a provider; `None` for `hmac`, where each source has its own.
    ///
    /// From the providers' public descriptions of their webhooks: Meta (X-Hub-Signature-256), Standard Webhooks 1.0.0,
    /// Stripe (Stripe-Signature), GitHub, Slack (v0), Shopify, Twilio (X-Twilio-Signature).
    pub fn of(provider: Provider) -> Option<Self> {
        let one = |prefix: &str| Form::One { prefix: prefix.to_owned() };
        let (headers, form, encoding, hash, signed): (&[[&'static str; 3]], _, _, _, _) = match provider {
            Provider::WhatsApp | Provider::Github => {
                (&[["x-hub-signature-256", "", ""]], one("sha256="), Encoding::Hex, Hash::Sha256, "{body}")
            }
            Provider::StandardWebhooks => (
                &[
                    ["webhook-signature", "webhook-timestamp", "webhook-id"],
                    ["svix-signature", "svix-timestamp", "svix-id"],
                ],
                Form::Versions,
                Encoding::Base64,
                Hash::Sha256,
                "{id}.{timestamp}.{body}",
            ),
            Provider::Stripe => (
                &[["stripe-signature", "", ""]],
                Form::Pairs,
                Encoding::Hex,
                Hash::Sha256,
                "{timestamp}.{body}",
            ),
            Provider::Slack => (
                &[["x-slack-signature", "x-slack-request-timestamp", ""]],
                one("v0="),
                Encoding::Hex,
                Hash::Sha256,
                "v0:{timestamp}:{body}",
            ),
            Provider::Shopify => {
                (&[["x-shopify-hmac-sha256", "", ""]], one(""), Encoding::Base64, Hash::Sha256, "{body}")
            }
            Provider::Twilio => {
                (&[["x-twilio-signature", "", ""]], one(""), Encoding::Base64, Hash::Sha1, "{url}{form}")
            }
            Provider::Hmac => return None,
        };
        let name = |name: &'static str| (!name.is_empty()).then(|| HeaderName::from_static(name));
        let family = |[signature, timestamp, id]: &[&'static str; 3]| Headers {
            signature: HeaderName::from_static(signature),
            timestamp: name(timestamp),
            id: name(id),
        };
        let headers = headers.iter().map(family).collect();
        let signed = Template::parse(signed)?;
        Some(Self { headers, form, encoding, hash, signed, tolerance_secs: TOLERANCE_SECS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_of_ones_own_signs_the_body_once() {
        let parts = |text: &str| text.parse::<Template>().map(|template| template.0);
        assert_eq!(parts("{body}"), Ok(vec![Part::Body]));
        assert_eq!(
            parts("v0:{timestamp}:{body}"),
            Ok(vec![Part::Literal("v0:".into()), Part::Timestamp, Part::Literal(":".into()), Part::Body])
        );
        for bad in [
            "",
            "body",
            "{timestamp}",
            "{body}{body}",
            "{body",
            "body}",
            "{body}}",
            "{{body}}",
            "{id}.{body}",
        ] {
            assert_eq!(parts(bad), Err(BadTemplate), "{bad:?}");
        }
    }

    #[test]
    fn every_provider_but_hmac_has_a_scheme_that_covers_the_body() {
        for (provider, word) in Provider::ALL {
            let scheme = Scheme::of(provider);
            assert_eq!(scheme.is_none(), provider == Provider::Hmac, "{word}");
            let Some(scheme) = scheme else { continue };
            assert!(scheme.signed.has(&Part::Body) || scheme.signed.has(&Part::Form), "{word}");
            // A time that is not signed would protect from nothing.
            let has_time = scheme.form == Form::Pairs
                || scheme.headers.iter().all(|headers| headers.timestamp.is_some());
            assert_eq!(has_time, scheme.signed.has(&Part::Timestamp), "{word}");
        }
    }
}
