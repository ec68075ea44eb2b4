//! Requests whose end can be read in two ways, or that hold another request whole.

/// Stands for a number of four digits, so that lengths do not depend on it.
const NUMBER: &str = "####";
/// The request that is hidden. A proxy answers it itself wherever it sees it; whenever Lyftr sees it, it was
/// smuggled past the proxy.
const HIDDEN: &str = "GET /metrics HTTP/1.1\r\nHost: lyftr.test\r\nX-Request-ID: smuggled-####\r\n\r\n";
/// A body that in chunks has nothing and by a length has what is hidden (known as CL.TE), and the other way
/// about (TE.CL).
const EMPTY_IN_CHUNKS: &str = "0\r\n\r\n{HIDDEN}";
const WHOLE_IN_CHUNKS: &str = "{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n";

/// Says that the body comes in chunks, or nearly.
const ENCODINGS: &[&str] = &[
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunkedx\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked;a=b\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: CHUNKED\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding:chunked\r\n",
    "Transfer-Encoding: \tchunked\r\n",
    "Transfer-Encoding: chunked\t \r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding: chunked\x0c\r\n",
    "Transfer-Encoding: \0chunked\r\n",
    "Transfer-Encoding: \u{a0}chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding: chunked\r\n identity\r\n",
    "Transfer-Encoding: \r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    "\tTransfer-Encoding: chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding\0: chunked\r\n",
    "Transfer-Encoding chunked\r\n",
    "X: y\n Transfer-Encoding: chunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "X: y\r\rTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\ntransfer-encoding: x\r\n",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
];

/// Says that what is hidden is a body, or nearly.
const LENGTHS: &[&str] = &[
    "Content-Length: {LENGTH}\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\nContent-Length: {LENGTH}\r\n",
    "Content-Length: {LENGTH}\r\nContent-Length: 0\r\n",
    "Content-Length: {LENGTH}\r\nContent-Length: {LENGTH}\r\n",
    "Content-Length: {LENGTH}\r\nX: y\r\ncontent-length: 0\r\n",
    "Content-Length: 0, {LENGTH}\r\n",
    "Content-Length: {LENGTH}, 0\r\n",
    "Content-Length: {LENGTH}, {LENGTH}\r\n",
    "Content-Length: {LENGTH},\r\n",
    "Content-Length: +{LENGTH}\r\n",
    "Content-Length: -{LENGTH}\r\n",
    "Content-Length: 0{LENGTH}\r\n",
    "Content-Length: {LENGTH} {LENGTH}\r\n",
    "Content-Length: {LENGTH} 0\r\n",
    "Content-Length: 0 {LENGTH}\r\n",
    "Content-Length: {LENGTH}.0\r\n",
    "Content-Length: {LENGTH};\r\n",
    "Content-Length: {LENGTH}e0\r\n",
    "Content-Length: 0x{SIZE}\r\n",
    "Content-Length: 1844674407370955{LENGTH}\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: 184467440737095516160000\r\n",
    "Content-Length: \r\n",
    "Content-Length:\t{LENGTH}\t\r\n",
    "Content-Length: \x0b{LENGTH}\r\n",
    "Content-Length: {LENGTH}\0\r\n",
    "Content-Length:\r\n {LENGTH}\r\n",
    "Content-Length: 0\r\n {LENGTH}\r\n",
    "Content-Length : {LENGTH}\r\n",
    " Content-Length: {LENGTH}\r\n",
    "Content_Length: {LENGTH}\r\n",
    "Content-Length\0: {LENGTH}\r\n",
    "Content-Length {LENGTH}\r\n",
    "X: y\nContent-Length: {LENGTH}\r\n",
    "X: y\rContent-Length: {LENGTH}\r\n",
    "Connection: Content-Length\r\nContent-Length: {LENGTH}\r\n",
    "Connection: close, Content-Length\r\nContent-Length: {LENGTH}\r\n",
    "Expect: 100-continue\r\nContent-Length: {LENGTH}\r\n",
    "Expect: y 100-continue\r\nContent-Length: {LENGTH}\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {LENGTH}\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "Connection: keep-alive\r\nKeep-Alive: timeout=60\r\nContent-Length: {LENGTH}\r\n",
    // What is hidden stands where a header would, or where a careless reader sees the header's end.
    "X: y\n\n{HIDDEN}",
    "X: y\r\n\n{HIDDEN}",
    "X: y\n\r\n{HIDDEN}",
    "X: y\r\r{HIDDEN}",
    "X: y\r\n \r\n{HIDDEN}",
    "X: y\r\n\tz\r\nContent-Length: {LENGTH}\r\n",
    // Not hidden at all.
    "",
];

/// Bodies in chunks that may be read in two ways.
const CHUNKS: &[&str] = &[
    WHOLE_IN_CHUNKS,
    EMPTY_IN_CHUNKS,
    "{SIZE};a=b\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE};\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE};a=\"\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE} \r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}\t\r\n{HIDDEN}\r\n0\r\n\r\n",
    " {SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "0x{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "+{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "-{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}_\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE} 0\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE},0\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}x\r\n{HIDDEN}\r\n0\r\n\r\n",
    ";{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}\0\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}\r\r\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}\r{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}\n{HIDDEN}\n0\n\n",
    "{SIZE}\n{HIDDEN}\r\n0\r\n\r\n",
    "{SIZE}\r\n{HIDDEN}0\r\n\r\n",
    "{SIZE}\r\n{HIDDEN}\n0\r\n\r\n",
    "{SIZE}\r\n{HIDDEN}xx0\r\n\r\n",
    "00000000000000000000000000000000{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "100000000000000{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "1000000000000000000{SIZE}\r\n{HIDDEN}\r\n0\r\n\r\n",
    "ffffffffffffffff\r\n{HIDDEN}\r\n0\r\n\r\n",
    // One reader ends the extension at the bare LF, the other at the CRLF after it.
    "2;\nxx\r\n{SIZE}\r\n0\r\n\r\n{HIDDEN}\r\n0\r\n\r\n",
    "2;a\nxy\r\n0\r\n\r\n{HIDDEN}",
    "5;a\rb\r\nhello\r\n0\r\n\r\n{HIDDEN}",
    "5\r\nhello{SIZE}\r\n0\r\n\r\n{HIDDEN}",
    "5\r\nhello0\r\n\r\n{HIDDEN}",
    "5\r\nhelloX\r\n0\r\n\r\n{HIDDEN}",
    "5\r\nhello\n0\r\n\r\n{HIDDEN}",
    "3\r\nhello\r\n0\r\n\r\n{HIDDEN}",
    "00\r\n\r\n{HIDDEN}",
    "0 \r\n\r\n{HIDDEN}",
    "0;a=b\r\n\r\n{HIDDEN}",
    "-0\r\n\r\n{HIDDEN}",
    "0x0\r\n\r\n{HIDDEN}",
    "0\n\n{HIDDEN}",
    "0\r\n\n{HIDDEN}",
    "0\n\r\n{HIDDEN}",
    "0\r\r{HIDDEN}",
    "0\r\n{HIDDEN}",
    "0\r\nX: y\r\n\r\n{HIDDEN}",
    "0\r\nX: y\n\n{HIDDEN}",
    "0\r\nX: y\r\n z\r\n\r\n{HIDDEN}",
    "0\r\nContent-Length: {LENGTH}\r\n\r\n{HIDDEN}",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n{HIDDEN}",
    "0\r\nX\0: y\r\n\r\n{HIDDEN}",
    "\r\n{HIDDEN}",
    "x\r\n\r\n{HIDDEN}",
    "{HIDDEN}",
];

/// The requests that the hidden one is hidden in: begin of the header, as far as it is not in doubt.
const OUTER: &[&str] = &[
    // Refused before its body is read, and after it.
    "POST /webhook HTTP/1.1\r\nHost: lyftr.test\r\n",
    "POST /webhook HTTP/1.1\r\nHost: lyftr.test\r\n\
     X-Signature: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n",
    // Answered as if there were no body.
    "GET /messages?limit=1 HTTP/1.1\r\nHost: lyftr.test\r\n",
    "PUT /nowhere HTTP/1.1\r\nHost: lyftr.test\r\n",
    "POST http://lyftr.test/webhook HTTP/1.1\r\nHost: lyftr.test\r\n",
    "GET http://another.test/stats HTTP/1.1\r\nHost: lyftr.test\r\n",
    "HEAD /stats HTTP/1.1\r\nHost: lyftr.test\r\n",
    "POST /webhook HTTP/1.0\r\nHost: lyftr.test\r\nConnection: keep-alive\r\n",
];

/// A request with another in it.
#[derive(Debug)]
pub(super) struct Attack {
    /// Up to the blank line that ends the header for most readers.
    pub(super) header: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Every form of attack, in each of the requests that it can be hidden in. The request ids begin with `attack-`
/// outside and with `smuggled-` inside.
pub(super) fn attacks() -> Vec<Attack> {
    let forms = forms();
    let made = forms.iter().flat_map(|form| OUTER.iter().map(move |outer| (outer, form)));
    made.enumerate().map(|(number, (outer, (lines, body)))| Attack::new(number, outer, lines, body)).collect()
}

/// What says how long the body is, and the body.
fn forms() -> Vec<(String, &'static str)> {
    let mut forms = Vec::new();
    for encoding in ENCODINGS {
        let length = fill(EMPTY_IN_CHUNKS).len();
        forms.push((format!("Content-Length: {length}\r\n{encoding}"), EMPTY_IN_CHUNKS));
        let size_line = fill("{SIZE}\r\n").len();
        forms.push((format!("{encoding}Content-Length: {size_line}\r\n"), WHOLE_IN_CHUNKS));
        forms.push(((*encoding).to_owned(), WHOLE_IN_CHUNKS));
    }
    forms.extend(LENGTHS.iter().map(|length| ((*length).to_owned(), "{HIDDEN}")));
    forms.extend(CHUNKS.iter().map(|chunks| ("Transfer-Encoding: chunked\r\n".to_owned(), *chunks)));
    forms
}

/// Puts in what is hidden, and how long that is.
fn fill(form: &str) -> String {
    form.replace("{HIDDEN}", HIDDEN)
        .replace("{LENGTH}", &HIDDEN.len().to_string())
        .replace("{SIZE}", &format!("{:x}", HIDDEN.len()))
}

impl Attack {
    fn new(number: usize, outer: &str, lines: &str, body: &str) -> Self {
        let number = format!("{number:04}");
        let bytes = |text: String| fill(&text).replace(NUMBER, &number).into_bytes();
        Self {
            header: bytes(format!("{outer}X-Request-ID: attack-{NUMBER}\r\n{lines}\r\n")),
            body: bytes(body.to_owned()),
        }
    }

    /// Whether the hidden request simply comes after the other: who sees one, sees both.
    pub(super) fn is_plain(&self) -> bool {
        let begins = |text: &[u8], with: &str| text.starts_with(with.as_bytes());
        let says = |word: &str| String::from_utf8_lossy(&self.header).contains(word);
        begins(&self.body, "GET /metrics ") && !says("Length") && !says("Encoding")
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let whole = [self.header.as_slice(), &self.body].concat();
        format!("{:?}", String::from_utf8_lossy(&whole))
    }
}
