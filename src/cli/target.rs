//! The address of a service that a command asks, and the HTTP client for it.

use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::typestate::AgentScope;

use crate::server::is_loopback;

/// The address of a service.
pub(super) struct Target {
    pub(super) url: Uri,
    /// Whether it is on this machine, so that no proxy leads there.
    is_local: bool,
}

impl Target {
    /// Checks a URL. `form` says what it should look like.
    ///
    /// # Errors
    /// `form`, and thus without the URL, which may hold a password.
    pub(super) fn parse(given: &str, form: &'static str) -> Result<Self, &'static str> {
        let url: Uri = given.parse().map_err(|_| form)?;
        let (Some("http" | "https"), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(form);
        };
        let host = authority.host();
        if host.is_empty() || (authority.port_u16().is_none() && !authority.as_str().ends_with(host)) {
            return Err(form);
        }
        let is_local = is_loopback(host);
        Ok(Self { url, is_local })
    }

    /// The same for a URL that paths are appended to, which has no query.
    ///
    /// # Errors
    /// `form`
    pub(super) fn parse_base(given: &str, form: &'static str) -> Result<Self, &'static str> {
        let target = Self::parse(given, form)?;
        if target.url.query().is_none() { Ok(target) } else { Err(form) }
    }

    /// The URL without a slash at its end.
    pub(super) fn base(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    /// The settings of an HTTP client for it, without any timeout. Any status is a response, and a redirect is not followed:
    /// it would take a request, and the token in it, elsewhere, or turn a POST into a GET.
    pub(super) fn config(&self) -> ConfigBuilder<AgentScope> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false);
        if self.is_local { config.proxy(None) } else { config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--url should look like this";

    #[test]
    fn no_proxy_leads_to_this_machine() {
        for here in [
            "127.0.0.1",
            "127.255.1.2",
            "[::1]",
            "localhost",
            "LocalHost.",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(
                Target::parse(&format!("http://{here}:8000"), FORM).is_ok_and(|target| target.is_local),
                "{here}"
            );
        }
        for elsewhere in ["10.0.0.1", "[fe80::1]", "localhost.example", "api", "128.0.0.1"] {
            assert!(
                Target::parse(&format!("https://{elsewhere}/x"), FORM).is_ok_and(|target| !target.is_local),
                "{elsewhere}"
            );
        }
    }

    #[test]
    fn what_is_no_url_is_told_without_it() {
        for bad in [
            "",
            "hunter2",
            "hunter2:8000",
            "ftp://hunter2",
            "http://",
            "http://hunter2:port/",
            "http:// hunter2",
        ] {
            let why = Target::parse(bad, FORM).map(|target| target.url).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        for good in ["http://a", "http://a:80", "https://user:hunter2@example.org/x?y", "http://[::1]:8000"] {
            assert!(Target::parse(good, FORM).is_ok(), "{good}");
        }
    }
}
