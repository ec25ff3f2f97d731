//! An HTTP server on the loopback interface, for tests: it gives out a file as well or as badly as
//! it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// `GET`, `POST`...
    pub(crate) method: String,
    /// What it sent.
    pub(crate) body: Vec<u8>,
    /// With the query.
    pub(crate) path: String,
    /// First and last byte, where it asked for some only.
    pub(crate) range: Option<(usize, Option<usize>)>,
    /// The validator that a range depends on.
    pub(crate) if_range: Option<String>,
}

/// What it gets.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Further headers, each a line.
    pub(crate) headers: Vec<String>,
    /// Length that is claimed; by default the body's.
    pub(crate) claimed: Option<usize>,
    /// Bytes of the body after which the connection ends.
    pub(crate) cut: usize,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            body: Vec::new(),
            headers: Vec::new(),
            claimed: None,
            cut: usize::MAX,
        }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        let mut reply = Self::status(302);
        reply.headers.push(format!("Location: {to}"));
        reply
    }

    pub(crate) fn whole(body: &[u8]) -> Self {
        Self {
            body: body.to_vec(),
            ..Self::status(200)
        }
    }

    /// The file as a good server gives it: the part that was asked for, if the file is still that.
    pub(crate) fn file(content: &[u8], etag: &str, asked: &Asked) -> Self {
        let tag = format!("\"{etag}\"");
        let same = asked.if_range.as_ref().is_none_or(|it| *it == tag);
        let mut reply = match asked.range.filter(|_| same) {
            None => Self::whole(content),
            Some((from, _)) if from >= content.len() => Self::status(416),
            Some((from, to)) => {
                let last = to.unwrap_or(usize::MAX).min(content.len() - 1);
                let mut reply = Self::whole(&content[from..=last]);
                reply.status = 206;
                let range = format!("Content-Range: bytes {from}-{last}/{}", content.len());
                reply.headers.push(range);
                reply
            }
        };
        reply.headers.push(format!("ETag: {tag}"));
        reply.headers.push("X-Repo-Commit: c0ffee".into());
        reply
    }

    /// The same, breaking off after so many bytes.
    pub(crate) fn cut(self, cut: usize) -> Self {
        Self { cut, ..self }
    }
}

/// The server; it ends with the test's process.
#[derive(Debug)]
pub(crate) struct Loopback {
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Loopback {
    /// Answers each request with what `answer` makes of it and of how many came before.
    pub(crate) fn serve(answer: impl Fn(&Asked, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                // A client that goes away is its own affair.
                let _ = serve_one(&stream, &asked, &answer);
            }
        });
        Self { endpoint, log }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

fn serve_one(
    mut stream: &TcpStream,
    log: &Mutex<Vec<Asked>>,
    answer: &impl Fn(&Asked, usize) -> Reply,
) -> std::io::Result<()> {
    let mut asked = Asked::default();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    for (at, line) in reader.by_ref().lines().enumerate() {
        let line = line?;
        if at == 0 {
            let mut words = line.split(' ').map(str::to_owned);
            asked.method = words.next().unwrap_or_default();
            asked.path = words.next().unwrap_or_default();
        }
        let Some((name, value)) = line.split_once(": ") else {
            if line.is_empty() {
                break;
            }
            continue;
        };
        match name.to_lowercase().as_str() {
            "range" => {
                let range = value.trim_start_matches("bytes=").split_once('-');
                asked.range = range.map(|(from, to)| (from.parse().unwrap_or(0), to.parse().ok()));
            }
            "if-range" => asked.if_range = Some(value.into()),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body)?;
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let reply = answer(&asked, before);
    let length = reply.claimed.unwrap_or(reply.body.len());
    write!(
        stream,
        "HTTP/1.1 {} Told\r\nContent-Length: {length}\r\nConnection: close\r\n",
        reply.status
    )?;
    for header in &reply.headers {
        write!(stream, "{header}\r\n")?;
    }
    write!(stream, "\r\n")?;
    stream.write_all(&reply.body[..reply.cut.min(reply.body.len())])
}
