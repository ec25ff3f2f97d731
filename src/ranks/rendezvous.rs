//! How ranks find one another over TCP: all report to rank 0, which tells each where the one below it
//! listens. Who does not know the job's secret is turned away, and does no harm.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::tcp::Tcp;
use super::{Identity, RankError};

/// How long ranks wait for those that start later.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(5);

/// Time between two tries to reach rank 0.
const AGAIN: Duration = Duration::from_millis(100);

/// Time between two looks for a guest.
const ACCEPT: Duration = Duration::from_millis(5);

/// Far more than any greeting has, and than the table of ten thousand ranks.
const MOST_BYTES: u32 = 4 << 20;

/// What a rank says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hello {
    token: String,
    xp: String,
    rank: usize,
    count: usize,
    host: String,
    /// Where the next rank reaches it.
    port: u16,
}

/// What rank 0 answers at once.
#[derive(Debug, Serialize, Deserialize)]
struct Welcome {
    token: String,
    /// Why the job does not begin.
    refusal: Option<RankError>,
}

/// Where the ranks are, once all have come.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Table {
    places: Vec<Place>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    host: String,
    /// `None` for the machine of rank 0.
    address: Option<IpAddr>,
    port: u16,
}

/// Links to both neighbours, and the machine of each rank.
pub(super) fn join(
    identity: &Identity,
    silence: Duration,
) -> Result<(Tcp, Vec<String>), RankError> {
    let until = Instant::now() + PATIENCE;
    let (below, above, hosts) = match identity.rank {
        0 => first(identity, until)?,
        _ => later(identity, until)?,
    };
    let links = Tcp::new(below, above, silence);
    Ok((links.map_err(|error| broken("use", &error))?, hosts))
}

type Links = (Option<TcpStream>, Option<TcpStream>, Vec<String>);

fn first(identity: &Identity, until: Instant) -> Result<Links, RankError> {
    let guests = listen(identity)?;
    let mut come: BTreeMap<usize, (Hello, TcpStream)> = BTreeMap::new();
    while come.len() + 1 < identity.count {
        let Some((hello, mut stream)) = guests.next(AGAIN) else {
            // One that has come may have ended again.
            if let Some((rank, (hello, _))) = come.iter().find(|(_, (_, it))| is_closed(it)) {
                let lost = RankError::Lost {
                    rank: *rank,
                    host: hello.host.clone(),
                    how: "is gone".into(),
                };
                refuse(come);
                return Err(lost);
            }
            if Instant::now() < until {
                continue;
            }
            let missing: Vec<String> = (1..identity.count)
                .filter(|rank| !come.contains_key(rank))
                .map(|rank| rank.to_string())
                .collect();
            let refusal = RankError::apart(
                format!(
                    "of {} ranks, {} did not report within {} s",
                    identity.count,
                    missing.join(", "),
                    PATIENCE.as_secs()
                ),
                format!(
                    "see whether they have started, and reach port {} of `{}`",
                    identity.ports[0], identity.address
                ),
            );
            refuse(come);
            return Err(refusal);
        };
        let refusal = misfit(identity, &hello, come.contains_key(&hello.rank));
        let welcome = Welcome {
            token: token(identity, "welcome"),
            refusal: refusal.clone(),
        };
        // One that has gone by now is missed below.
        let _ = say(&mut stream, &welcome);
        if let Some(refusal) = refusal {
            refuse(come);
            return Err(refusal);
        }
        come.insert(hello.rank, (hello, stream));
    }
    let own = Place {
        host: host(),
        address: None,
        port: 0,
    };
    let others = come.values().map(|(hello, stream)| Place {
        host: hello.host.clone(),
        address: stream
            .peer_addr()
            .ok()
            .map(|it| it.ip().to_canonical())
            .filter(|it| !it.is_loopback()),
        port: hello.port,
    });
    let places: Vec<Place> = std::iter::once(own).chain(others).collect();
    let hosts = places.iter().map(|place| place.host.clone()).collect();
    let table = Table { places };
    let mut above = None;
    for (rank, (hello, mut stream)) in come {
        say(&mut stream, &Some(&table)).map_err(|_| RankError::Lost {
            rank,
            host: hello.host,
            how: "is gone".into(),
        })?;
        if rank == 1 {
            above = Some(stream);
        }
    }
    Ok((None, above, hosts))
}

fn later(identity: &Identity, until: Instant) -> Result<Links, RankError> {
    let last = identity.rank + 1 == identity.count;
    let listener =
        TcpListener::bind(("0.0.0.0", 0)).map_err(|error| broken("listen on", &error))?;
    let port = listener
        .local_addr()
        .map_err(|error| broken("listen on", &error))?
        .port();
    let guests = (!last).then(|| guests(listener, identity)).transpose()?;
    let mut to_first = reach_first(identity, port, until)?;
    let wait = until
        .saturating_duration_since(Instant::now())
        .max(GREETING);
    let table: Option<Table> = to_first
        .set_read_timeout(Some(wait))
        .and_then(|()| hear(&mut to_first))
        .map_err(|error| RankError::Lost {
            rank: 0,
            host: identity.address.clone(),
            how: format!("has not said where the others are: {error}"),
        })?;
    let Some(Table { places }) = table else {
        let message = "rank 0 has given up: its message says why";
        return Err(RankError::apart(message, "look at the output of rank 0"));
    };
    let below = match identity.rank {
        1 => to_first,
        rank => {
            let place = &places[rank - 1];
            let addresses = match place.address {
                Some(address) => vec![SocketAddr::new(address, place.port)],
                None => resolve(&identity.address, place.port)?,
            };
            let hello = hello(identity, 0);
            connect(identity, &addresses, &hello).map_err(|error| match error {
                Unreached::Refused(refusal) => refusal,
                Unreached::Trouble(error) => RankError::Lost {
                    rank: rank - 1,
                    host: place.host.clone(),
                    how: format!("cannot be reached at port {}: {error}", place.port),
                },
            })?
        }
    };
    let above = match guests {
        None => None,
        Some(guests) => loop {
            let Some((hello, mut stream)) = guests.next(2 * GREETING) else {
                return Err(RankError::Lost {
                    rank: identity.rank + 1,
                    host: places[identity.rank + 1].host.clone(),
                    how: "has not come".into(),
                });
            };
            if hello.rank == identity.rank + 1 {
                let welcome = Welcome {
                    token: token(identity, "welcome"),
                    refusal: None,
                };
                say(&mut stream, &welcome).map_err(|error| broken("greet on", &error))?;
                break Some(stream);
            }
        },
    };
    let hosts = places.into_iter().map(|place| place.host).collect();
    Ok((Some(below), above, hosts))
}

/// Tells those who have come that nothing will come of it.
fn refuse(come: BTreeMap<usize, (Hello, TcpStream)>) {
    for (_, mut stream) in come.into_values() {
        let _ = say(&mut stream, &None::<Table>);
    }
}

/// Why a rank cannot be one of this job.
fn misfit(identity: &Identity, hello: &Hello, is_there: bool) -> Option<RankError> {
    let Hello {
        rank, host, count, ..
    } = hello;
    let own = env!("CARGO_PKG_VERSION");
    let found = if hello.xp != own {
        RankError::apart(
            format!(
                "rank {rank} on `{host}` is xp {}, rank 0 is xp {own}",
                hello.xp
            ),
            "start the same program everywhere",
        )
    } else if *count != identity.count {
        RankError::apart(
            format!(
                "rank {rank} on `{host}` says that there are {count} ranks, rank 0 that there are {}",
                identity.count
            ),
            "start all ranks with the same count",
        )
    } else if is_there || *rank == 0 || *rank >= *count {
        RankError::apart(
            format!("two processes say that they are rank {rank}; one is on `{host}`"),
            "give each its own number, or another `MASTER_PORT` if they are of another job",
        )
    } else {
        return None;
    };
    Some(found)
}

fn guests(listener: TcpListener, identity: &Identity) -> Result<Guests, RankError> {
    Guests::at(listener, identity).map_err(|error| broken("listen on", &error))
}

fn broken(what: &str, error: &io::Error) -> RankError {
    let message = format!("cannot {what} a port of this machine: {error}");
    RankError::apart(
        message,
        "see whether something keeps processes from the network here",
    )
}

/// Listens on the first of the job's ports that is free.
fn listen(identity: &Identity) -> Result<Guests, RankError> {
    // By its text: many machines have their own name point to themselves.
    let address = identity.address.as_str();
    let here = address == "localhost" || address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    let any: [&str; 2] = if here {
        ["127.0.0.1", "::1"]
    } else {
        ["::", "0.0.0.0"]
    };
    let mut trouble = None;
    for &port in &identity.ports {
        for address in any {
            match TcpListener::bind((address, port)) {
                Ok(listener) => return guests(listener, identity),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
    }
    let trouble = trouble.map_or_else(String::new, |error| format!(": {error}"));
    let (first, last) = (identity.ports[0], identity.ports[identity.ports.len() - 1]);
    let ports = match first == last {
        true => format!("port {first}"),
        false => format!("any port from {first} to {last}"),
    };
    Err(RankError::apart(
        format!("rank 0 cannot listen on {ports}{trouble}"),
        "set `MASTER_PORT` to a free port, the same for all ranks",
    ))
}

/// Who has come to a port. Closes it when dropped.
struct Guests {
    come: Receiver<(Hello, TcpStream)>,
    closed: Arc<AtomicBool>,
}

impl Guests {
    /// Accepts whoever comes, each on a thread of its own: a stranger who says nothing keeps nobody
    /// waiting.
    fn at(listener: TcpListener, identity: &Identity) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (sender, come) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let (is_closed, expected) = (Arc::clone(&closed), token(identity, "hello"));
        std::thread::Builder::new().spawn(move || {
            while !is_closed.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (sender, expected) = (sender.clone(), expected.clone());
                        std::thread::spawn(move || meet(stream, &expected, &sender));
                    }
                    Err(_) => std::thread::sleep(ACCEPT),
                }
            }
        })?;
        Ok(Self { come, closed })
    }

    /// The next who knows the secret; `None` if nobody comes within that time.
    fn next(&self, wait: Duration) -> Option<(Hello, TcpStream)> {
        self.come.recv_timeout(wait).ok()
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

fn meet(mut stream: TcpStream, expected: &str, sender: &Sender<(Hello, TcpStream)>) {
    let ready = stream.set_nonblocking(false);
    if ready
        .and_then(|()| stream.set_read_timeout(Some(GREETING)))
        .is_err()
    {
        return;
    }
    if let Ok(hello) = hear::<Hello>(&mut stream)
        && hello.token == expected
    {
        let _ = sender.send((hello, stream));
    }
}

/// Whether the other end has been closed.
fn is_closed(stream: &TcpStream) -> bool {
    let look = || {
        stream.set_nonblocking(true)?;
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        seen
    };
    match look() {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// A link to rank 0, which may not have started yet.
fn reach_first(identity: &Identity, port: u16, until: Instant) -> Result<TcpStream, RankError> {
    let hello = hello(identity, port);
    let mut trouble = String::new();
    loop {
        for &port in &identity.ports {
            let addresses = match resolve(&identity.address, port) {
                Ok(addresses) => addresses,
                // A name may be known later.
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => continue,
            };
            match connect(identity, &addresses, &hello) {
                Ok(stream) => return Ok(stream),
                Err(Unreached::Refused(refusal)) => return Err(refusal),
                Err(Unreached::Trouble(error)) => trouble = error,
            }
        }
        if Instant::now() > until {
            return Err(RankError::Lost {
                rank: 0,
                host: identity.address.clone(),
                how: format!("cannot be reached: {trouble}"),
            });
        }
        std::thread::sleep(AGAIN);
    }
}

/// Why a rank is not reached.
enum Unreached {
    /// It says that the job does not begin.
    Refused(RankError),
    Trouble(String),
}

/// Connects and is welcomed.
fn connect(
    identity: &Identity,
    addresses: &[SocketAddr],
    hello: &Hello,
) -> Result<TcpStream, Unreached> {
    let mut trouble = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let reached = TcpStream::connect_timeout(address, GREETING).and_then(|mut stream| {
            stream.set_read_timeout(Some(GREETING))?;
            say(&mut stream, hello)?;
            let welcome: Welcome = hear(&mut stream)?;
            Ok((stream, welcome))
        });
        match reached {
            Ok((stream, welcome)) if welcome.token == token(identity, "welcome") => {
                return match welcome.refusal {
                    None => Ok(stream),
                    Some(refusal) => Err(Unreached::Refused(refusal)),
                };
            }
            Ok(_) => trouble = io::Error::other("somebody else listens there"),
            Err(error) => trouble = error,
        }
    }
    Err(Unreached::Trouble(trouble.to_string()))
}

fn resolve(address: &str, port: u16) -> Result<Vec<SocketAddr>, RankError> {
    match (address, port).to_socket_addrs() {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(RankError::apart(
            format!("`{address}`, the machine of rank 0, is not known here: {error}"),
            "set `MASTER_ADDR` to a name or address that all machines know",
        )),
    }
}

fn hello(identity: &Identity, port: u16) -> Hello {
    Hello {
        token: token(identity, "hello"),
        xp: env!("CARGO_PKG_VERSION").into(),
        rank: identity.rank,
        count: identity.count,
        host: host(),
        port,
    }
}

/// Proof of knowing the secret, another one for each use.
fn token(identity: &Identity, purpose: &str) -> String {
    let token = blake3::keyed_hash(&identity.secret, purpose.as_bytes());
    token.to_hex().to_string()
}

/// Name of this machine.
pub(super) fn host() -> String {
    let file = |path: &str| std::fs::read_to_string(path).ok();
    let found = file("/proc/sys/kernel/hostname").or_else(|| file("/etc/hostname"));
    let found = found.or_else(|| std::env::var("HOSTNAME").ok());
    let found = found.map(|name| name.trim().to_owned());
    found
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

fn say<T: Serialize>(stream: &mut TcpStream, what: &T) -> io::Result<()> {
    let text = serde_json::to_vec(what)?;
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text);
    stream.write_all(&bytes)
}

fn hear<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MOST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
