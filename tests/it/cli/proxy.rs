//! The commands that ask a service, where the environment names a proxy, as Docker's does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{lyftr, text};
use crate::support::SECRET;
use crate::support::process::Process;
use crate::torture::lasting_port;

const NAMES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Answers whatever it is asked with the same words, and remembers the first line of each request.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let server = Self { address, asked: Arc::clone(&asked) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || drop(answer_all(&stream.unwrap(), answer, &asked)));
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer_all(mut stream: &TcpStream, answer: &str, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut first = String::new();
    while lines.read_line(&mut first)? > 0 {
        let mut line = String::new();
        while line.trim_end() != "" || line.is_empty() {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                break;
            }
        }
        // What comes between two requests is a body.
        if !first.trim_end().ends_with(" HTTP/1.1") {
            break;
        }
        let begin = match first.split(' ').nth(1) {
            _ if first.starts_with("CONNECT ") => "HTTP/1.1 200 OK\r\n\r\n",
            Some("/login") => "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nlogin?",
            _ => answer,
        };
        asked.lock().unwrap().push(first.trim_end().to_owned());
        stream.write_all(begin.as_bytes())?;
        first.clear();
    }
    Ok(())
}

/// A proxy that says to everything that all is well.
fn liar() -> Server {
    Server::start("HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"status\":\"ready\"}")
}

#[test]
fn a_health_check_asks_the_service_itself_whatever_proxy_the_environment_names() {
    let mut process = Process::start();
    let proxy = liar();
    let url = format!("http://{}", proxy.address);
    let port = process.address().port().to_string();
    let check = |name: &str, host: &str| {
        let environment = [("HOST", host), ("PORT", port.as_str()), (name, url.as_str())];
        let output = lyftr(&["healthcheck"], &environment, b"");
        (output.status.code().unwrap(), text(&output.stdout).trim().to_owned())
    };
    for name in NAMES {
        for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
            assert_eq!(check(name, host), (0, r#"{"status":"ready"}"#.to_owned()), "{name} {host}");
        }
    }
    process.terminate();
    for name in NAMES {
        assert_eq!(check(name, "127.0.0.1"), (1, String::new()), "{name}: dead, and said to be well");
    }
    assert_eq!(proxy.asked(), [""; 0]);
}

#[test]
fn a_message_to_this_machine_is_sent_past_any_proxy_and_another_through_it() {
    let process = Process::start();
    let proxy = liar();
    let proxy_url = format!("http://{}", proxy.address);
    let port = process.address().port();
    let send = |url: &str, environment: &[(&str, &str)]| {
        let environment = [&[("WEBHOOK_SECRET", SECRET), ("HTTP_PROXY", &proxy_url)], environment].concat();
        let output = lyftr(&["send", "--url", url, "--retries", "0"], &environment, b"");
        (output.status.code().unwrap(), text(&output.stdout).trim().to_owned())
    };
    for (n, host) in (1..).zip(["127.0.0.1", "localhost", "127.1.2.3"]) {
        let answer = send(&format!("http://{host}:{port}"), &[]);
        // The last one is nobody's address, and no proxy is asked for it either.
        if host == "127.1.2.3" {
            assert_eq!(answer.0, 1);
            continue;
        }
        assert_eq!(answer, (0, r#"200 {"status":"ok"}"#.to_owned()), "{host}");
        assert_eq!(process.client().json("/messages")["total"], n, "{host}");
    }
    assert_eq!(proxy.asked(), [""; 0]);

    assert_eq!(send("http://lyftr.invalid", &[]).0, 0, "the proxy says so");
    assert_eq!(proxy.asked().first().map(String::as_str), Some("CONNECT lyftr.invalid:80 HTTP/1.1"));
    let before = proxy.asked().len();
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(send("http://lyftr.invalid", &[(name, "other,lyftr.invalid")]).0, 1, "{name}");
    }
    assert_eq!(proxy.asked().len(), before);
}

#[test]
fn an_answer_that_points_elsewhere_is_neither_stored_nor_well() {
    let elsewhere = Server::start("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 5\r\n\r\nlogin");
    let url = format!("http://{}", elsewhere.address);
    let output = lyftr(&["send", "--url", &url], &[("WEBHOOK_SECRET", SECRET)], b"");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), "302 login\n"), "{output:?}");
    let port = elsewhere.address.port().to_string();
    let output = lyftr(&["healthcheck", "--port", &port], &[], b"");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), "login\n"), "{output:?}");
    assert_eq!(elsewhere.asked(), ["POST /webhook HTTP/1.1", "GET /health/ready HTTP/1.1"]);
}

#[test]
fn a_health_check_says_where_nobody_answers() {
    let port = lasting_port().to_string();
    let output = lyftr(&["healthcheck"], &[("HOST", "::"), ("PORT", &port)], b"");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("does not answer on [::1]:{port}, 127.0.0.1:{port}")), "{said}");
}
