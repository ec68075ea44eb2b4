//! A service that is nothing but its answers: what a follower is sent, byte by byte, and where the connection is cut.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The begin of a stream of events.
pub(crate) const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                                 Transfer-Encoding: chunked\r\n\r\n";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// The way back to who asked. Dropping it closes the connection.
pub(crate) struct Answer(TcpStream);

/// A server, until the end of the tests.
pub(crate) struct Fake {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Answers each request, on a connection of its own, with what `answer` does; it is told how many requests of the same
    /// method and path came before.
    pub(crate) fn start(answer: impl Fn(&Request, usize, &mut Answer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (answer, known) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let (answer, known) = (Arc::clone(&answer), Arc::clone(&known));
                std::thread::spawn(move || {
                    let Some(request) = Request::read(&stream) else { return };
                    let before = {
                        let mut known = known.lock().unwrap();
                        known.push(request.clone());
                        known.iter().filter(|one| one.is_like(&request)).count() - 1
                    };
                    answer(&request, before, &mut Answer(stream));
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The positions that cursors were asked to be moved to, in order.
    pub(crate) fn moves(&self) -> Vec<String> {
        let puts = self.requests().into_iter().filter(|request| request.method == "PUT");
        puts.map(|put| put.position()).collect()
    }
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let mut words = line.split(' ').map(ToOwned::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        lines.read_exact(&mut body).ok()?;
        Some(Self { method, target, headers, body: String::from_utf8(body).unwrap() })
    }

    fn is_like(&self, other: &Self) -> bool {
        self.method == other.method && self.path() == other.path()
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The value of a parameter in the query, as it was sent.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The position in the body of a request that moves a cursor.
    pub(crate) fn position(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["position"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    /// Sends these bytes; who asked may be gone.
    pub(crate) fn bytes(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a whole answer with a JSON body.
    pub(crate) fn json(&mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        self.bytes(format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n{headers}\r\n{body}"
        ));
    }

    /// Begins a stream.
    pub(crate) fn stream(&mut self) {
        self.bytes(STREAM);
    }

    /// Goes on with a stream.
    pub(crate) fn chunk(&mut self, text: &str) -> bool {
        self.bytes(format!("{:x}\r\n{text}\r\n", text.len()))
    }

    /// From now on, what cannot be sent for so long, since nobody reads, is not sent.
    pub(crate) fn give_up_after(&self, time: Duration) {
        self.0.set_write_timeout(Some(time)).unwrap();
    }

    /// Keeps the connection until who asked closes it.
    pub(crate) fn hold(&mut self) {
        while self.0.read(&mut [0]).is_ok_and(|count| count > 0) {}
    }
}

/// The position of the event with this number, counted from 1.
pub(crate) fn position(number: usize) -> String {
    format!("{number:032x}")
}

/// The number of the event after which a request goes on: by its header, else by its query.
pub(crate) fn after(request: &Request) -> usize {
    let position = request.header("last-event-id").or_else(|| request.parameter("after")).unwrap_or("0");
    usize::from_str_radix(position, 16).unwrap()
}

/// The event with this number as JSON.
pub(crate) fn event(number: usize) -> String {
    format!(
        r#"{{"position":"{}","source":"webhook","kind":"message","type":"text","key":"m{number}","from":"+1","to":"+2","user_id":null,"thread":"+1","ref":null,"account":null,"ts":"2025-01-15T10:00:00Z","received_at":"2125-01-15T10:00:00.000Z","text":"text {number}","data":{{"n":1e400}}}}"#,
        position(number)
    )
}

/// The block of the event with this number.
pub(crate) fn block(number: usize) -> String {
    format!("id: {}\nevent: message\ndata: {}\n\n", position(number), event(number))
}

/// The block that says only how far the log has been looked at.
pub(crate) fn place(number: usize) -> String {
    format!("id: {}\n\n", position(number))
}
