//! `lyftr healthcheck`: the command for a container's HEALTHCHECK, so that the image needs no shell and no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::{Failure, print};

/// Maximum time for the whole check.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Maximum number of addresses, which is the maximum of ureq.
const ADDRESSES_MAX: usize = 16;

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Address or host name that the service listens on
    #[arg(long, env = "HOST", value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Port that the service listens on
    #[arg(long, env = "PORT", value_name = "NUMBER", default_value_t = 8000)]
    port: u16,
    /// Check only that the process runs, not that it can store
    #[arg(long)]
    live: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let found = (options.host.as_str(), options.port).to_socket_addrs();
    let found =
        found.map_err(|error| format!("HOST is no address, and cannot be found as a name ({error})"))?;
    let addresses = reachable(found);
    let tried = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // The request goes to the service itself, past any proxy of the environment, and follows no redirect.
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(TIMEOUT))
        .build();
    let agent = ureq::Agent::with_parts(config, DefaultConnector::new(), Addresses(addresses));
    let url =
        format!("http://localhost:{}/health/{}", options.port, if options.live { "live" } else { "ready" });
    let mut response =
        agent.get(&url).call().map_err(|error| format!("the service does not answer on {tried}: {error}"))?;
    print(&response.body_mut().read_to_string()?);
    Ok(if response.status() == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a service that listens on these addresses can be reached. One that means "all" is reached through the
/// loopback: that of IPv4 as well where it is IPv6's, which may be switched off.
fn reachable(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let mut reachable = Vec::new();
    for address in addresses {
        let through = match address.ip() {
            all if !all.is_unspecified() => vec![address],
            IpAddr::V4(_) => vec![SocketAddr::new(v4, address.port())],
            IpAddr::V6(_) => [v6, v4].map(|ip| SocketAddr::new(ip, address.port())).to_vec(),
        };
        reachable.extend(through);
    }
    reachable.dedup();
    reachable.truncate(ADDRESSES_MAX);
    reachable
}

/// Resolves every name to these addresses.
#[derive(Debug)]
struct Addresses(Vec<SocketAddr>);

impl Resolver for Addresses {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut resolved = self.empty();
        self.0.iter().for_each(|address| resolved.push(*address));
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_through_the_loopback() {
        for (listens_on, reached) in [
            (vec!["0.0.0.0:1"], vec!["127.0.0.1:1"]),
            (vec!["[::]:1"], vec!["[::1]:1", "127.0.0.1:1"]),
            (vec!["[::1]:1"], vec!["[::1]:1"]),
            (vec!["10.0.0.1:1"], vec!["10.0.0.1:1"]),
            (vec!["[::1]:1", "127.0.0.1:1"], vec!["[::1]:1", "127.0.0.1:1"]),
            (vec!["[fe80::1%2]:1"], vec!["[fe80::1%2]:1"]),
        ] {
            let addresses = listens_on.iter().map(|address| address.parse().unwrap());
            assert_eq!(reachable(addresses).iter().map(ToString::to_string).collect::<Vec<_>>(), reached);
        }
        let many = (1..=20).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(reachable(many).len(), ADDRESSES_MAX);
    }
}
