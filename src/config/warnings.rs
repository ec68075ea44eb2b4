//! Warnings of settings that are allowed, but risky or probably wrong.

use std::net::SocketAddr;

use super::{Config, Secret};

/// A secret shorter than this many bytes is accepted with a warning.
const SECRET_BYTES_ADVISED: usize = 24;

impl Config {
    /// The warnings, in words.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::from_iter(warning_of("WEBHOOK_SECRET", &self.webhook_secret));
        warnings.extend(short("WEBHOOK_SECRET", &self.webhook_secret));
        if let Some(given) = self.webhook_secrets_previous.first().and_then(|forms| forms.first())
            && let Some(oddity) = given.oddity()
        {
            warnings.push(format!(
                "WEBHOOK_SECRET_PREVIOUS {oddity}; what it holds is valid with line ends and blanks around it and without"
            ));
        }
        for (number, forms) in (1..).zip(&self.webhook_secrets_previous) {
            let name = format!("secret {number} of WEBHOOK_SECRET_PREVIOUS");
            if let Some(shortest) = forms.last() {
                warnings.extend(warning_of(&name, shortest));
                warnings.extend(short(&name, shortest));
            }
            if forms.contains(&self.webhook_secret) {
                warnings.push(format!("{name} is the current WEBHOOK_SECRET too"));
            }
        }
        if let Some(token) = &self.read_token {
            if token.fits_a_header() {
                warnings.extend(warning_of("READ_TOKEN", token));
            } else {
                let oddity = token.oddity().unwrap_or_else(|| "has a control character in it".to_owned());
                warnings.push(format!(
                    "READ_TOKEN {oddity}: no request can carry that, so all reads are refused"
                ));
            }
        }
        if let Some(token) = &self.admin_token {
            warnings.extend(short("ADMIN_TOKEN", token));
            if token.fits_a_header() {
                warnings.extend(warning_of("ADMIN_TOKEN", token));
            } else {
                let oddity = token.oddity().unwrap_or_else(|| "has a control character in it".to_owned());
                warnings.push(format!(
                    "ADMIN_TOKEN {oddity}: no request can carry that, so nothing can be erased"
                ));
            }
            if self.read_token.as_ref() == Some(token) {
                warnings.push("ADMIN_TOKEN is the READ_TOKEN too: who may read may erase".to_owned());
            }
        }
        warnings.extend(self.sources.warnings.iter().cloned());
        warnings
    }

    /// A warning if the service listens on an address outside this machine and reads need no token.
    pub fn open_reads(&self, addresses: &[SocketAddr]) -> Option<String> {
        let outside = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback())?;
        let open = self.read_token.is_none();
        open.then(|| {
            format!("messages can be read by everybody who reaches {outside}: READ_TOKEN is not set")
        })
    }
}

/// A warning if the secret `name` is probably wrong, without a part of it.
pub fn warning_of(name: &str, secret: &Secret) -> Option<String> {
    let oddity = secret.oddity()?;
    Some(format!("{name} {oddity}: that is part of it, and who uses it without that is refused"))
}

/// A warning if the secret `name` may be guessed.
pub(crate) fn short(name: &str, secret: &Secret) -> Option<String> {
    (secret.expose().len() < SECRET_BYTES_ADVISED).then(|| {
        format!("{name} is shorter than {SECRET_BYTES_ADVISED} bytes and may be guessed; `openssl rand -hex 32` makes a good one")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn weak_secrets_and_open_reads_are_warned_of() {
        let config = check(&[], |name| (name == "WEBHOOK_SECRET").then(|| "short".into())).unwrap();
        assert_eq!(config.warnings().len(), 1);
        for (addresses, open) in [
            (vec!["127.0.0.1:8000", "[::1]:8000"], None),
            (vec!["[::ffff:127.0.0.2]:8000"], None),
            (vec!["127.0.0.1:8000", "10.0.0.1:8000"], Some("10.0.0.1:8000")),
            (vec!["[::]:8000"], Some("[::]:8000")),
        ] {
            let addresses: Vec<SocketAddr> =
                addresses.iter().map(|address| address.parse().unwrap()).collect();
            let warning = config.open_reads(&addresses);
            assert_eq!(warning.is_some(), open.is_some(), "{addresses:?}");
            assert!(warning.unwrap_or_default().contains(open.unwrap_or_default()), "{addresses:?}");
        }
        let config = check(&["--host=0.0.0.0"], |_| Some("0123456789abcdef01234567".into()));
        assert!(config.is_err(), "NAME and NAME_FILE are both set here");
    }

    #[test]
    fn what_hinders_a_change_of_secrets_is_warned_of() {
        let config = check(&[], |name| match name {
            "WEBHOOK_SECRET" => Some("0123456789abcdef01234567".into()),
            "WEBHOOK_SECRET_PREVIOUS" => Some("short,0123456789abcdef01234567".into()),
            _ => None,
        });
        let warnings = config.unwrap().warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("secret 1 of WEBHOOK_SECRET_PREVIOUS is shorter"), "{warnings:?}");
        assert!(warnings[1].contains("the current WEBHOOK_SECRET"), "{warnings:?}");
    }
}
