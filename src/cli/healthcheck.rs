//! `lyftr healthcheck`: what a container's HEALTHCHECK runs, so that the image needs no shell and no curl.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, print};

/// Longest time that the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What can be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Address that the service listens on
    #[arg(long, env = "HOST", value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Port that the service listens on
    #[arg(long, env = "PORT", value_name = "NUMBER", default_value_t = 8000)]
    port: u16,
    /// Ask only whether the process runs, not whether it can store
    #[arg(long)]
    live: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let probe = if options.live { "live" } else { "ready" };
    let url = format!("http://{}:{}/health/{probe}", reachable(&options.host), options.port);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let mut response = agent.get(&url).call().map_err(|error| format!("{url} does not answer: {error}"))?;
    print(&response.body_mut().read_to_string()?);
    Ok(if response.status() == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An address that means "all" is reached through the loopback; IPv6 stands in brackets.
fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_through_the_loopback() {
        for (host, url) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("::1", "[::1]"),
            ("10.0.0.1", "10.0.0.1"),
            ("api", "api"),
        ] {
            assert_eq!(reachable(host), url);
        }
    }
}
