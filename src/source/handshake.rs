//! Handshakes: how a provider asks whether an address is meant to receive its requests. Nothing of them is stored.

use super::form::Form;
use super::json::Json;
use super::{Provider, Settings};
use crate::signature::same_secret;

/// Maximum length of a challenge.
const CHALLENGE_MAX: usize = 128;

/// The answer to a `GET` on a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// 200, with this challenge as the whole body, in plain text.
    Challenge(String),
    /// 403: another token, no token configured, or no handshake at all.
    Refused,
    /// 405: the provider knows no handshake by `GET`.
    NotAllowed,
}

/// Judges Meta's handshake: `hub.mode=subscribe`, `hub.verify_token` and `hub.challenge`, each exactly once.
pub(super) fn greet(settings: &Settings, target: &str) -> Greeting {
    if settings.provider != Provider::WhatsApp {
        return Greeting::NotAllowed;
    }
    let challenge = || {
        let token = settings.verify_token.as_ref()?;
        let query = Form::of_target(target)?;
        let parameter = |name| query.only(name).ok().flatten();
        let (mode, given) = (parameter("hub.mode")?, parameter("hub.verify_token")?);
        let challenge = checked(parameter("hub.challenge")?)?;
        (same_secret(given, token.expose()) && mode == b"subscribe").then_some(challenge)
    };
    challenge().map_or(Greeting::Refused, Greeting::Challenge)
}

/// The challenge of Slack's `url_verification`; `None` if the body is another, or its challenge no plain word.
pub(super) fn slack(body: &[u8]) -> Option<String> {
    let [kind, challenge] = Json::parse(body).ok()?.members(["type", "challenge"]).ok()?;
    (kind?.string()? == "url_verification").then(|| checked(challenge?.string()?.as_bytes())).flatten()
}

/// A challenge that can be sent back without harm, whoever reads the answer.
fn checked(challenge: &[u8]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_good = (1..=CHALLENGE_MAX).contains(&challenge.len()) && challenge.iter().all(is_plain);
    is_good.then(|| String::from_utf8_lossy(challenge).into_owned())
}
