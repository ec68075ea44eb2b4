//! Where the service listens: every address of its `HOST`. Names that lead to several, and machines without IPv6, are made
//! in namespaces of their own, which on Linux root can.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::skip;

/// Starts a service in a network of its own, in which `$hosts` are all names, `$ipv6` says whether there is IPv6 and
/// `$HOST` and `$PORT` are the settings. Then it prints the log, and what became of a health check and of a message to
/// each address, for which `$PORT` is that of the log.
const SCRIPT: &str = r#"
ip link set lo up
if [ "$ipv6" = no ]; then echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; fi
printf "$hosts" >hosts
mount --bind hosts /etc/hosts
if [ -n "$taken" ]; then
  env HOST="$taken" DATABASE_URL=sqlite:///taken.db "$lyftr" >taken &
  first=$!
  until grep -q listening taken; do kill -0 $first || exit; sleep 0.01; done
fi
"$lyftr" >log &
service=$!
until grep -q listening log; do
  kill -0 $service 2>/dev/null || break
  sleep 0.01
done
PORT=$(sed -n 's/.*"address":"[^"]*:\([0-9]*\)".*/\1/p' log | head -n 1)
if [ -n "$PORT" ]; then
  export PORT
  echo healthcheck $("$lyftr" healthcheck 2>&1)
  for address in 127.0.0.1 '[::1]'; do
    echo "$address" $("$lyftr" send --retries 0 --url "http://$address:$PORT" 2>/dev/null || echo refused)
  done
fi
kill $service $first 2>/dev/null
wait $service
echo "exit $?"
cat log
"#;

/// What the script says, and the lines of the log. `None`, said loudly, where there are no namespaces.
struct Listened {
    told: Vec<String>,
    log: Vec<Value>,
}

#[track_caller]
fn listen(host: &str, settings: &[(&str, &str)]) -> Option<Listened> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", SCRIPT])
        .envs([("HOST", host), ("PORT", "0"), ("WEBHOOK_SECRET", crate::support::SECRET)])
        .envs([("lyftr", env!("CARGO_BIN_EXE_lyftr")), ("DATABASE_URL", "sqlite:///app.db"), ("taken", "")])
        .envs(settings.iter().copied())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let text = match output {
        Ok(output) if !output.stderr.starts_with(b"unshare:") => String::from_utf8(output.stdout).unwrap(),
        other => {
            skip(&format!("there are no namespaces, which on Linux root has: {other:?}"));
            return None;
        }
    };
    let (log, told): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('{'));
    let log = log.into_iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    Some(Listened { told: told.into_iter().map(ToOwned::to_owned).collect(), log })
}

impl Listened {
    /// The addresses of the log's lines "listening", with `PORT` for the port of the first.
    fn addresses(&self) -> Vec<String> {
        let lines = self.log.iter().filter(|line| line["message"] == "listening");
        let addresses: Vec<&str> = lines.map(|line| line["address"].as_str().unwrap()).collect();
        let port = addresses.first().and_then(|first| first.rsplit_once(':')).unwrap_or_default().1;
        addresses.iter().map(|address| address.replace(&format!(":{port}"), ":PORT")).collect()
    }

    /// Why it does not run.
    fn error(&self) -> &str {
        self.log.iter().find_map(|line| line["error"].as_str()).unwrap()
    }
}

/// As most machines have it.
const BOTH: &str = "::1 localhost\n127.0.0.1 localhost\n";
const STORED: &str = r#"200 {"status":"ok"}"#;
const READY: &str = r#"healthcheck {"status":"ready"}"#;

#[test]
fn every_address_of_a_name_is_listened_on_at_one_port() {
    for hosts in [BOTH, "127.0.0.1 localhost\n::1 localhost\n"] {
        let Some(listened) = listen("localhost", &[("hosts", hosts)]) else { return };
        let mut addresses = listened.addresses();
        addresses.sort_unstable();
        assert_eq!(addresses, ["127.0.0.1:PORT", "[::1]:PORT"], "{hosts:?}");
        let told =
            [READY.to_owned(), format!("127.0.0.1 {STORED}"), format!("[::1] {STORED}"), "exit 0".into()];
        assert_eq!(listened.told, told, "{hosts:?}");
        assert!(listened.log.iter().all(|line| line["level"] != "WARN"), "{:?}", listened.log);
    }
}

#[test]
fn without_ipv6_the_other_addresses_are_listened_on_and_that_is_said() {
    let Some(listened) = listen("localhost", &[("hosts", BOTH), ("ipv6", "no")]) else { return };
    assert_eq!(listened.addresses(), ["127.0.0.1:PORT"]);
    assert_eq!(
        listened.told,
        [READY.to_owned(), format!("127.0.0.1 {STORED}"), "[::1] refused".into(), "exit 0".into()]
    );
    let left_out = "an address of HOST is left out: this machine has no IPv6";
    let warning = listened.log.iter().find(|line| line["message"] == left_out);
    assert!(warning.unwrap()["left_out"].as_str().unwrap().starts_with("[::1]:"), "{warning:?}");

    let Some(listened) = listen("::1", &[("hosts", BOTH), ("ipv6", "no")]) else { return };
    assert_eq!(listened.told, ["exit 1"], "there is no other one");
    assert!(listened.error().starts_with("cannot listen on [::1]:0: "), "{}", listened.error());
}

#[test]
fn all_addresses_of_ipv6_are_those_of_ipv4_too_and_a_health_check_finds_one() {
    for (ipv6, sixth) in [("yes", STORED), ("no", "refused")] {
        let Some(listened) = listen("::", &[("hosts", BOTH), ("ipv6", ipv6)]) else { return };
        assert_eq!(listened.addresses(), ["[::]:PORT"]);
        let told =
            [READY.to_owned(), format!("127.0.0.1 {STORED}"), format!("[::1] {sixth}"), "exit 0".into()];
        assert_eq!(listened.told, told, "{ipv6}");
        let open = listened.log.iter().filter_map(|line| line["message"].as_str());
        assert!(open.into_iter().any(|message| message.starts_with("messages can be read by everybody")));
    }
}

#[test]
fn a_name_that_leads_to_an_address_of_another_machine_is_refused() {
    let hosts = "127.0.0.1 localhost here\n10.9.8.7 here\n";
    let Some(listened) = listen("here", &[("hosts", hosts)]) else { return };
    assert_eq!(listened.told, ["exit 1"]);
    assert_eq!(listened.addresses(), [""; 0]);
    let why = listened.error();
    assert!(why.starts_with("cannot listen on 10.9.8.7:") && why.contains("that this machine has"), "{why}");

    let Some(listened) = listen("nowhere.invalid", &[("hosts", hosts)]) else { return };
    let why = listened.error();
    assert!(why.starts_with("HOST is no address, and cannot be found as a name"), "{why}");
}

#[test]
fn an_address_that_is_taken_is_not_left_out() {
    let settings = [("hosts", BOTH), ("taken", "127.0.0.1"), ("PORT", "8000")];
    let Some(listened) = listen("localhost", &settings) else { return };
    assert_eq!(listened.told, ["exit 1"]);
    assert!(listened.error().starts_with("cannot listen on 127.0.0.1:8000: "), "{}", listened.error());
}
